"""The actor of one watched episode: offset order, gap filling, subscriptions, presence."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar, assert_never

import attrs
import trio

from engine.actors.messages import Channels, Message, PresenceUpdate, Subscribed
from engine.actors.presence import PresenceSink
from engine.domain.event import EpisodeId, Epoch, Event, Offset, Position, Topic, UserId, episode_topic
from engine.domain.presence import Meta, Presence, SessionId, Viewer
from engine.errors import StoreUnavailableError
from engine.runtime.hub import Format, Outlet
from engine.runtime.mailbox import Mailbox, Reply
from engine.store.episodes import Episodes
from engine.store.events import EventLog

T = TypeVar("T")

# Messages handled in one turn: what they publish leaves as one write per subscriber.
TURN = 256
# Events fetched at a time to fill a gap.
FILL = 500
# Seconds until it is tried again while the database is away.
AWAY = 0.5


@attrs.frozen
class Committed:
    """
    An event of this episode was committed.
    """

    event: Event


@attrs.frozen(kw_only=True)
class Subscribe:
    """
    A session wants to hear of this episode, from its position on or from now. Answered when it does, or
    with StoreUnavailableError.
    """

    session: SessionId
    outlet: Outlet
    format: Format[Message]
    since: Position | None
    wants_snapshot: bool
    reply: Reply[None]


@attrs.frozen(kw_only=True)
class Join:
    """
    A session's meta on this episode is new or changed; the hub tracks it already. Answered when the
    session has been told who is there: a crash before that leaves it deaf to them.
    """

    session: SessionId
    meta: Meta
    outlet: Outlet
    format: Format[Message]
    reply: Reply[None]


@attrs.frozen
class Leave:
    """
    A session is no longer present; the hub has forgotten its meta already.
    """

    session: SessionId
    user: UserId


@attrs.frozen
class Crash:
    """
    Fail, as a bug would make it: for tests of recovery. Nothing on the network can send it.
    """


EpisodeMessage = Committed | Subscribe | Join | Leave | Crash


class InjectedCrashError(Exception):
    """
    The crash that was asked for.
    """


def presence_topic(topic: Topic) -> Topic:
    """
    The hub's topic for who is there: one may be present without subscribing to the episode's events.
    """
    return Topic(f"{topic}#presence")


@attrs.define(eq=False, kw_only=True)
class EpisodeActor:
    """
    Own who is watching one episode, and the order in which they hear of it.

    A crash loses nothing: subscriptions, metas and the last position are in the hub, events in the store.
    """

    id: EpisodeId
    mailbox: Mailbox[EpisodeMessage]
    hub: Channels
    log: EventLog
    episodes: Episodes
    epoch: Epoch
    # Seconds that presence changes are gathered for one diff.
    tick: float
    # The newest events, for returning clients; bounded by its maxlen.
    ring: deque[Event]
    # The most events that a returning client is sent; who missed more gets a snapshot.
    replay_limit: int
    on_presence: PresenceSink
    topic: Topic = attrs.field(init=False)
    _next: Offset = attrs.field(init=False, default=Offset(0))
    # Events that overtook an earlier one; emptied as soon as the gap is filled. Bounded by TURN.
    _early: dict[Offset, Event] = attrs.field(factory=dict, init=False)
    _presence: Presence = attrs.field(init=False)
    # When the next diff is due; None while nothing changed.
    _diff_at: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.topic = episode_topic(self.id)
        self._presence = Presence.rebuilt(self.hub.metas(presence_topic(self.topic)))

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Live until nobody is interested any more.
        """
        with self.mailbox.serving():
            await self._begin()
            task_status.started()
            while not (await self._turn() and self.is_idle()):
                pass

    def is_idle(self) -> bool:
        """
        Whether nobody listens, and nobody is present.
        """
        there = presence_topic(self.topic)
        return not (self.hub.subscribers(self.topic) or self.hub.subscribers(there) or self.hub.metas(there))

    async def _begin(self) -> None:
        # After a crash the hub still knows what the subscribers have heard last: from there on they are
        # owed everything. A fresh actor owes nothing older than now.
        head = await _patiently(partial(self.episodes.log_offset, self.id)) or Offset(0)
        heard = self.hub.position(self.topic)
        self._next = Offset((head if heard is None else heard) + 1)
        if head >= self._next:
            await self._fill(head)
        viewers = tuple(self._presence.viewers())
        self.on_presence.began(self.id, viewers)
        if viewers:
            # A diff may have been lost with the life before: tell everyone everything once.
            await self._publish_presence(total=len(viewers), viewers=viewers)

    async def _turn(self) -> bool:
        """
        Handle what waits. True when nothing has come for the idle time.
        """
        message: EpisodeMessage | None = None
        waited = False
        with trio.move_on_at(self._diff_at if self._diff_at is not None else trio.current_time() + 3600):
            message = await self.mailbox.receive_or_idle()
            waited = message is None
        if message is not None:
            await self._handle([message, *self.mailbox.drain_nowait(TURN - 1)])
        if self._diff_at is not None and trio.current_time() >= self._diff_at:
            await self._tell_presence()
        return waited

    async def _handle(self, messages: Iterable[EpisodeMessage]) -> None:
        for message in messages:
            match message:
                case Committed(event):
                    # Too old: the feed brings again what the writer already told us.
                    if event.offset >= self._next:
                        self._early[event.offset] = event
                case Subscribe():
                    await self._publish_ready()
                    try:
                        await self._subscribe(message)
                    except StoreUnavailableError as error:
                        message.reply.fail(error)
                case Join():
                    self._join(message)
                case Leave(session, user):
                    self._presence.drop(session, user)
                    self._plan_diff()
                case Crash():
                    raise InjectedCrashError(f"episode {self.id} was told to crash")
                case _:
                    assert_never(message)
        await self._publish_ready()

    async def _publish_ready(self) -> None:
        if not self._early:
            return
        latest = max(self._early)
        if len(self._early) <= latest - self._next:
            await self._fill(latest)
            return
        await self._publish([self._early.pop(Offset(number)) for number in range(self._next, latest + 1)])

    async def _fill(self, until: Offset) -> None:
        """
        Publish everything up to `until`, from the store where it was not told.
        """
        while self._next <= until:
            # No more than that: a snapshot must not be older than its position.
            count = min(FILL, until - self._next + 1)
            missing = await _patiently(partial(self.log.since, self.topic, Offset(self._next - 1), count))
            assert missing, f"{self.topic} has a hole at {self._next}, though {until} is committed"
            await self._publish(missing)
        self._early = {offset: event for offset, event in self._early.items() if offset >= self._next}

    async def _publish(self, events: list[Event]) -> None:
        # The position first: if publishing is cut off in the middle, nobody is told anything twice.
        self._next = Offset(events[-1].offset + 1)
        self.hub.note_position(self.topic, events[-1].offset)
        self.ring.extend(events)
        await self.hub.publish_fairly(self.topic, events)

    async def _subscribe(self, wish: Subscribe) -> None:
        # Before the replay: it may find, and publish, more that was missed.
        snapshot = await self._snapshot() if wish.wants_snapshot else None
        missed, recovered = [], False
        if wish.since is not None and wish.since.epoch == self.epoch:
            found = await self._missed(wish.since.offset)
            missed, recovered = found or [], found is not None
        if wish.since is not None and not recovered and snapshot is None:
            snapshot = await self._snapshot()
        position = Position(Offset(self._next - 1), self.epoch)
        first = Subscribed(topic=self.topic, recovered=recovered, position=position, snapshot=snapshot)
        # No checkpoint from here on: nothing may be published between the replay and the subscription.
        frames = [wish.format.encode(first), *map(wish.format.encode, missed)]
        if wish.outlet.push(b"".join(frames)):
            self.hub.subscribe(self.topic, wish.session, wish.outlet, wish.format)
            # After the subscription: the hub knows no topic without one, and would forget it.
            self.hub.note_position(self.topic, position.offset)
        wish.reply.set(None)

    async def _missed(self, offset: Offset) -> list[Event] | None:
        """
        The events after `offset` that have been published; None when they are too many, or not of this log.
        """
        count = self._next - 1 - offset
        if count < 0 or count > self.replay_limit:
            return None
        if count == 0:
            return []
        if self.ring and self.ring[0].offset <= offset + 1:
            return [event for event in self.ring if event.offset > offset]
        events = await self.log.since(self.topic, offset, count)
        return events if len(events) == count else None

    async def _snapshot(self) -> dict[str, object]:
        episode = await self.episodes.get(self.id)
        # A deleted episode shows that its log has ended.
        head = await self.episodes.log_offset(self.id) if episode is None else episode.log_offset
        if head is not None and head >= self._next:
            # It shows more than has been published: that must not be told once more after it.
            await self._fill(head)
        return {
            "episode": None if episode is None else episode.to_json(),
            "viewers": [viewer.to_json(self.id) for viewer in self._presence.viewers()],
        }

    def _join(self, wish: Join) -> None:
        self._presence.put(wish.session, wish.meta)
        viewers = self._presence.viewers()
        welcome = PresenceUpdate(
            topic=self.topic,
            resource_id=self.id,
            total=len(viewers),
            names=tuple(viewer.name for viewer in viewers[:2]),
            viewers=tuple(viewers),
        )
        # No checkpoint in between, as for a subscription.
        if wish.outlet.push(wish.format.encode(welcome)):
            self.hub.subscribe(presence_topic(self.topic), wish.session, wish.outlet, wish.format)
        self._plan_diff()
        wish.reply.set(None)

    def _plan_diff(self) -> None:
        if self._diff_at is None:
            self._diff_at = trio.current_time() + self.tick

    async def _tell_presence(self) -> None:
        self._diff_at = None
        diff = self._presence.diff()
        if diff is None:
            return
        self.on_presence.changed(self.id, diff)
        await self._publish_presence(total=diff.total, joined=diff.joined, left=diff.left)

    async def _publish_presence(
        self,
        *,
        total: int,
        joined: tuple[Viewer, ...] = (),
        left: tuple[Viewer, ...] = (),
        viewers: tuple[Viewer, ...] | None = None,
    ) -> None:
        update = PresenceUpdate(
            topic=self.topic,
            resource_id=self.id,
            total=total,
            joined=joined,
            left=left,
            names=tuple(viewer.name for viewer in self._presence.viewers()[:2]),
            viewers=viewers,
        )
        await self.hub.publish_fairly(presence_topic(self.topic), [update])


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    # An outage is no crash: a supervisor would park the actor, and so make it longer.
    while True:
        try:
            return await read()
        except StoreUnavailableError:
            await trio.sleep(AWAY)
