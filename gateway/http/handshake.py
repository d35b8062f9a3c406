"""The WebSocket handshake over HTTP/1.1 (RFC 6455, section 4.2): what is refused, how it is accepted."""

import base64
import hashlib
import re
from typing import Any

from gateway.http.request import Request
from gateway.http.response import Head

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


def handshake_refusal(request: Request) -> int:
    """
    The status to refuse a handshake with; 0 when it is as it should be.
    """
    version = request.value(b"sec-websocket-version")
    if not request.wants_upgrade or not _KEY.fullmatch(request.value(b"sec-websocket-key")) or not version:
        return 400
    return 0 if version == b"13" else 426


def accepting(request: Request, subprotocol: str | None, headers: Any) -> bytes:
    """
    The 101 that the application wishes. Raises ValueError for what must not be in it.
    """
    if any(name.lower().startswith(b"sec-websocket-") for name, _ in headers):
        raise ValueError("the handshake's own headers are the server's")
    more = Head.of(200, headers).fields
    if subprotocol is not None:
        if subprotocol not in request.subprotocols():
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        more += b"sec-websocket-protocol: %b\r\n" % subprotocol.encode("latin-1")
    accept = base64.b64encode(hashlib.sha1(request.value(b"sec-websocket-key") + _GUID).digest())  # noqa: S324
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %b\r\n%b\r\n" % (accept, more)
    )
