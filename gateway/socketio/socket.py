"""One client in one namespace: what it is told, what it asks, in order. Knows no transport."""

import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
import trio

from engine.errors import EngineError
from gateway.engineio.session import EngineSession
from gateway.socketio.packets import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, Packet, encode

# Acks that a client may owe; whoever asks for one more is refused.
OWED = 1000


class ConnectRefused(Exception):  # noqa: N818 -- an answer, not an error
    """
    The namespace refuses the client: told as `connect_error`, with a message and more for programs.
    """

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class SocketGoneError(EngineError):
    """
    The client has gone, or owes too many acks: there will be no answer.
    """


@attrs.frozen
class Later:
    """
    An answer to an event that comes when it comes: what the client sends meanwhile does not wait for it.

    `begin` is given whom to tell the answer, once.
    """

    begin: Callable[[Callable[[list[Any]], None]], None]


class Namespace(Protocol):
    """
    What a namespace does with its clients. Calls for one client come one after the other.
    """

    async def connect(self, socket: "Socket", auth: dict[str, Any]) -> None:
        """
        Let a client in by `socket.accept`, or raise ConnectRefused.
        """
        ...

    async def event(self, socket: "Socket", name: str, args: list[Any]) -> list[Any] | Later | None:
        """
        Handle an event; what is answered is sent as the ack, if the client wants one.
        """
        ...

    async def gone(self, socket: "Socket", reason: str) -> None:
        """
        A client that was let in has gone.
        """
        ...

    def alive(self, socket: "Socket") -> None:
        """
        A client that was let in has given a sign of life.
        """
        ...


Job = Callable[[], Awaitable[None]]


@attrs.define(eq=False, kw_only=True)
class Socket:
    """
    Own one client's part in one namespace, and what of it is still to be handled.

    A crash loses it; the client connects again.
    """

    name: str
    namespace: Namespace
    session: EngineSession
    # Events that may wait to be handled; whose client sends more is too fast.
    inbox: int
    id: str = attrs.field(factory=lambda: secrets.token_urlsafe(15))
    # What the namespace keeps with it.
    user_data: Any = None
    # The namespace has let it in, and so will be told when it goes.
    is_admitted: bool = attrs.field(default=False, init=False)
    # Why it ended; None while it has not.
    reason: str | None = attrs.field(default=None, init=False)
    jobs: deque[Job] = attrs.field(factory=deque, init=False)
    # Somebody works at the jobs.
    is_busy: bool = attrs.field(default=False, init=False)
    _owed: dict[int, tuple[trio.Event, list[Any]]] = attrs.field(factory=dict, init=False)
    _ids: int = attrs.field(default=0, init=False)

    def welcome(self, **more: Any) -> bytes:
        """
        The packet that lets the client in, for whoever sends it together with what follows.
        """
        return encode(CONNECT, self.name, {"sid": self.id, **more})

    def accept(self, **more: Any) -> None:
        """
        Let the client in.
        """
        self.push(self.welcome(**more))

    def refuse(self, message: str, data: Any = None) -> None:
        """
        Tell the client that it is not let in.
        """
        error = {"message": message} if data is None else {"message": message, "data": data}
        self.push(encode(CONNECT_ERROR, self.name, error))

    def push(self, frames: bytes) -> bool:
        """
        Send packets that are encoded already; False when the client has gone.
        """
        return self.reason is None and self.session.push(frames)

    def emit(self, event: str, *args: Any) -> bool:
        """
        Send an event; False when the client has gone.
        """
        return self.push(encode(EVENT, self.name, [event, *args]))

    async def ask(self, event: str, *args: Any) -> list[Any]:
        """
        Send an event and wait for its ack; whoever calls owns the deadline. Raises SocketGoneError.
        """
        if len(self._owed) >= OWED:
            raise SocketGoneError(f"the client owes {OWED} acks already")
        self._ids += 1
        number = self._ids
        answered, answer = self._owed[number] = trio.Event(), []
        try:
            if self.push(encode(EVENT, self.name, [event, *args], number)):
                await answered.wait()
        finally:
            self._owed.pop(number, None)
        if self.reason is not None and not answer:
            raise SocketGoneError("the client has gone")
        return answer[0] if answer else []

    def acked(self, packet: Packet) -> None:
        """
        The client's answer to what it was asked. One that nobody waits for is dropped.
        """
        found = self._owed.get(packet.id or 0)
        if found is not None:
            found[1].append(packet.data)
            found[0].set()

    def ack(self, number: int, args: list[Any]) -> None:
        """
        Answer an event.
        """
        self.push(encode(ACK, self.name, args, number))

    def disconnect(self) -> bytes:
        """
        The packet that ends the client's part here.
        """
        return encode(DISCONNECT, self.name)

    def end(self, reason: str) -> bool:
        """
        Send nothing more; whether it was let in, and so is missed. Once it has ended, False.
        """
        if self.reason is not None:
            return False
        self.reason = reason
        self.jobs.clear()
        for answered, _ in self._owed.values():
            answered.set()
        return self.is_admitted
