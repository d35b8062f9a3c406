"""What one event stream has not been sent yet, within a bound. Knows neither HTTP nor topics."""

from collections import deque

import attrs
import trio

# What was missed is told before the stream begins, and may be more than may wait later.
REPLAY_SHARE = 16


@attrs.define(eq=False, kw_only=True)
class StreamOutlet:
    """
    Own the records that wait for one stream's writer: at most `limit` bytes once the stream has begun.

    Who falls further behind is too slow: nothing more is taken, and what waits is dropped. A crash loses
    what waits; the client comes back with its last id.
    """

    limit: int
    is_slow: bool = attrs.field(default=False, init=False)
    _waiting: deque[bytes] = attrs.field(factory=deque, init=False)
    # Of what waits, the bytes that count: those of before the beginning do not, once it has begun.
    _bytes: int = attrs.field(default=0, init=False)
    _begun: bool = attrs.field(default=False, init=False)
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)

    def push(self, data: bytes) -> bool:
        """
        Send soon; False when this client is too slow.
        """
        if self.is_slow:
            return False
        self._waiting.append(data)
        self._bytes += len(data)
        if self._bytes > (self.limit if self._begun else self.limit * REPLAY_SHARE):
            self.is_slow = True
            self._waiting.clear()
            self._bytes = 0
        self.wake()
        return not self.is_slow

    def push_latest(self, key: str, data: bytes) -> bool:
        """
        The same: who listens by a stream is present nowhere, and presence is all that is conflated.
        """
        return self.push(data)

    def begin(self) -> None:
        """
        From now on somebody takes.
        """
        self._begun = True
        self._bytes = 0

    def wake(self) -> None:
        """
        Let the writer look for what it has to do.
        """
        self._news.set()

    async def wait_news(self) -> None:
        """
        Wait for records, or for `wake`.
        """
        await self._news.wait()
        self._news = trio.Event()

    def take_nowait(self) -> bytes:
        """
        Everything that waits.
        """
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return data
