"""Socket.IO packets (protocol version 5): python-socketio's encoding, behind a strict check of what comes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from socketio.packet import (
    ACK,
    BINARY_ACK,
    BINARY_EVENT,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
)
from socketio.packet import Packet as Encoded

from gateway.engineio.packets import PacketError, message

__all__ = ["ACK", "CONNECT", "CONNECT_ERROR", "DISCONNECT", "EVENT", "Decoder", "Packet", "encode"]

ROOT = "/"
# Attachments of one packet; the official parser's own bound.
ATTACHMENTS = 10
# Ids of acks are JavaScript's whole numbers.
LARGEST_ID = 2**53
# Names that the client's library gives events of its own.
RESERVED = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
# Attachments are counted in binary packets, and only there.
_PREFIX = re.compile(r"[0-3](?!\d*-)|[56]\d{1,9}-")


# An escape in JSON: half a character, or a whole one.
_ESCAPE = re.compile(r"\\(?:u(d[89ab])..\\ud[c-f]..|u(d[89a-f])..|.)", re.IGNORECASE | re.DOTALL)


class _Json:
    @staticmethod
    def loads(text: str) -> Any:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            # JavaScript's texts may be cut amid a character, and are legal there; UTF-8 has no half ones.
            mended = _ESCAPE.sub(lambda found: r"\ufffd" if found[2] else found[0], text)
            if mended == text:
                raise
            return msgspec.json.decode(mended)

    @staticmethod
    def dumps(value: Any, **_: object) -> str:
        return msgspec.json.encode(value).decode()


class _Encoded(Encoded):  # type: ignore[misc]
    # Python's own reads NaN, and trips over what nests deeply.
    json = _Json


@attrs.frozen(kw_only=True)
class Packet:
    """
    A packet that is as the protocol wants it; binary ones are of the kind that they would be without.
    """

    kind: int
    namespace: str = ROOT
    id: int | None = None
    data: Any = None


def encode(kind: int, namespace: str, data: Any = None, id: int | None = None) -> bytes:
    """
    A packet as all transports keep it, its attachments behind it.
    """
    encoded = _Encoded(kind, _plain(data), namespace, id).encode()
    parts = encoded if isinstance(encoded, list) else [encoded]
    return b"".join(message(part) for part in parts)


@attrs.define(eq=False)
class Decoder:
    """
    Own the packet whose attachments have not all come; of at most so many bytes together.
    """

    max_bytes: int
    _pending: Any = attrs.field(default=None, init=False)
    _bytes: int = attrs.field(default=0, init=False)

    def decode(self, data: str | bytes) -> Packet | None:
        """
        The packet that is complete with this message, if one is. Raises PacketError.
        """
        try:
            return self._attach(data) if isinstance(data, bytes) else self._begin(data)
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
            raise PacketError(f"no packet of the protocol: {error}") from None

    def _begin(self, text: str) -> Packet | None:
        if self._pending is not None:
            raise ValueError("attachments were to come")
        if not _PREFIX.match(text):
            raise ValueError("no client sends such a type")
        encoded = _Encoded(encoded_packet=text)
        _check(encoded)
        if encoded.attachment_count:
            self._pending = encoded
            self._bytes = 0
            return None
        return _packet(encoded)

    def _attach(self, data: bytes) -> Packet | None:
        if self._pending is None:
            raise ValueError("an attachment of no packet")
        self._bytes += len(data)
        if self._bytes > self.max_bytes:
            raise ValueError(f"attachments have at most {self.max_bytes} bytes together")
        if not self._pending.add_attachment(data):
            return None
        encoded, self._pending = self._pending, None
        return _packet(encoded)


def _packet(encoded: Any) -> Packet:
    kind = int(encoded.packet_type)
    kind = {BINARY_EVENT: EVENT, BINARY_ACK: ACK}.get(kind, kind)
    return Packet(kind=kind, namespace=encoded.namespace or ROOT, id=encoded.id, data=encoded.data)


def _check(encoded: Any) -> None:
    kind, data = encoded.packet_type, encoded.data
    if encoded.attachment_count > ATTACHMENTS:
        raise ValueError(f"a packet has at most {ATTACHMENTS} attachments")
    if encoded.id is not None and encoded.id > LARGEST_ID:
        raise ValueError(f"an id is at most {LARGEST_ID}")
    match kind:
        case 0 if data is None or isinstance(data, dict):
            pass
        case 1 if data is None:
            pass
        case 2 | 5 if isinstance(data, list) and data and _is_name(data[0]):
            pass
        case 3 | 6 if isinstance(data, list) and encoded.id is not None:
            pass
        case _:
            raise ValueError(f"not the data of a packet of type {kind}")
    if encoded.attachment_count:
        _check_placeholders(data, encoded.attachment_count)


def _is_name(name: object) -> bool:
    return type(name) is int or (isinstance(name, str) and name not in RESERVED)


def _check_placeholders(data: Any, count: int) -> None:
    if isinstance(data, dict):
        if data.get("_placeholder") and "num" in data:
            number = data["num"]
            if type(number) is not int or not 0 <= number < count:
                raise ValueError(f"there is no attachment {number!r}")
        else:
            _check_placeholders(list(data.values()), count)
    elif isinstance(data, list):
        for value in data:
            _check_placeholders(value, count)


def _plain(data: Any) -> Any:
    """
    The same of lists and dicts only, in which the encoding looks for bytes.
    """
    match data:
        case str():
            return data
        case bytes() | bytearray() | memoryview():
            return bytes(data)
        case Mapping():
            return {str(key): _plain(value) for key, value in data.items()}
        case Sequence():
            return [_plain(value) for value in data]
        case _:
            return data
