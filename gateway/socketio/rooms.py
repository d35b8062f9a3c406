"""Rooms: which clients of a namespace are told an event, encoded once. Knows no transport."""

from typing import Any

import attrs

from engine.domain.event import Topic
from engine.domain.presence import SessionId
from engine.errors import EngineError
from engine.runtime.hub import Hub
from gateway.socketio.packets import EVENT, encode
from gateway.socketio.socket import Socket


class _AsItIs:
    def encode(self, message: bytes) -> bytes:
        return message


AS_IT_IS = _AsItIs()


class TooManyRoomsError(EngineError):
    """
    The client is in as many rooms as it may be. Let it leave one first.
    """


@attrs.define(eq=False, kw_only=True)
class Rooms:
    """
    Own who is in which room. Everyone is in a room of the namespace's, and in one of their own.
    """

    # Rooms of one client.
    most: int
    _hub: Hub[bytes, None, int] = attrs.field(factory=Hub[bytes, None, int], init=False)
    _rooms_of: dict[str, set[str]] = attrs.field(factory=dict, init=False)

    def enter(self, socket: Socket) -> None:
        """
        A client was let in.
        """
        self._rooms_of[socket.id] = set()
        self._subscribe(socket, _everyone(socket.name))
        self._subscribe(socket, _own(socket))

    def join(self, socket: Socket, room: str) -> None:
        """
        Enter a room. Raises TooManyRoomsError.
        """
        rooms = self._rooms_of.get(socket.id)
        if rooms is None:
            return  # it has gone
        if room not in rooms and len(rooms) >= self.most:
            raise TooManyRoomsError(f"a client is in at most {self.most} rooms")
        rooms.add(room)
        self._subscribe(socket, _room(socket.name, room))

    def leave(self, socket: Socket, room: str) -> None:
        """
        Leave a room; one that was not entered is ignored.
        """
        self._rooms_of.get(socket.id, set()).discard(room)
        self._hub.unsubscribe(_room(socket.name, room), SessionId(socket.id))

    def drop(self, socket: Socket) -> None:
        """
        A client has gone.
        """
        self._rooms_of.pop(socket.id, None)
        self._hub.drop_session(SessionId(socket.id))

    async def emit(
        self, namespace: str, room: str | None, event: str, args: list[Any], *, but_not: Socket | None = None
    ) -> int:
        """
        Send an event to everyone in a room, or in the namespace; how many took it.
        """
        return await self._hub.publish_fairly(
            _everyone(namespace) if room is None else _room(namespace, room),
            [encode(EVENT, namespace, [event, *args])],
            but_not=None if but_not is None else _own(but_not),
        )

    def _subscribe(self, socket: Socket, topic: Topic) -> None:
        self._hub.subscribe(topic, SessionId(socket.id), socket.session.outlet, AS_IT_IS)


def _everyone(namespace: str) -> Topic:
    return Topic(namespace)


def _room(namespace: str, room: str) -> Topic:
    # No namespace has a space in its name, and no id has one.
    return Topic(f"{namespace} {room}")


def _own(socket: Socket) -> Topic:
    return Topic(f"{socket.name} {socket.id} itself")
