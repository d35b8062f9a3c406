"""One Engine.IO session: its packets, its heartbeat, its end. Knows no HTTP and no WebSocket."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
import structlog
import trio

from gateway.engineio.outlet import DirectOutlet, EngineOutlet
from gateway.engineio.packets import (
    CLOSE,
    NOOP,
    PING,
    PONG,
    PacketError,
    message,
    text_packet,
)
from gateway.engineio.timers import Timer, Timers

log = structlog.get_logger(__name__)

POLLING, WEBSOCKET = "polling", "websocket"

# Bytes that a client may send at a time while nobody knows who it is: room for tokens, and little of memory.
UNKNOWN = 65_536
# Seconds that a client which has said goodbye may still poll for the answer.
FAREWELL = 2.0
# Seconds from a client's deadline until it has gone, in which what has come in time is read.
LATENESS = 0.02


class Handler(Protocol):
    """
    Whoever uses the line: is told, in order, and must not block.
    """

    def opened(self, session: "EngineSession") -> None:
        """
        A session has begun.
        """
        ...

    def received(self, session: "EngineSession", data: str | bytes) -> None:
        """
        The client sent a message. Raises PacketError for what ends the session.
        """
        ...

    def alive(self, session: "EngineSession") -> None:
        """
        The client answered a ping.
        """
        ...

    def closed(self, session: "EngineSession", reason: str) -> None:
        """
        The session has ended.
        """
        ...


@attrs.define(eq=False, kw_only=True)
class EngineSession:
    """
    Own one client's line from its handshake to its end, over whatever transports.

    Its id is a secret between the two: who knows it may speak for the client. A crash loses the session, and
    the client opens another.
    """

    sid: str
    # The request that opened it.
    scope: Mapping[str, Any]
    transport: str
    outlet: EngineOutlet | DirectOutlet
    handler: Handler
    timers: Timers
    ping_interval: float
    ping_timeout: float
    # The longest message, and the longest body of a POST, as the client was told.
    max_payload: int
    # The handler knows who the client is. One that has to find out says so when the session begins.
    is_known: bool = True
    # Told once when it has ended and nothing is left to be fetched.
    on_end: "Callable[[EngineSession], None]"
    # What the handler keeps with it.
    user_data: Any = None
    # Why it ended; None while it has not.
    reason: str | None = attrs.field(default=None, init=False)
    # The packet that answers a poll when the session has ended.
    last_packet: bytes = attrs.field(default=b"", init=False)
    is_polled: bool = attrs.field(default=False, init=False)
    is_posted: bool = attrs.field(default=False, init=False)
    is_upgrading: bool = attrs.field(default=False, init=False)
    # Ended when the session does: the task that reads its WebSocket.
    reading: trio.CancelScope | None = attrs.field(default=None, init=False)
    # When the client must have answered the next ping: a point in time, whoever looks late.
    deadline: float = attrs.field(init=False)
    _beat: Timer | None = attrs.field(default=None, init=False)
    _awaits_pong: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._schedule_ping()
        if isinstance(self.outlet, EngineOutlet):
            self.outlet.on_slow = self._fall_behind

    @property
    def is_closed(self) -> bool:
        """
        It has ended, though last words may wait to be fetched.
        """
        return self.reason is not None

    @property
    def is_overdue(self) -> bool:
        """
        The client has not answered a ping in time.
        """
        return trio.current_time() >= self.deadline

    @property
    def most(self) -> int:
        """
        The longest message, and the longest body of a POST, that is taken now.
        """
        return self.max_payload if self.is_known else min(self.max_payload, UNKNOWN)

    def header(self, wanted: bytes) -> str:
        """
        A header of the request that opened it, by its name in lower case; empty when there is none.
        """
        found = next((value for name, value in self.scope["headers"] if name == wanted), b"")
        return bytes(found).decode("latin-1")

    def send(self, data: str | bytes) -> bool:
        """
        Send a message: text as str, binary as bytes. False when the client is gone or too slow.
        """
        return self.push(message(data))

    def push(self, frames: bytes) -> bool:
        """
        Send messages that are framed already.
        """
        if self.is_closed:
            return False
        return self.outlet.push(frames)

    def receive(self, packet: str | bytes) -> None:
        """
        Take one packet from the client. Raises PacketError.
        """
        if isinstance(packet, bytes):
            self._tell(packet)
            return
        match packet[:1]:
            case "4":
                self._tell(packet[1:])
            case "3" if packet == PONG:
                if self._awaits_pong:
                    self._schedule_ping()
                    self.handler.alive(self)
            case "1" if packet == CLOSE:
                self._leave()
            case "6" if packet == NOOP:
                pass
            case _:
                raise PacketError(f"no packet that a client sends begins with {packet[:10]!r}")

    def close(self, reason: str) -> None:
        """
        End the session now. A poll that waits is answered with the last packet.
        """
        self._end(reason, CLOSE)
        self.on_end(self)

    def finish(self, reason: str) -> None:
        """
        End the session as soon as the client has fetched what waits for it.
        """
        self._end(reason, CLOSE)
        waits = isinstance(self.outlet, EngineOutlet) and not self.outlet.is_empty
        if self.transport != POLLING or not waits:
            self.on_end(self)
        else:
            self.timers.at(self.deadline, lambda: self.on_end(self))

    def upgrade(self, direct: DirectOutlet | None) -> None:
        """
        From now on it is a WebSocket; without a direct outlet somebody takes what waits and sends it.
        """
        assert isinstance(self.outlet, EngineOutlet)
        self.transport = WEBSOCKET
        self.is_upgrading = False
        if direct is not None:
            self.outlet.connect(direct)
        self.outlet.wake()

    def _leave(self) -> None:
        self._end("transport close", NOOP)
        if self.transport == POLLING and isinstance(self.outlet, EngineOutlet):
            # The client's poll may be on its way still, and is answered as if it had come first.
            self.outlet.take_nowait()
            self.timers.at(trio.current_time() + FAREWELL, lambda: self.on_end(self))
        else:
            self.on_end(self)

    def _fall_behind(self) -> None:
        self.timers.at(trio.current_time(), lambda: self.close("too slow"))

    def _end(self, reason: str, last: str) -> None:
        if self.is_closed:
            return
        self.reason = reason
        self.last_packet = text_packet(last)
        if self._beat is not None:
            self._beat.cancel()
        if self.reading is not None:
            self.reading.cancel()
        self.outlet.is_open = False
        if isinstance(self.outlet, EngineOutlet):
            self.outlet.wake()
        self.handler.closed(self, reason)

    def _tell(self, data: str | bytes) -> None:
        if self.is_closed:
            return
        try:
            self.handler.received(self, data)
        except PacketError:
            raise
        except Exception:
            # A bug of the handler: it ends this session, no other.
            log.exception("a message handler failed")
            self.close("server error")

    def _schedule_ping(self) -> None:
        self._awaits_pong = False
        if self._beat is not None:
            self._beat.cancel()
        due = trio.current_time() + self.ping_interval
        self.deadline = due + self.ping_timeout
        self._beat = self.timers.at(due, self._ping)

    def _ping(self) -> None:
        if not self.is_closed:
            self._awaits_pong = True
            # If it goes out late, because this process was not run, the client still has half of its time.
            self.deadline = max(self.deadline, trio.current_time() + self.ping_timeout / 2)
            self._beat = self.timers.at(self.deadline, self._miss)
            self.push(text_packet(PING))

    def _miss(self) -> None:
        # If this process was not run for a while, the pong may have come and not be read yet.
        if not self.is_closed:
            self._beat = self.timers.at(trio.current_time() + LATENESS, self._give_up)

    def _give_up(self) -> None:
        if not self.is_closed:
            self.close("ping timeout")
