"""What a plugin that serves a Socket.IO namespace answers, and what it is given of each client."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import attrs

from engine.domain.access import Identity


class SocketRefused(Exception):  # noqa: N818 -- an answer, and no error of the plugin's
    """
    Do not let this client in: it is told `connect_error` with the message, and `data` for programs.
    """

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class Socket(Protocol):
    """
    One client in one namespace. Functions in threads may use it, too, except what is `async`.

    Arguments are JSON, in which bytes may stand anywhere.
    """

    # What the plugin keeps with the client.
    user_data: Any

    @property
    def id(self) -> str:
        """
        The client's public id; another one each time that it connects.
        """
        ...

    @property
    def namespace(self) -> str:
        """
        The name of the namespace.
        """
        ...

    @property
    def auth(self) -> Mapping[str, Any]:
        """
        What the client sent with its wish to connect; empty, if nothing.
        """
        ...

    @property
    def identity(self) -> Identity | None:
        """
        Who the client is, if `auth["token"]` proves it; None if it proves nothing, or is missing.
        """
        ...

    @property
    def is_connected(self) -> bool:
        """
        Whether the client is still there.
        """
        ...

    def emit(self, event: str, *args: Any) -> bool:
        """
        Send an event; False when the client has gone. In `on_connect` this and `join` follow once the client
        is let in.
        """
        ...

    async def ask(self, event: str, *args: Any) -> list[Any]:
        """
        Send an event and wait for its ack; you own the deadline. Raises EngineError when the client has gone.
        """
        ...

    def join(self, room: str) -> None:
        """
        Enter a room of the namespace; it is left when the client goes. Raises EngineError for too many.
        """
        ...

    def leave(self, room: str) -> None:
        """
        Leave a room.
        """
        ...

    async def broadcast(
        self, event: str, *args: Any, room: str | None = None, to_itself: bool = False
    ) -> int:
        """
        Send an event to everyone in a room, or in the namespace; how many were there.
        """
        ...

    def disconnect(self) -> None:
        """
        End the client's part in this namespace; its library does not come back by itself.
        """
        ...


Answer = Awaitable[Any] | Any


@attrs.frozen(kw_only=True)
class SocketNamespace:
    """
    What serves a namespace of Socket.IO. Each function has `plugins.socket_budget` for one call.

    For each client one call follows the other. `async def` runs on the event loop, a plain `def` in a thread.
    """

    # "/" or "/name"; /real-time is the engine's.
    name: str
    # Raise SocketRefused to refuse. Without it everyone is let in, whoever they are.
    on_connect: Callable[[Socket], Answer] | None = None
    # By the event's name, called with the socket and the event's arguments. What it answers is the ack, if
    # the client wants one: a tuple is several arguments, None is none.
    events: Mapping[str, Callable[..., Answer]] = attrs.field(factory=dict)
    # Why: "client namespace disconnect", "transport close", "ping timeout", …
    on_disconnect: Callable[[Socket, str], Answer] | None = None
