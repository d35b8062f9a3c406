"""How the hub's messages look to Socket.IO clients in the namespace /real-time. Knows no connection."""

from collections.abc import Callable
from typing import Any, assert_never

import attrs
import msgspec

from engine.actors.messages import Listed, Message, PresenceUpdate, Reached, Subscribed
from engine.domain.event import Event
from gateway.engineio.packets import message as engine_message
from gateway.protocol import NAMESPACE, presence_frame, wire_data

_encode = msgspec.json.encode
# A packet's kind and namespace (socket.io-protocol 5): an event, without attachments.
_EVENT = f"2{NAMESPACE},"
# A position from which nothing is recovered.
NOWHERE = "-"


@attrs.frozen
class SocketIoFormat:
    """
    The format of Socket.IO clients: each event under its name, encoded once for all of them.
    """

    # Whether events end with where their client stands then: what its library sends when it returns.
    tells_position: bool
    # Called when the catalog has to start over: its subscribers miss something, and must come back for it.
    on_reset: Callable[[], None]

    def encode(self, message: Message) -> bytes:
        """
        A packet as all transports keep it; nothing for what only other protocols tell.
        """
        match message:
            case Listed(event=event, position=position) if self.tells_position:
                # Who cannot be told where they stand cannot recover, and must not from an earlier event.
                at = position.offset if position.is_short else NOWHERE
                return packet(event.type, wire_data(event), at)
            case Listed(event=event) | (Event() as event):
                return packet(event.type, wire_data(event))
            case PresenceUpdate():
                return packet("presence:update", presence_data(message))
            case Subscribed():
                # Its first one each client is told by its welcome.
                self.on_reset()
                return b""
            case Reached():
                return b""
            case _:
                assert_never(message)


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
