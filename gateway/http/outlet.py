"""How bytes get to one client: in order, never blocking the sender. Knows no episodes and no HTTP."""

import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, Protocol

import attrs
import trio

from gateway.http.frames import close_frame, frames_of
from gateway.http.traffic import Backlogged
from gateway.http.wire import PIECE

# Under which name a WebSocket's scope offers its outlet, where it has one.
OUTLET_EXTENSION = "greenroom.outlet"

TOO_SLOW = 4413
_TOO_SLOW_FRAME = close_frame(TOO_SLOW, "too slow: reconnect and recover")

# On, for 0 seconds (socket(7)).
_NO_LINGER = struct.pack("ii", 1, 0)

# Buffers handed to the kernel at once; IOV_MAX is 1024, the kernel rarely takes more than a few.
_GATHER = 64


def _ignore() -> None:
    pass


class Conflating(Protocol):
    """
    An outlet that can keep the latest only.
    """

    def push_latest(self, key: str, data: bytes) -> bool: ...


class _Chunk(NamedTuple):
    data: memoryview
    since: float
    # A `write` does not count against the limit: whoever waits for it sends nothing more meanwhile.
    counts: bool
    # Of what was pushed while nothing waited: it has its deadline from when it is its turn.
    is_first: bool = False


@attrs.define(eq=False, kw_only=True)
class Outlet:
    """
    The only writer of one client connection.

    Owns the backlog: what the client's socket has not taken yet, bounded by `limit` in bytes and by
    `deadline` in seconds. A client that exceeds either is too slow: what has not been started is dropped,
    close code 4413 follows what has, and it has `grace` seconds to take that. A crash loses the backlog; the
    client reconnects and recovers from its position.

    What is pushed while nothing waits is bounded by who pushes it: it does not count, and each piece of it
    has the whole deadline. Else a client with a replay longer than the limit would never get beyond it.
    """

    # The standard library's socket, non-blocking: Trio's own has no send without a checkpoint.
    _socket: socket.socket = attrs.field(alias="socket")
    _nursery: trio.Nursery = attrs.field(alias="nursery")
    limit: int
    deadline: float
    grace: float = 1.0
    # Whoever counts what waits for clients finds those here that have not taken everything.
    behind: "set[Backlogged]" = attrs.field(factory=set)
    # Told once when the client proves too slow.
    on_slow: Callable[[], None] | None = None
    # Told once when nothing more will be sent after a kill or a 4413.
    _on_end: Callable[[], None] = attrs.field(default=_ignore, alias="on_end")
    # Whether `push` is welcome: from the 101 until the first close frame, whoever sends it.
    is_open: bool = False
    # None while nothing waits: an idle client pays for no deque, and no task.
    _backlog: deque[_Chunk] | None = attrs.field(default=None, init=False)
    # The latest of each key, for a client that is behind; bounded by what it may subscribe to.
    _latest: dict[str, bytes] = attrs.field(factory=dict, init=False)
    # Bytes in the backlog, and how many of them count against the limit.
    pending: int = attrs.field(default=0, init=False)
    _pushed: int = attrs.field(default=0, init=False)
    # The head of the backlog has partly been sent: it must be completed before anything else.
    _begun: bool = attrs.field(default=False, init=False)
    _slow: bool = attrs.field(default=False, init=False)
    # Nothing more will be sent.
    is_dead: bool = attrs.field(default=False, init=False)
    _patience: trio.CancelScope | None = attrs.field(default=None, init=False)
    # Bytes that the kernel ever took from the backlog, and who waits for how many.
    _taken: int = attrs.field(default=0, init=False)
    _writers: list[tuple[int, trio.Event]] = attrs.field(factory=list, init=False)

    def push(self, data: bytes) -> bool:
        """
        Send framed bytes now or as soon as the client takes them; False when this client is gone.
        """
        if not self.is_open:
            return False
        if self._backlog is None:
            # `_send`, without the call: of a fan-out's microsecond each, this is what is ours.
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.kill()
                return False
            if sent == len(data):
                return True
            self._enqueue_first(data, sent)
            return True
        self._enqueue(data, 0, counts=True)
        if self._pushed > self.limit:
            self._give_up()
            return False
        return True

    def push_latest(self, key: str, data: bytes) -> bool:
        """
        The same for what only counts as long as nothing newer is there: a client that is behind gets the
        latest of each key, once it has caught up.
        """
        if self._backlog is None:
            return self.push(data)
        if self.is_open:
            self._latest[key] = data
        return self.is_open

    async def write(self, data: bytes) -> None:
        """
        Send framed bytes after all that was pushed before, and wait until the kernel has them.

        Raises:
            trio.BrokenResourceError: the client is gone, or was too slow.
        """
        if not self.is_dead and not self._slow:
            sent = self._send(data)
            if sent < len(data):
                self._enqueue(data, sent, counts=False)
                done = trio.Event()
                self._writers.append((self._taken + self.pending, done))
                await done.wait()
            else:
                await trio.lowlevel.checkpoint()
        else:
            # A loop that writes to a dead client must still let the others run.
            await trio.lowlevel.checkpoint()
        if self.is_dead or self._slow:
            raise trio.BrokenResourceError("the client is gone or was too slow")

    def kill(self) -> None:
        """
        Abort now. The connection's reader sees the end of the stream and cleans up.
        """
        if not self.is_dead:
            if self._slow:
                # It has not taken its last frame either: else the kernel would keep what it holds for a
                # client that does not read, and go on asking it, for minutes. The socket's end is a reset.
                with suppress(OSError):
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._end()

    def _send(self, data: bytes) -> int:
        if self._backlog is not None:
            return 0  # who came first is sent first
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.kill()
            return len(data)  # nothing of it is to be queued

    def _enqueue_first(self, data: bytes, sent: int) -> None:
        whole = len(data) - sent <= PIECE
        at = 0
        for piece in [memoryview(data)] if whole else frames_of(data, PIECE):
            if sent < at + len(piece):
                rest = max(sent - at, 0)
                if self._backlog is None:
                    self._begin_backlog(is_begun=rest > 0)
                self._append(_Chunk(piece[rest:], trio.current_time(), counts=False, is_first=True))
            at += len(piece)

    def _enqueue(self, data: bytes, sent: int, *, counts: bool) -> None:
        if self._backlog is None:
            self._begin_backlog(is_begun=sent > 0)
        self._append(_Chunk(memoryview(data)[sent:], trio.current_time(), counts))

    def _begin_backlog(self, *, is_begun: bool) -> None:
        self._backlog = deque()
        self.behind.add(self)
        self._pushed = 0
        self._begun = is_begun
        self._nursery.start_soon(self._drain)

    def _append(self, chunk: _Chunk) -> None:
        assert self._backlog is not None
        self._backlog.append(chunk)
        self.pending += len(chunk.data)
        self._pushed += len(chunk.data) if chunk.counts else 0

    def _enqueue_latest(self) -> None:
        latest, self._latest = self._latest, {}
        for data in latest.values():
            self._enqueue(data, 0, counts=True)

    async def _drain(self) -> None:
        try:
            while self._backlog:
                until = self._backlog[0].since + (self.grace if self._slow else self.deadline)
                # Whoever wakes the socket's reader wakes its writer too: it looks again, and waits on.
                with trio.CancelScope(deadline=until) as self._patience, suppress(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(self._socket)
                if self.is_dead:
                    return
                if not self._patience.cancelled_caught:
                    self._flush()
                elif self._slow:
                    self.kill()
                else:
                    self._give_up()
                if not self._backlog and self.is_open:
                    self._enqueue_latest()
            self._backlog = None
            self.behind.discard(self)
            if self._slow:
                self._end()
        finally:
            if self._backlog is not None:
                self.kill()  # cancelled amid a frame

    def _flush(self) -> None:
        assert self._backlog is not None
        try:
            sent = self._socket.sendmsg([chunk.data for chunk in islice(self._backlog, _GATHER)])
        except BlockingIOError:
            return
        except OSError:
            self.kill()
            return
        self._taken += sent
        while self._backlog:
            chunk = self._backlog.popleft()
            data, counts = chunk.data, chunk.counts
            taken = min(sent, len(data))
            sent -= taken
            self.pending -= taken
            self._pushed -= taken if counts else 0
            if taken < len(data):
                self._backlog.appendleft(chunk._replace(data=data[taken:]))
                self._begun = taken > 0
                break
            self._begun = False
            if chunk.is_first:
                self._begin_next()
        while self._writers and self._writers[0][0] <= self._taken:
            self._writers.pop(0)[1].set()

    def _begin_next(self) -> None:
        # What waited behind a replay waited for that, and not for its client.
        assert self._backlog is not None
        now = trio.current_time()
        if self._backlog and self._backlog[0].is_first:
            self._backlog[0] = self._backlog[0]._replace(since=now)
        else:
            self._backlog = deque(chunk._replace(since=now) for chunk in self._backlog)

    def _give_up(self) -> None:
        assert self._backlog is not None
        self._slow = True
        self.is_open = False
        now = trio.current_time()
        begun = [self._backlog[0].data] if self._begun else []
        self._backlog = deque(_Chunk(data, now, False) for data in [*begun, memoryview(_TOO_SLOW_FRAME)])
        self.pending = sum(len(chunk.data) for chunk in self._backlog)
        if self._patience is not None:
            self._patience.deadline = now + self.grace
        if self.on_slow is not None:
            self.on_slow()

    def _end(self) -> None:
        if self.is_dead:
            return
        self.is_dead = True
        self.is_open = False
        self._backlog = None
        self.behind.discard(self)
        self.pending = 0
        for _, done in self._writers:
            done.set()
        self._writers.clear()
        self._on_end()


@attrs.frozen(kw_only=True)
class LatestOutlet:
    """
    An outlet as seen by one topic of which only the latest counts.
    """

    outlet: Conflating
    key: str

    def push(self, data: bytes) -> bool:
        """
        Send now, or, while the client is behind, instead of what was waiting before.
        """
        return self.outlet.push_latest(self.key, data)
