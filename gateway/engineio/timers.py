"""What is to be done when: one task for the deadlines of all sessions, none for each."""

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from math import inf

import attrs
import structlog
import trio

log = structlog.get_logger(__name__)

# Timers among which nobody looks for those that were cancelled.
MANY = 1000


@attrs.define(eq=False)
class Timer:
    """
    Something to be done once, unless it is cancelled.
    """

    _call: Callable[[], None] | None

    @property
    def is_cancelled(self) -> bool:
        """
        It will not be done, or has been.
        """
        return self._call is None

    def cancel(self) -> None:
        """
        Do not do it; also after it was done.
        """
        self._call = None

    def fire(self) -> None:
        """
        Do it.
        """
        call, self._call = self._call, None
        if call is not None:
            call()


@attrs.define(eq=False)
class Timers:
    """
    Own the deadlines. They are points in time: a late task does not make the next one later.
    """

    _heap: list[tuple[float, int, Timer]] = attrs.field(factory=list, init=False)
    # When there are so many, those that were cancelled are thrown out: some would be due in years.
    _many: int = attrs.field(default=MANY, init=False)
    _numbers: Iterator[int] = attrs.field(factory=count, init=False)
    _earlier: trio.Event = attrs.field(factory=trio.Event, init=False)

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """
        Call at this time of Trio's clock. The call must not block.
        """
        timer = Timer(call)
        if not self._heap or when < self._heap[0][0]:
            self._earlier.set()
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if len(self._heap) > self._many:
            self._sweep()
        return timer

    def __len__(self) -> int:
        """
        How many timers are kept, with those that were cancelled and not thrown out yet.
        """
        return len(self._heap)

    async def run(self) -> None:
        """
        Keep the deadlines until cancelled.
        """
        while True:
            self._earlier = trio.Event()
            with trio.move_on_at(self._heap[0][0] if self._heap else inf):
                await self._earlier.wait()
            await trio.lowlevel.checkpoint()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                timer = heapq.heappop(self._heap)[2]
                try:
                    timer.fire()
                except Exception:
                    log.exception("what was due has failed")

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if not entry[2].is_cancelled]
        heapq.heapify(self._heap)
        # Seldom enough that each timer pays for it about once.
        self._many = max(MANY, 2 * len(self._heap))
