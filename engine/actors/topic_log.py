"""The order in which a topic's subscribers hear its events; how one who returns is brought up to date."""

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import attrs
import trio

from conf.settings import Realtime
from engine.actors.messages import Channels, Message, Subscribed
from engine.domain.event import Epoch, Event, Offset, Position, Topic
from engine.domain.presence import SessionId
from engine.errors import StoreUnavailableError
from engine.runtime.hub import Format, Outlet
from engine.runtime.mailbox import Reply
from engine.store.events import EventLog

# Events fetched at a time to fill a gap.
FILL = 500
# Seconds until it is tried again while the database is away.
AWAY = 0.5

T = TypeVar("T")

# Answers the topic's present state as clients are shown it, and the latest offset that it includes.
Snapshot = Callable[[], Awaitable[tuple[Offset, dict[str, object]]]]


@attrs.frozen
class Committed:
    """
    An event of the topic was committed.
    """

    event: Event


@attrs.frozen(kw_only=True)
class Subscribe:
    """
    A session wants to hear of the topic, from its position on or from now. Answered when it does, or with
    StoreUnavailableError.
    """

    session: SessionId
    outlet: Outlet
    format: Format[Message]
    since: Position | None
    wants_snapshot: bool
    # Whether the catalog leaves to this topic also what the session had heard of it before that position.
    owns_past: bool = False
    reply: Reply[None]


@attrs.frozen(kw_only=True)
class Unsubscribe:
    """
    A session wants to hear of the topic no more. Answered when it has been told all that went before.
    """

    session: SessionId
    reply: Reply[None]


@attrs.define(eq=False, kw_only=True)
class TopicLog:
    """
    Own how far one topic's subscribers have heard its log, and the newest of its events.

    A part of an actor, used by its task alone. A crash loses nothing: how far they have heard is also in
    the hub, and the events are in the store.
    """

    topic: Topic
    epoch: Epoch
    hub: Channels
    log: EventLog
    # The latest offset of the topic's log, as the store has it; 0 when there is none yet.
    head: Callable[[], Awaitable[Offset]]
    snapshot: Snapshot
    # The most events that a returning client is sent; who missed more gets a snapshot.
    replay_limit: int
    # The most bytes of them, likewise; nothing else bounds what one of them waits for.
    replay_size: int
    # The newest published events, without a hole; bounded by its maxlen.
    ring: deque[Event]
    next: Offset = attrs.field(default=Offset(1), init=False)
    # Events that overtook an earlier one; emptied as soon as the gap is filled.
    _early: dict[Offset, Event] = attrs.field(factory=dict, init=False)

    def retune(self, realtime: Realtime) -> None:
        """
        Keep as many of the newest events, and send a returning client as much at most, as these settings say.
        """
        self.replay_limit, self.replay_size = realtime.replay_limit, realtime.replay_size
        self.ring = deque(self.ring, maxlen=realtime.replay_ring)

    async def begin(self) -> None:
        """
        Find out where to begin: after a crash behind what subscribers heard last, else behind now.
        """
        head = await patiently(self.head)
        heard = self.hub.position(self.topic)
        self.next = Offset((head if heard is None else heard) + 1)
        await self._load_ring()
        await self.catch_up(head)

    def note(self, event: Event) -> None:
        """
        Take what was told or brought; what was published already is brought again, and dropped.
        """
        if event.offset >= self.next:
            self._early[event.offset] = event

    async def publish_ready(self) -> None:
        """
        Publish what was noted, in offset order; what is missing in between comes from the store first.
        """
        if not self._early:
            return
        latest = max(self._early)
        if len(self._early) <= latest - self.next:
            await self.catch_up(latest)
            return
        await self._publish([self._early.pop(Offset(number)) for number in range(self.next, latest + 1)])

    async def catch_up(self, until: Offset) -> None:
        """
        Publish everything up to `until` from the store.
        """
        while self.next <= until:
            # No more than that: a snapshot must not be older than its position.
            count = min(FILL, until - self.next + 1)
            missing = await patiently(partial(self.log.since, self.topic, Offset(self.next - 1), count))
            if not missing or not _is_whole(missing, self.next):
                await self._start_over()
                break
            await self._publish(missing)
        self._early = {offset: event for offset, event in self._early.items() if offset >= self.next}

    async def check_position(self) -> None:
        """
        Find out whether anything was committed that nobody told of; if so, publish it.
        """
        with suppress(StoreUnavailableError):
            await self.catch_up(await self.head())

    async def subscribe(self, wish: Subscribe) -> None:
        """
        Let a session in: `subscribed` and what it missed in one write, then live, nothing in between.
        """
        await self.publish_ready()
        try:
            await self._subscribe(wish)
        except StoreUnavailableError as error:
            wish.reply.fail(error)

    async def unsubscribe(self, wish: Unsubscribe) -> None:
        """
        Let a session go; the catalog may already have left to it to hear here what was told before.
        """
        await self.publish_ready()
        self.hub.unsubscribe(self.topic, wish.session)
        wish.reply.set(None)

    async def _subscribe(self, wish: Subscribe) -> None:
        # Before the replay: it may find, and publish, more that was missed.
        snapshot = await self._present() if wish.wants_snapshot else None
        missed, recovered = await self._recover(wish.since)
        replay = b"".join(map(wish.format.encode, missed))
        if len(replay) > self.replay_size:
            replay, recovered = b"", False
        if wish.since is not None and not recovered and snapshot is None:
            snapshot = await self._present()
        position = Position(Offset(self.next - 1), self.epoch)
        first = Subscribed(topic=self.topic, recovered=recovered, position=position, snapshot=snapshot)
        # No checkpoint from here on: nothing may be published between the replay and the subscription.
        # Nobody would end the subscription of a session that has ended, or was told to try later.
        if not wish.reply.given_up and wish.outlet.push(wish.format.encode(first) + replay):
            # What it hears here from there on, the catalog need not tell it.
            heard = position.offset
            if recovered and wish.since is not None:
                heard = Offset(0) if wish.owns_past else wish.since.offset
            self.hub.subscribe(self.topic, wish.session, wish.outlet, wish.format, after=heard)
            # After the subscription: the hub knows no topic without one, and would forget it.
            self.hub.note_position(self.topic, position.offset)
            self.hub.note_heard(self.topic, position.offset)
        wish.reply.set(None)

    async def _present(self) -> dict[str, object]:
        shown, snapshot = await self.snapshot()
        # What it shows must not be told once more after it.
        await self.catch_up(shown)
        return snapshot

    async def _recover(self, since: Position | None) -> tuple[list[Event], bool]:
        """
        The published events after a position, and whether they are all there is.
        """
        if since is None or since.epoch != self.epoch:
            return [], False
        count = self.next - 1 - since.offset
        if not 0 <= count <= self.replay_limit:
            return [], False
        if count == 0:
            return [], True
        if self.ring and self.ring[0].offset <= since.offset + 1:
            return [event for event in self.ring if event.offset > since.offset], True
        events = await self.log.since(self.topic, since.offset, count)
        # Retention may have cut them, and what is not published yet may be there in their stead.
        return (events, True) if len(events) == count and _is_whole(events, since.offset + 1) else ([], False)

    async def _load_ring(self) -> None:
        # So that those who return after a restart, all at once, need not ask the store one by one.
        assert self.ring.maxlen is not None
        first = Offset(max(0, self.next - 1 - self.ring.maxlen))
        if self.next - 1 > first:
            count = self.next - 1 - first
            newest = await patiently(partial(self.log.since, self.topic, first, count))
            # Where retention has cut, the same count reaches further, into what is still to be published.
            heard = [event for event in newest if event.offset < self.next]
            if heard and _is_whole(heard, heard[0].offset):
                self.ring.extend(heard)

    async def _start_over(self) -> None:
        """
        Retention has cut what subscribers are owed: say so, and show them the present state instead.
        """
        shown, snapshot = await patiently(self.snapshot)
        # For the reason given in `_publish`.
        await trio.lowlevel.checkpoint_if_cancelled()
        self.next = Offset(shown + 1)
        self.ring.clear()
        self.hub.note_position(self.topic, shown)
        position = Position(shown, self.epoch)
        reset = Subscribed(topic=self.topic, recovered=False, position=position, snapshot=snapshot)
        await self.hub.publish_fairly(self.topic, [reset])
        self.hub.note_heard(self.topic, shown)

    async def _publish(self, events: list[Event]) -> None:
        # Nothing is noted as heard that will not be pushed: publishing is not cancelled once it has begun.
        await trio.lowlevel.checkpoint_if_cancelled()
        # The position first: if publishing fails in the middle, nobody is told anything twice.
        self.next = Offset(events[-1].offset + 1)
        self.hub.note_position(self.topic, events[-1].offset)
        self.ring.extend(events)
        await self.hub.publish_fairly(self.topic, events)
        self.hub.note_heard(self.topic, events[-1].offset)


def _is_whole(events: list[Event], first: int) -> bool:
    """
    Whether these events begin with that offset and have no hole.
    """
    return events[0].offset == first and events[-1].offset == first + len(events) - 1


async def patiently(read: Callable[[], Awaitable[T]]) -> T:
    """
    Read as soon as the database lets us. An outage is no crash: a supervisor would park the actor for it.
    """
    while True:
        try:
            return await read()
        except StoreUnavailableError:
            await trio.sleep(AWAY)
