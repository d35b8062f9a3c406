"""Engine.IO packets as clients send them and as they are sent (protocol version 4). Knows no transport."""

import base64
import binascii
from collections.abc import Iterable, Sequence

import msgspec

from engine.errors import EngineError
from gateway.http.frames import binary_frame, payloads, text_frame

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"

# Between the packets of one HTTP body.
SEPARATOR = "\x1e"
# Before a binary message in an HTTP body, which is text: base64 follows.
BINARY = "b"

_encode = msgspec.json.encode


class PacketError(EngineError):
    """
    What the client sent is no packet of the protocol. The session ends; the text says what was wrong.
    """


def opening(
    sid: str, *, upgrades: Sequence[str], ping_interval: float, ping_timeout: float, max_payload: int
) -> str:
    """
    The first packet of a session: exactly what the protocol lists.
    """
    handshake = {
        "sid": sid,
        "upgrades": list(upgrades),
        "pingInterval": round(ping_interval * 1000),
        "pingTimeout": round(ping_timeout * 1000),
        "maxPayload": max_payload,
    }
    return OPEN + _encode(handshake).decode()


def text_packet(packet: str) -> bytes:
    """
    A packet as all transports keep it: the WebSocket frame that it is, or would be.
    """
    return text_frame(packet.encode())


def message(data: str | bytes) -> bytes:
    """
    A message as all transports keep it.
    """
    return binary_frame(data) if isinstance(data, bytes) else text_frame(MESSAGE.encode() + data.encode())


def split_body(body: bytes) -> list[str | bytes]:
    """
    The packets of a POST: text as it is, a binary message as its bytes. Raises PacketError.
    """
    try:
        return [_from_body(packet) for packet in body.decode().split(SEPARATOR)]
    except UnicodeDecodeError as error:
        raise PacketError(f"the body is not UTF-8: {error}") from None


def join_body(frames: Iterable[bytes]) -> bytes:
    """
    The body that answers a poll, of packets as all transports keep them.
    """
    packets = [packet for data in frames for packet in payloads(data)]
    return SEPARATOR.encode().join(
        packet.encode() if isinstance(packet, str) else BINARY.encode() + base64.b64encode(packet)
        for packet in packets
    )


def _from_body(packet: str) -> str | bytes:
    if not packet.startswith(BINARY):
        return packet
    try:
        return base64.b64decode(packet[1:], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PacketError(f"a packet that begins with b is base64: {error}") from None
