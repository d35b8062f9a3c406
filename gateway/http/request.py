"""HTTP/1.1 requests: what is refused (RFC 9112), what the application sees of the rest. Knows no sockets."""

import re
from typing import Any
from urllib.parse import unquote

import attrs
from hypercorn.typing import ConnectionState

METHODS = frozenset({b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"})

# Without "#", which belongs to the client alone, and without what is not visible.
_PATH = re.compile(rb"/[!\"$-~]*")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(/[!\"$-~]*)?", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:%\[\]]*")
_SPACE = b" \t"

_Headers = list[tuple[bytes, bytes]]


@attrs.define(eq=False)
class Request:
    """
    One request: its head, and what has come of its body and nobody has received yet.
    """

    method: bytes
    target: bytes
    version: str
    headers: _Headers
    # The client wants to send another one behind it.
    keeps_alive: bool
    wants_upgrade: bool
    # Bytes of the head.
    head_size: int
    parts: list[bytes] = attrs.field(factory=list)
    # Bytes of the body so far, and in how many chunks; and how many bytes were read for it beyond the head's.
    size: int = 0
    chunks: int = 0
    read: int = 0
    is_complete: bool = False
    # With what to refuse its body; 0 while that is as it should be.
    bad: int = 0
    # What came behind a WebSocket handshake: frames.
    rest: bytes = b""

    def take_body(self) -> bytes:
        """
        What has come of the body since it was last taken.
        """
        parts = self.parts
        if len(parts) == 1:
            return parts.pop()
        body = b"".join(parts)
        parts.clear()
        return body

    @property
    def overhead(self) -> int:
        """
        How much was sent around the body, beyond what its chunks need: extensions, trailers, padding.
        """
        return self.read - self.size - 24 * self.chunks

    @property
    def is_websocket(self) -> bool:
        return self.method == b"GET" and _value(self.headers, b"upgrade").lower() == b"websocket"

    @property
    def expects_continue(self) -> bool:
        return (
            not self.is_complete
            and self.version == "1.1"
            and _value(self.headers, b"expect").lower() == b"100-continue"
        )

    def refusal(self, max_header: int) -> int:
        """
        The status to refuse the head with; 0 when it is as it should be.

        What llhttp refuses itself is not looked at again: bytes that must not be in a header, spaces before
        the colon, folded lines, lines without CR, lengths that are no numbers, that contradict each other
        or a transfer coding. A test holds it to that.
        """
        if self.head_size > max_header:
            return 431
        if self.version not in ("1.1", "1.0"):
            return 505
        if self.method not in METHODS:
            return 501
        hosts = codings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
                if not _HOST.fullmatch(value):
                    return 400
            elif name == b"transfer-encoding":
                codings += 1
                if value.lower() != b"chunked":
                    return 501
        if hosts > 1 or (hosts == 0 and self.version == "1.1"):
            return 400
        # HTTP/1.0 knows no transfer codings: whoever passed one on did not read it.
        if codings and self.version == "1.0":
            return 400
        return 0 if _PATH.fullmatch(self.target) or self._has_rare_target() else 400

    def _has_rare_target(self) -> bool:
        """
        Accept `OPTIONS *`, and a whole URL if it means this host; the path is all that stays of the latter.
        """
        if self.target == b"*":
            return self.method == b"OPTIONS"
        absolute = _ABSOLUTE.fullmatch(self.target)
        if absolute is None or absolute[1].lower() != _value(self.headers, b"host").lower():
            return False
        self.target = absolute[2] or b"/"
        return True

    def scope(
        self, client: tuple[str, int] | None, server: tuple[str, int] | None, state: ConnectionState
    ) -> dict[str, Any]:
        """
        What the application sees (ASGI 3).
        """
        path, _, query = self.target.partition(b"?")
        text = path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self.version,
            "method": self.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": client,
            "server": server,
            "state": state.copy(),
            "extensions": {},
        }

    def websocket_scope(
        self, client: tuple[str, int] | None, server: tuple[str, int] | None, state: ConnectionState
    ) -> dict[str, Any]:
        """
        What the application sees of a WebSocket handshake.
        """
        scope = self.scope(client, server, state)
        del scope["method"]
        scope |= {
            "type": "websocket",
            "scheme": "ws",
            "subprotocols": self.subprotocols(),
            "extensions": {"websocket.http.response": {}},
        }
        return scope

    def subprotocols(self) -> list[str]:
        """
        The subprotocols that a WebSocket handshake offers, in the client's order.
        """
        offers = [value for name, value in self.headers if name == b"sec-websocket-protocol"]
        names = (name.strip() for offer in offers for name in offer.decode("latin-1").split(","))
        return [name for name in names if name]

    def value(self, name: bytes) -> bytes:
        """
        A header's value; b"" without one, its values joined by commas if there are several.
        """
        return _value(self.headers, name)

    def without_upgrade(self) -> bytes:
        """
        The head once more, less the wish for another protocol that we do not speak.
        """
        lines = [b"%b %b HTTP/%b\r\n" % (self.method, self.target, self.version.encode())]
        lines += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"".join([*lines, b"\r\n"])


def field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """
    A header as it is kept: the name in lower case, the value without the space around it.
    """
    return name.lower(), value.strip(_SPACE)


def _value(headers: _Headers, name: bytes) -> bytes:
    return b", ".join(value for known, value in headers if known == name)
