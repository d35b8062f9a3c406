"""The actor of the topic `catalog`: every event of every episode, for the list page."""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import assert_never

import attrs
import trio

from engine.actors.messages import Channels, Listed, Message, Reached, Subscribed
from engine.actors.topic_log import patiently
from engine.domain.event import CATALOG, CatalogPosition, Epoch, Event, EventId, LogPlace, Offset, Topic
from engine.domain.presence import SessionId
from engine.domain.runs import Runs
from engine.errors import StoreUnavailableError
from engine.runtime.hub import Format, Outlet, hears
from engine.runtime.mailbox import Mailbox, Reply
from engine.store.events import EventLog

TURN = 256
# Events told by their writers before the feed brought them; beyond it one waits for the feed.
AHEAD = 10_000
# Episodes whose latest offset is known; of any other, what is told waits for the feed.
KNOWN = 10_000
# Beyond every place.
ANYWHERE = LogPlace(2**63 - 1, 2**63 - 1)

Snapshot = Callable[[], Awaitable[dict[str, object]]]


@attrs.frozen
class Told:
    """
    A writer on this node says what it has just committed: early, in no certain order, not guaranteed.
    """

    events: tuple[Event, ...]


@attrs.frozen
class Brought:
    """
    The feed brings what was committed: all of it, in commit order.
    """

    events: tuple[Event, ...]


@attrs.frozen(kw_only=True)
class SubscribeCatalog:
    """
    A session wants to hear of everything, from its position on or from now. Answered when it does, or with
    StoreUnavailableError.
    """

    session: SessionId
    outlet: Outlet
    format: Format[Message]
    # What the client is told first, of where its subscription begins; None when it is told nothing.
    opening: Callable[[Subscribed], bytes] | None
    reply: Reply[None]
    since: CatalogPosition | None = None
    wants_snapshot: bool = False
    # Whether who cannot be told what it missed is shown the present state instead.
    wants_amends: bool = True
    # Whether what was missed of an episode is left to its own topic, if the session is subscribed to that.
    # Else it is told here, too: somebody may listen to the catalog alone, on the same connection.
    leaves_out_own: bool = False


CatalogMessage = Told | Brought | SubscribeCatalog


@attrs.define(eq=False, kw_only=True)
class CatalogActor:
    """
    Own which events the catalog has heard of, so that it hears of each once.

    Events go out as soon as they are told. The position that clients are given is the feed's place: whoever
    returns with it gets everything after it, a few events perhaps again; their ids tell. The object
    outlives a crash of its task, and with it this knowledge. What the turn that crashed had not told is made
    good by a snapshot.
    """

    mailbox: Mailbox[CatalogMessage]
    hub: Channels
    log: EventLog
    epoch: Epoch
    snapshot: Snapshot
    # As far as the feed has brought events: what is told later than it was brought is old.
    brought: LogPlace
    # The most events that a returning client is sent; who missed more gets a snapshot.
    replay_limit: int
    # The most bytes of them, likewise.
    replay_size: int
    # The newest brought events, in commit order, without a hole; bounded by its maxlen.
    ring: deque[Event]
    # Seconds between two messages that tell the position, at least.
    position_interval: float
    # Published ahead of the feed; each leaves when the feed brings it.
    _ahead: dict[EventId, Event] = attrs.field(factory=dict, init=False)
    # Their numbers.
    _beyond: Runs = attrs.field(factory=Runs, init=False)
    # The latest published offset of each episode that was heard of lately: a list that shows an older state
    # after a newer one would be wrong until somebody looks.
    _latest: OrderedDict[Topic, Offset] = attrs.field(factory=OrderedDict, init=False)
    # When subscribers are to be told their position; None when they know.
    _position_at: float | None = attrs.field(default=None, init=False)
    _loaded: bool = attrs.field(default=False, init=False)
    # What the present turn has still to handle; and whether it was broken off, so that what it had taken may
    # not have been told.
    _turn: deque[CatalogMessage] = attrs.field(factory=deque, init=False)
    _broken: bool = attrs.field(default=False, init=False)
    # The present state, as somebody was shown it since the last event was published: everybody else is
    # shown the same until the next is.
    _shown: dict[str, object] | None = attrs.field(default=None, init=False)
    # As far as what was brought has been pushed to all.
    _told_to: LogPlace = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._told_to = self.brought

    @property
    def position(self) -> CatalogPosition:
        """
        Where those stand who have heard everything that was published.
        """
        return CatalogPosition(self.brought, self.epoch)

    @property
    def told(self) -> CatalogPosition:
        """
        Where everybody stands, also while more is being published: some have not heard that yet.
        """
        return CatalogPosition(self._told_to, self.epoch)

    @property
    def heard(self) -> CatalogPosition:
        """
        The same to the last event: with those that are ahead of the feed.
        """
        return CatalogPosition(self.brought, self.epoch, self._beyond.frozen())

    def retune(self, *, ring: int, replay_limit: int, replay_size: int, position_interval: float) -> None:
        """
        Keep so many of the newest events, send so many and so much at most, and tell the position so often.
        """
        self.ring = deque(self.ring, maxlen=ring)
        self.replay_limit, self.replay_size = replay_limit, replay_size
        self.position_interval = position_interval

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Publish until cancelled.
        """
        with self.mailbox.serving():
            task_status.started()
            if self._broken:
                await self._start_over()
            while True:
                message = None
                with trio.move_on_at(float("inf") if self._position_at is None else self._position_at):
                    message = await self.mailbox.receive()
                if message is None:
                    self._position_at = None
                    reached = Reached(topic=CATALOG, position=self.position, heard=self.heard)
                    await self.hub.publish_fairly(CATALOG, [reached])
                else:
                    self._turn.extend((message, *self.mailbox.drain_nowait(TURN - 1)))
                    await self._handle_turn()

    async def _handle_turn(self) -> None:
        self._broken = True
        ready: list[Listed] = []
        while self._turn:
            match message := self._turn.popleft():
                case Told(events):
                    for event in events:
                        ready += self._told(event)
                case Brought(events):
                    ready += self._bring(events)
                case SubscribeCatalog():
                    await self._publish(ready)
                    ready = []
                    try:
                        await self._subscribe(message)
                    except StoreUnavailableError as error:
                        message.reply.fail(error)
                case _:
                    assert_never(message)
        await self._publish(ready)
        self._broken, self._told_to = False, self.brought

    async def _start_over(self) -> None:
        """
        The life before ended within a turn: show everyone the present state, and handle the rest of the turn.
        """
        # Whoever wished to subscribe was told to ask again.
        self._turn = deque(message for message in self._turn if not isinstance(message, SubscribeCatalog))
        # It may have a hole; the log has none.
        self.ring.clear()
        self._loaded = False
        snapshot = await patiently(self.snapshot)
        reset = Subscribed(topic=CATALOG, recovered=False, position=self.position, snapshot=snapshot)
        await self.hub.publish_fairly(CATALOG, [reset])
        await self._handle_turn()

    def _told(self, event: Event) -> list[Listed]:
        if event.place <= self.brought or event.id in self._ahead or len(self._ahead) >= AHEAD:
            return []
        if event.offset != self._latest.get(event.topic, 0) + 1:
            return []  # it has overtaken another one; the feed brings both
        self._ahead[event.id] = event
        self._beyond.add(event.place.seq)
        self._publishing(event)
        return [Listed(event, self.heard)]

    def _bring(self, events: tuple[Event, ...]) -> list[Listed]:
        new = []
        # A feed that was cut off while it handed these over brings them once more.
        events = tuple(event for event in events if event.place > self.brought)
        for event in events:
            # Whoever has heard this one has heard all before it: they are published in this order.
            self.brought = event.place
            if self._ahead.pop(event.id, None) is None:
                self._publishing(event)
                new.append(Listed(event, self.heard))
            else:
                self._beyond.discard(event.place.seq)
        self.ring.extend(events)
        if self._position_at is None:
            self._position_at = trio.current_time() + self.position_interval
        return new

    def _publishing(self, event: Event) -> None:
        self._latest[event.topic] = max(event.offset, self._latest.get(event.topic, event.offset))
        self._latest.move_to_end(event.topic)
        while len(self._latest) > KNOWN:
            self._latest.popitem(last=False)

    async def _subscribe(self, wish: SubscribeCatalog) -> None:
        missed, recovered = await self._recover(wish.since)
        if wish.leaves_out_own:
            missed = [listed for listed in missed if not self._hears_itself(wish.session, listed.event)]
        replay = b"" if wish.opening is None else b"".join(map(wish.format.encode, missed))
        if len(replay) > self.replay_size:
            replay, recovered = b"", False
        snapshot = None
        if wish.wants_snapshot or (wish.wants_amends and wish.since is not None and not recovered):
            # A crowd that returns would otherwise hold up the fan-out for a read of each.
            snapshot = self._shown = self._shown or await self.snapshot()
        first = Subscribed(topic=CATALOG, recovered=recovered, position=self.position, snapshot=snapshot)
        # No checkpoint from here on: nothing may be published between the replay and the subscription.
        # Nobody would end the subscription of a session that has ended, or was told to try later.
        if wish.reply.given_up:
            return
        opening = b""
        if wish.opening is not None:
            opening = wish.opening(first) + replay
        if not opening or wish.outlet.push(opening):
            self.hub.subscribe(CATALOG, wish.session, wish.outlet, wish.format)
            if not wish.leaves_out_own:
                # An episode's actor may have told what has still to come here.
                self.hub.begin_anew(wish.session)
        wish.reply.set(None)

    def _hears_itself(self, session: SessionId, event: Event) -> bool:
        """
        Whether the session is told of this event by the episode's own actor, or was.
        """
        own = self.hub.subscription(event.topic, session)
        return own is not None and hears(own, event.offset)

    async def _recover(self, since: CatalogPosition | None) -> tuple[list[Listed], bool]:
        """
        The published events after a position, and whether they are all there is, and none of them twice.
        """
        if since is None or since.epoch != self.epoch or since.place > self.brought:
            return [], False
        await self._load_ring()
        if self.ring and since.place >= self.ring[0].place:
            events = [event for event in self.ring if event.place > since.place]
        else:
            limit = self.replay_limit + 1
            events = await self.log.after_public(since.place, self.brought, limit)
            # Looked at last: what is cut from now on has been read.
            if since.place < await self.log.cut():
                return [], False
        if len(events) > self.replay_limit:
            return [], False
        missed = self._unheard(since, events)
        if missed is None:
            # Told ahead in an earlier life, or by another node: everybody here may hear it now, too.
            await self._look_ahead()
            missed = self._unheard(since, events)
        return ([], False) if missed is None else (missed, True)

    async def _look_ahead(self) -> None:
        """
        Publish what an open transaction holds back from the feed, as if its writers had told it here.
        """
        ready = []
        for event in await self.log.after_public(self.brought, ANYWHERE, self.replay_limit):
            # What comes before it in its topic was brought, or stands before it here: in places' order, too.
            self._latest.setdefault(event.topic, Offset(event.offset - 1))
            ready += self._told(event)
        await self._publish(ready)

    def _unheard(self, since: CatalogPosition, events: list[Event]) -> list[Listed] | None:
        """
        What of these, and of what is ahead of the feed, is to be told; None if something would be told again.
        """
        heard = Runs(list(since.beyond))
        missed = []
        for event in events:
            if event.place.seq in heard:
                heard.discard(event.place.seq)
            else:
                position = CatalogPosition(event.place, self.epoch, heard.frozen())
                missed.append(Listed(event, position))
        # Those ahead of the feed were published already, to everyone else.
        ahead = self._ahead.values()
        rest = Runs(list(heard.frozen()))
        for event in ahead:
            rest.discard(event.place.seq)
        if rest:
            # Heard, and neither brought nor told here yet: it would be published once more.
            return None
        for event in ahead:
            if event.place.seq not in heard:
                heard.add(event.place.seq)
                missed.append(Listed(event, CatalogPosition(self.brought, self.epoch, heard.frozen())))
        return missed

    async def _load_ring(self) -> None:
        # So that those who return after a restart, all at once, need not ask the store one by one.
        if not self._loaded:
            assert self.ring.maxlen is not None
            if len(self.ring) < self.ring.maxlen:
                newest = await self.log.newest_public(self.brought, self.ring.maxlen)
                # Before that the log may have holes: retention cuts by topic, too.
                cut = await self.log.cut()
                self.ring.clear()
                self.ring.extend(event for event in newest if event.place > cut)
            self._loaded = True

    async def _publish(self, events: list[Listed]) -> None:
        """
        Who also listens to an episode itself hears of it from the episode's actor, and not twice.

        What nobody hears twice leaves as one write per subscriber, whatever episodes it is of.
        """
        start = 0
        if events:
            self._shown = None
        while start < len(events):
            # Looked at anew each time: others may subscribe to an episode while these are served.
            first = events[start].event
            watched = self._watched(first)
            end = start + 1
            while watched is None and end < len(events) and self._watched(events[end].event) is None:
                end += 1
            # Whoever subscribed to the episode behind this event does not hear of it there.
            await self.hub.publish_fairly(CATALOG, events[start:end], but_not=watched, at=first.offset)
            start = end

    def _watched(self, event: Event) -> Topic | None:
        return event.topic if self.hub.subscribers(event.topic) else None
