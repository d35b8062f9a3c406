"""An HTTP/1.1 response on the wire (RFC 9112): head, framing, refusals. Knows no sockets."""

import re
from collections.abc import Iterable
from http import HTTPStatus

import attrs

# Names are tokens, values have no control bytes but the tab: nothing an application says can add a line.
_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@attrs.define(eq=False)
class Head:
    """
    A response's head as the application gave it, checked; the framing is ours.
    """

    status: int
    # Lines of the headers, each with its end.
    fields: bytes
    # Content-Length; None if the application gave none.
    length: int | None
    has_date: bool
    closes: bool

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[bytes, bytes]]) -> "Head":
        """
        Check what the application gave.

        Raises:
            ValueError: it cannot be sent.
        """
        if not 200 <= status <= 599:
            raise ValueError(f"a response's status is 200 to 599, not {status}")
        lines: list[bytes] = []
        length, has_date, closes = None, False, False
        for name, value in headers:
            known = name.lower()
            if known == b"content-length":
                if length is not None or not _DIGITS.fullmatch(value):
                    raise ValueError(f"a content-length is one number, not {value!r}")
                length = int(value)
                if status == 204:
                    continue  # must not be there (RFC 9110, section 8.6)
            elif known == b"connection":
                closes = b"close" in value.lower()
                continue
            elif known == b"transfer-encoding":
                continue
            elif known == b"date":
                has_date = True
            lines.append(b"%b: %b\r\n" % (name, value))
        fields = b"".join(lines)
        if not _FIELDS.fullmatch(fields) or fields.count(b"\n") != len(lines):
            raise ValueError("a header's name or value has bytes that must not be there")
        return cls(status, fields, length, has_date, closes)

    def lines(self, framing: bytes, date: bytes) -> bytes:
        """
        The head on the wire.
        """
        return b"".join(
            (status_line(self.status), self.fields, b"" if self.has_date else date, framing, b"\r\n")
        )


def status_line(status: int) -> bytes:
    return _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status


def refusal(status: int, date: bytes, more: bytes = b"") -> bytes:
    """
    The answer to what cannot be served. It is the connection's last.
    """
    return b"%b%b%bcontent-length: 0\r\nconnection: close\r\n\r\n" % (status_line(status), date, more)
