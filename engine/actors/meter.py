"""Measures what no part knows by itself: how soon commits are on screens, frames a second, the loop, lags."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import structlog
import trio

from engine.actors.effects import EffectActor
from engine.actors.feed import Feed
from engine.actors.messages import Channels, Message, event_in
from engine.domain.event import Event, EventId, Topic
from engine.errors import StoreUnavailableError
from engine.runtime.gauges import Histogram, Turns
from engine.store.cursors import Cursors
from engine.store.job_list import JobList

log = structlog.get_logger(__name__)

# Seconds between two looks.
INTERVAL = 1.0
# Looks between two counts of how far plugins are behind: a query for each that is.
LOOKS_PER_LAG = 5
# Looks between two counts of the jobs that wait: a query that looks at each of them.
LOOKS_PER_COUNT = 15
# Looks that "the longest of late" remembers.
REMEMBERED = 10
# Commits whose publication is awaited; more are not measured.
AWAITED = 10_000


@attrs.define(eq=False, kw_only=True)
class Meter:
    """
    Own the measurements. A crash loses those under way; the object, and with it every count, outlives it.
    """

    hub: Channels
    feed: Feed
    cursors: Cursors
    job_list: JobList
    effects: Mapping[str, EffectActor]
    # Seconds from the commit of an event by this node to its first push to all who listen.
    commit_to_frame: Histogram = attrs.field(factory=Histogram, init=False)
    frames_per_second: float = attrs.field(default=0.0, init=False)
    # Events that each plugin has still to handle, as last counted.
    lag: dict[str, int] = attrs.field(factory=dict, init=False)
    # Jobs that have not ended, by type and state, as last counted.
    jobs: dict[tuple[str, str], int] = attrs.field(factory=dict, init=False)
    # When events were committed that are on nobody's screen yet.
    _committed: OrderedDict[EventId, float] = attrs.field(factory=OrderedDict, init=False)
    _turns: Turns = attrs.field(factory=Turns, init=False)
    _longest: deque[float] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED), init=False)

    def __attrs_post_init__(self) -> None:
        self.lag = dict.fromkeys(self.effects, 0)

    @property
    def loop_lag(self) -> float:
        """
        The longest turn of the event loop in the last ten seconds, in seconds.
        """
        return max((*self._longest, self._turns.longest))

    def committed(self, event: Event) -> None:
        """
        A writer on this node has committed an event.
        """
        if len(self._committed) >= AWAITED:
            # Nobody listens to it, or never will: the oldest is forgotten.
            self._committed.popitem(last=False)
        self._committed[event.id] = trio.current_time()

    def published(self, topic: Topic, messages: Sequence[Message], delivered: int) -> None:
        """
        The hub has pushed messages of a topic to so many outlets.
        """
        if not delivered:
            return
        for message in messages:
            event = event_in(message)
            at = None if event is None else self._committed.pop(event.id, None)
            if at is not None:
                self.commit_to_frame.observe(trio.current_time() - at)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Look once a second, until cancelled.
        """
        with self._watching():
            task_status.started()
            looks = 0
            before, at = self.hub.statistics().deliveries_total, trio.current_time()
            while True:
                await trio.sleep(INTERVAL)
                self._longest.append(self._turns.take())
                now, then = self.hub.statistics().deliveries_total, trio.current_time()
                self.frames_per_second = (now - before) / (then - at)
                before, at = now, then
                looks += 1
                if looks % LOOKS_PER_LAG == 0:
                    await self._count_lag()
                if looks % LOOKS_PER_COUNT == 1:
                    await self._count_jobs()

    async def _count_jobs(self) -> None:
        try:
            counts = await self.job_list.counts()
        except StoreUnavailableError as error:
            log.debug("nobody counts the jobs that wait", reason=str(error))
        else:
            # What there was once stays, at 0: a line that ends looks like a node that went.
            self.jobs = {**dict.fromkeys(self.jobs, 0), **{(k, s.value): n for (k, s), n in counts.items()}}

    async def _count_lag(self) -> None:
        try:
            for name, actor in self.effects.items():
                is_behind = actor.cursor.place < self.feed.place
                self.lag[name] = await self.cursors.lag(actor.cursor.place) if is_behind else 0
        except StoreUnavailableError as error:
            log.debug("nobody counts how far plugins are behind", reason=str(error))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        trio.lowlevel.add_instrument(self._turns)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self._turns)
            self.frames_per_second = 0.0
