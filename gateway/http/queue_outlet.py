"""The outlet of connections that cannot be written to directly (TLS, HTTP/2): a bounded queue."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio


@attrs.define(eq=False, kw_only=True)
class QueueOutlet:
    """
    Own what one client has not been sent yet: at most `limit` bytes, besides what was pushed while nothing
    waited: a replay is bounded by who pushes it.

    A client that falls further behind is too slow: nothing more is taken, and `wait_slow` returns. Who has
    the last word says it by `finish`.
    """

    limit: int
    split: Callable[[bytes], Sequence[str]]
    # Each with how much of it counts.
    _waiting: deque[tuple[bytes, int]] = attrs.field(factory=deque, init=False)
    # The latest of each key, while something waits.
    _latest: dict[str, bytes] = attrs.field(factory=dict, init=False)
    _is_sending: bool = attrs.field(default=False, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)
    _slow: trio.Event = attrs.field(factory=trio.Event, init=False)
    # The last message was put in; and was sent.
    _is_shut: bool = attrs.field(default=False, init=False)
    _finished: trio.Event = attrs.field(factory=trio.Event, init=False)

    def push(self, data: bytes) -> bool:
        """
        Send soon; False when this client is too slow, or the last was said.
        """
        if self._slow.is_set() or self._is_shut:
            return False
        counted = len(data) if self._waiting or self._is_sending else 0
        self._waiting.append((data, counted))
        self._bytes += counted
        if self._bytes > self.limit:
            self._slow.set()
            self._waiting.clear()
            return False
        self._news.set()
        return True

    def push_latest(self, key: str, data: bytes) -> bool:
        """
        The same for what only counts as long as nothing newer is there.
        """
        if not self._waiting and not self._is_sending:
            return self.push(data)
        if self._slow.is_set() or self._is_shut:
            return False
        self._latest[key] = data
        return True

    async def write(self, send: Callable[[str], Awaitable[None]]) -> None:
        """
        Send what is pushed, message by message, until cancelled.
        """
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._waiting:
                data, counted = self._waiting.popleft()
                self._is_sending = True
                for message in self.split(data):
                    await send(message)
                self._is_sending = False
                self._bytes -= counted
                if not self._waiting:
                    self._push_latest_ones()
            if self._is_shut:
                self._finished.set()

    async def finish(self, last: bytes) -> None:
        """
        Send this behind what waits and take nothing more; returns when it is sent, at once if the client is
        too slow for it. Whoever calls owns the deadline.
        """
        self._push_latest_ones()
        if self.push(last):
            self._is_shut = True
            await self._finished.wait()
        else:
            await trio.lowlevel.checkpoint()

    async def wait_slow(self) -> None:
        """
        Return when the client has proved too slow.
        """
        await self._slow.wait()

    def _push_latest_ones(self) -> None:
        latest, self._latest = self._latest, {}
        for newest in latest.values():
            self.push(newest)
