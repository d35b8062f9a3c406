"""The outlet of one Engine.IO session, whatever its transport. Knows neither HTTP nor what it carries."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs
import trio


class DirectOutlet(Protocol):
    """
    An outlet that writes to a socket by itself.
    """

    # Whether `push` is welcome.
    is_open: bool

    def push(self, data: bytes) -> bool: ...

    def push_latest(self, key: str, data: bytes) -> bool: ...


@attrs.define(eq=False, kw_only=True)
class EngineOutlet:
    """
    Own what one session has not been sent yet, until it may write to a socket directly.

    A client for which over `limit` bytes wait already when more comes is too slow: nothing more is taken,
    what waits is dropped. What is pushed while nothing waits, as a replay is, is bounded by who pushes it,
    and does not count.
    A crash loses what waits; the client comes back with its position.
    """

    limit: int
    # Told once when the client proves too slow; must do it later: whoever pushes is in the middle of it.
    on_slow: Callable[[], None] | None = None
    is_slow: bool = attrs.field(default=False, init=False)
    # Whether `push` is welcome: until the session ends.
    is_open: bool = attrs.field(default=True, init=False)
    _direct: DirectOutlet | None = attrs.field(default=None, init=False)
    _waiting: deque[bytes] = attrs.field(factory=deque, init=False)
    # The latest of each key, while something waits; bounded by what a session may be present on.
    _latest: dict[str, bytes] = attrs.field(factory=dict, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def is_empty(self) -> bool:
        """
        Nothing waits.
        """
        return not self._waiting

    def push(self, data: bytes) -> bool:
        """
        Send soon; False when this client is gone or too slow.
        """
        if not self.is_open:
            return False
        if self._direct is not None:
            return self._direct.push(data)
        if self.is_slow or self._bytes > self.limit:
            self._give_up()
            return False
        if not data:
            return True
        self._bytes += len(data) if self._waiting else 0
        self._waiting.append(data)
        self._news.set()
        return True

    def push_latest(self, key: str, data: bytes) -> bool:
        """
        The same for what only counts as long as nothing newer is there.
        """
        if not self.is_open:
            return False
        if self._direct is not None:
            return self._direct.push_latest(key, data)
        if self.is_slow or not self._waiting:
            return self.push(data)
        self._latest[key] = data
        return True

    def connect(self, direct: DirectOutlet) -> None:
        """
        From now on write to a socket: first what waits, then everything at once.
        """
        waiting = b"".join(self.take_nowait())
        self._direct = direct
        if waiting:
            direct.push(waiting)
        self._news.set()

    def take_nowait(self) -> list[bytes]:
        """
        Everything that waits, in order.
        """
        taken = [*self._waiting, *self._latest.values()]
        self._waiting.clear()
        self._latest.clear()
        self._bytes = 0
        return taken

    def _give_up(self) -> None:
        if not self.is_slow:
            self.is_slow = True
            self._waiting.clear()
            self._latest.clear()
            self._news.set()
            if self.on_slow is not None:
                self.on_slow()

    def wake(self) -> None:
        """
        Let whoever waits for news look for what there is to do.
        """
        self._news.set()

    async def wait_news(self) -> None:
        """
        Wait until something waits, the client proves too slow, or `wake`.
        """
        if not self._waiting:
            await self._news.wait()
        self._news = trio.Event()
