"""WebSocket frames as a server sends them (RFC 6455, section 5). Knows no sockets."""

import struct
from collections.abc import Iterator

# RFC 6455, section 5.5: a control frame's payload has 125 bytes, two of which are the close code.
MAX_REASON = 123

# With the FIN bit: no message of ours is fragmented.
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
# The code that stands for a close frame without one (RFC 6455, section 7.1.5); it is never sent.
_NO_CODE = 1005

PING = struct.pack("!BB", _PING, 0)


def text_frame(payload: bytes) -> bytes:
    """
    Frame UTF-8 text. A server's frames are not masked, so the same bytes serve every client.
    """
    return _frame(_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    return _frame(_BINARY, payload)


def pong_frame(payload: bytes) -> bytes:
    """
    Frame the answer to a ping: its payload comes back.
    """
    return _frame(_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """
    Frame a close; a reason longer than the protocol allows is cut at a character.
    """
    if code == _NO_CODE:
        return _frame(_CLOSE, b"")
    text = reason.encode()
    if len(text) > MAX_REASON:
        text = text[:MAX_REASON].decode(errors="ignore").encode()
    return _frame(_CLOSE, struct.pack("!H", code) + text)


def is_close(frame: bytes) -> bool:
    return bool(frame) and frame[0] == _CLOSE


def code_of(frame: bytes) -> int:
    """
    The code in a close frame of ours.
    """
    return int.from_bytes(frame[2:4], "big") if len(frame) >= 4 else _NO_CODE


def payloads(frames: bytes) -> Iterator[str | bytes]:
    """
    The messages in joined frames of ours, text as str, for a client that is sent no frames.
    """
    at = 0
    while at < len(frames):
        size, start = frames[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(frames[start : start + 2], "big"), start + 2
        elif size == 127:
            size, start = int.from_bytes(frames[start : start + 8], "big"), start + 8
        payload = frames[start : start + size]
        yield payload if frames[at] == _BINARY else payload.decode()
        at = start + size


def frames_of(frames: bytes, most: int) -> Iterator[memoryview]:
    """
    Joined frames in pieces of whole frames, each of at most so many bytes, or of one frame that is longer.
    """
    view = memoryview(frames)
    begin = at = 0
    while at < len(frames):
        size, after = frames[at + 1], at + 2
        if size == 126:
            size, after = int.from_bytes(frames[after : after + 2], "big"), after + 2
        elif size == 127:
            size, after = int.from_bytes(frames[after : after + 8], "big"), after + 8
        if begin < at and after + size - begin > most:
            yield view[begin:at]
            begin = at
        at = after + size
    yield view[begin:]


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload
