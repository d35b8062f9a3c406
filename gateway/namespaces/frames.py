"""How the hub's messages look to Socket.IO clients in the namespace /real-time. Knows no connection."""

from typing import Any, assert_never

import msgspec

from engine.actors.messages import Message, PresenceUpdate, Reached, Subscribed
from engine.domain.event import Event
from gateway.engineio.packets import message as engine_message
from gateway.protocol import NAMESPACE, presence_frame, wire_data

_encode = msgspec.json.encode
# A packet's kind and namespace (socket.io-protocol 5): an event, without attachments.
_EVENT = f"2{NAMESPACE},"


class SocketIoFormat:
    """
    The format of Socket.IO clients: each event under its name, encoded once for all of them.
    """

    def encode(self, message: Message) -> bytes:
        """
        A packet as all transports keep it; nothing for what only other protocols tell.
        """
        match message:
            case Event():
                return packet(message.type, wire_data(message))
            case PresenceUpdate():
                return packet("presence:update", presence_data(message))
            case Subscribed() | Reached():
                return b""
            case _:
                assert_never(message)


SOCKET_IO = SocketIoFormat()


def packet(event: str, *args: Any) -> bytes:
    """
    An event with these arguments.
    """
    return engine_message(_EVENT + _encode([event, *args]).decode())


def presence_data(update: PresenceUpdate) -> dict[str, Any]:
    """
    Who came and went: the frame of the WebSocket protocol, whose type is the event's name here.
    """
    frame = presence_frame(update)
    del frame["type"]
    return frame
