"""Retention: cuts the event log by age and by count, in the background, a little at a time."""

import attrs
import structlog
import trio

from engine.domain.event import Event, Topic
from engine.errors import StoreUnavailableError
from engine.store.events import EventLog
from engine.store.socket_rooms import SocketRooms

log = structlog.get_logger(__name__)

# Events cut by one statement: bounded work, bounded locks.
STEP = 1000
# Topics remembered as too long; one that is forgotten is noticed again at its next event.
LONG_TOPICS = 10_000


@attrs.define(eq=False, kw_only=True)
class Retention:
    """
    Own which topics have grown too long.

    Never cuts what a plugin has still to handle. A crash loses nothing that is not noticed again.
    """

    log: EventLog
    # Seconds that an event is kept, and events that a topic keeps.
    age: float
    count: int
    # Seconds between two rounds.
    interval: float
    # What is kept for clients that return lives as long as what they could be told.
    rooms: SocketRooms | None = None
    _long: dict[Topic, None] = attrs.field(factory=dict, init=False)

    def note(self, event: Event) -> None:
        """
        Take note of a committed event.
        """
        if event.offset > self.count and len(self._long) < LONG_TOPICS:
            self._long[event.topic] = None

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Cut, a round each interval, until cancelled.
        """
        task_status.started()
        while True:
            await trio.sleep(self.interval)
            try:
                await self._round()
            except StoreUnavailableError as error:
                log.warning("nothing is cut while the database is away", reason=str(error))

    async def _round(self) -> None:
        if self.rooms is not None:
            await self.rooms.expire(self.age)
        while await self.log.cut_by_age(self.age, STEP) == STEP:
            pass
        topics, self._long = self._long, {}
        for topic in topics:
            while await self.log.cut_by_count(topic, self.count, STEP) == STEP:
                pass
