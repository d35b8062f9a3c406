"""The feed: reads newly committed events in commit order, once per node, and hands them on."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import structlog
import trio

from engine.actors.catalog import Brought, CatalogMessage, Told
from engine.actors.effects import EffectMessage, Fed
from engine.actors.episode import EpisodeMessage
from engine.actors.log_actor import LogMessage
from engine.actors.retention import Retention
from engine.actors.topic_log import Committed
from engine.domain.event import JOBS, EpisodeId, Event, LogPlace, Topic, UserId, is_private
from engine.errors import ActorStoppedError, MailboxFullError, ParkedError, StoreUnavailableError
from engine.runtime.mailbox import Mailbox
from engine.runtime.registry import Registry
from engine.store.bell import Bell
from engine.store.events import EventLog

log = structlog.get_logger(__name__)

# Seconds until the log is read again while something told is held back by an older, open transaction.
HELD_BACK = 0.02
# Seconds that what was told is gathered before the log is read: who is nearest knows of it already, and a
# busy house's log is read in fewer, larger pieces.
GATHER = 0.005
# Told events that are kept until they are brought; any more are read.
AT_HAND = 10_000
# Seconds until it is tried again while the database is away.
AWAY = 0.25
# Seconds between two rings at least: a busy node does not wake its peers for every event.
RING_INTERVAL = 0.05


@attrs.define(eq=False, kw_only=True)
class Feed:
    """
    Own how far the event log has been handed on: to watched topics, the catalog and the plugins.

    The object outlives a crash of its task, and with it the place: nothing is left out.
    """

    log: EventLog
    bell: Bell
    episodes: Registry[EpisodeId, EpisodeMessage]
    users: Registry[UserId, LogMessage]
    # The one actor of the topic `jobs`, while somebody listens.
    jobs: Registry[Topic, LogMessage]
    catalog: Mailbox[CatalogMessage]
    effects: Sequence[Mailbox[EffectMessage]]
    retention: Retention
    # Where everything that is committed before the node serves ends; plugins have cursors of their own.
    place: LogPlace
    # Seconds after which the log is read although nothing was heard.
    poll: float
    # Events read at a time.
    batch: int
    # Told what writers on this node commit, first of all.
    on_committed: Callable[[Event], None] | None = None
    # The newest place that a writer on this node told of.
    _told: LogPlace = attrs.field(default=LogPlace(0, 0), init=False)
    # What they told of, until its turn has come; in the order of the telling.
    _at_hand: dict[LogPlace, Event] = attrs.field(factory=dict, init=False)
    # Up to which told place the other nodes were woken, and when.
    _rung: LogPlace = attrs.field(default=LogPlace(0, 0), init=False)
    _rung_at: float = attrs.field(default=-math.inf, init=False)
    # Somebody wants the other nodes to be woken in any case.
    _must_ring: bool = attrs.field(default=False, init=False)
    # It was woken by others than writers on this node.
    _hurried: bool = attrs.field(default=False, init=False)
    # Seconds until the log is read again, although nothing was heard: what it was woken for may be held back.
    _again: float = attrs.field(default=math.inf, init=False)
    # Set when there may be something to read.
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)
    # The newest event of each topic whose actor had no room; it fetches the rest by itself.
    _owed: dict[Topic, Event] = attrs.field(factory=dict, init=False)

    def committed(self, *events: Event) -> None:
        """
        A writer on this node has committed events: tell who is nearest, without waiting for anybody.

        What finds no room is brought later, from the log.
        """
        if not events:
            return
        for event in events:
            if self.on_committed is not None:
                self.on_committed(event)
            self._told = max(self._told, event.place)
            if event.place > self.place and len(self._at_hand) < AT_HAND:
                self._at_hand[event.place] = event
            with suppress(MailboxFullError, ParkedError, ActorStoppedError):
                self._tell_running(event)
        if public := tuple(event for event in events if not is_private(event.topic)):
            with suppress(MailboxFullError, ActorStoppedError):
                self.catalog.tell_nowait(Told(public))
        self._wake.set()

    def wake(self) -> None:
        """
        Read the log now.
        """
        self._hurried = True
        self._wake.set()

    def ring(self) -> None:
        """
        Wake the other nodes soon, although nothing was committed to the log.
        """
        self._must_ring = True
        self.wake()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Read and hand on until cancelled.
        """
        task_status.started()
        while True:
            self._wake = trio.Event()
            try:
                while len(events := await self._read()) == self.batch:
                    await self._hand_on(events)
                await self._hand_on(events)
                await self._ring()
            except StoreUnavailableError as error:
                log.warning("the feed waits for the database", reason=str(error))
                await trio.sleep(AWAY)
                continue
            with trio.move_on_after(self._patience()):
                await self._wake.wait()
                if not self._hurried:
                    await trio.sleep(GATHER)
            if self._hurried:
                # By somebody who named no place: a plugin, another node.
                self._again = HELD_BACK
            self._hurried = False

    async def _read(self) -> list[Event]:
        return await self.log.after(self.place, self.batch, self._at_hand)

    def _patience(self) -> float:
        if self._told > self.place:
            return HELD_BACK
        again, self._again = self._again, 2 * self._again
        return min(again, RING_INTERVAL if self._has_to_ring() else self.poll)

    def _has_to_ring(self) -> bool:
        return self._must_ring or self._told > self._rung

    async def _ring(self) -> None:
        if self._has_to_ring() and trio.current_time() >= self._rung_at + RING_INTERVAL:
            self._rung, self._rung_at, self._must_ring = self._told, trio.current_time(), False
            await self.bell.ring()

    async def _hand_on(self, events: list[Event]) -> None:
        self._settle_debts()
        if not events:
            return
        self._again = math.inf
        for event in events:
            self._bring(event)
            self.retention.note(event)
            self._at_hand.pop(event.place, None)
        # Room is waited for: the catalog waits for nothing but its subscribers' kernels.
        if public := tuple(event for event in events if not is_private(event.topic)):
            await self.catalog.tell(Brought(public))
        # Not before the catalog has them: cut off while it waits, the next life brings them.
        after, self.place = self.place, events[-1].place
        # Cut before they were read.
        while self._at_hand and (oldest := next(iter(self._at_hand))) <= self.place:
            del self._at_hand[oldest]
        fed = Fed(after=after, events=tuple(events))
        for mailbox in self.effects:
            # A plugin that is behind reads the log by itself.
            with suppress(MailboxFullError, ActorStoppedError):
                mailbox.tell_nowait(fed)

    def _bring(self, event: Event) -> None:
        try:
            self._tell_running(event)
        except MailboxFullError:
            self._owed[event.topic] = event
        except (ParkedError, ActorStoppedError):
            return  # its next life begins at what its subscribers heard last

    def _settle_debts(self) -> None:
        owed, self._owed = self._owed, {}
        for event in owed.values():
            self._bring(event)

    def _tell_running(self, event: Event) -> None:
        kind, _, key = event.topic.partition(":")
        if kind == "episode":
            self.episodes.tell_running_nowait(EpisodeId(key), Committed(event))
        elif event.topic == JOBS:
            self.jobs.tell_running_nowait(JOBS, Committed(event))
        else:
            self.users.tell_running_nowait(UserId(key), Committed(event))
