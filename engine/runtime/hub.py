"""Hub: topic → outlets, the fan-out; knows nothing of connections, tasks or what the messages mean."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import attrs
import trio

from engine.domain.event import Topic
from engine.domain.presence import SessionId

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)
MetaT = TypeVar("MetaT")
PositionT = TypeVar("PositionT", bound=int)

# A publication lets other tasks run when it has taken this long, in seconds: what a heartbeat can wait for.
TURN = 0.002
# It looks at the clock after so many pushes, each a system call of some microseconds ...
PUSHES_BETWEEN_LOOKS = 128
# ... and lets the others run after so many whatever the clock says.
PUSHES_BETWEEN_CHECKPOINTS = 1024


class Outlet(Protocol):
    """
    The only writer of one client connection.
    """

    def push(self, data: bytes) -> bool:
        """
        Write without blocking; False when the client is gone. Must neither raise nor call the hub.
        """
        ...


class Format(Protocol[E_contra]):
    """
    How messages look to one kind of client. Outlets that share a format share the encoded bytes.
    """

    def encode(self, message: E_contra) -> bytes:
        """
        Bytes ready to be written; called at most once per message and format.
        """
        ...


@attrs.frozen(kw_only=True)
class Subscription(Generic[E, PositionT]):
    """
    One session that listens to one topic.
    """

    session: SessionId
    topic: Topic
    outlet: Outlet
    format: Format[E]
    # Where it began: what was published up to there is not heard by it.
    after: PositionT | None


@attrs.frozen(kw_only=True)
class HubStatistics:
    """
    A hub at one moment, and its totals.
    """

    topics: int
    sessions: int
    subscriptions: int
    published_total: int
    deliveries_total: int
    # Of all deliveries together.
    bytes_total: int
    gone_total: int


_Push = Callable[[bytes], bool]
_Pushes = dict[SessionId, _Push]
# What to push for one format, all its subscribers, and those of them to serve: flat lists, for among
# thousands of outlets what costs is how much memory each push touches.
_Share = tuple[bytes, _Pushes, Sequence[SessionId], Sequence[_Push]]
# Who refused, and among whom to look whether it is still subscribed the same way.
_Gone = tuple[_Pushes, SessionId, _Push]


@attrs.define(eq=False)
class _Topic(Generic[E, MetaT, PositionT]):
    subscriptions: dict[SessionId, Subscription[E, PositionT]] = attrs.field(factory=dict)
    # By format, the outlets' bound push methods: all that the hot loop looks at.
    pushes: dict[Format[E], _Pushes] = attrs.field(factory=dict)
    metas: dict[SessionId, MetaT] = attrs.field(factory=dict)
    position: PositionT | None = None
    heard: PositionT | None = None


@attrs.define(eq=False)
class Hub(Generic[E, MetaT, PositionT]):
    """
    Own who listens to which topic, the presence metas of sessions, and the last published positions.

    It is plain data without a task, so that it outlives the crash of an actor, which rebuilds itself from
    here. For each topic one task publishes: what two would publish at the same time has no order.
    """

    # Told the sessions whose outlet turned out to be gone, after they were dropped from the topic.
    on_gone: Callable[[SessionId], None] | None = None
    # Told what was pushed to how many outlets, after each publication.
    on_published: Callable[[Topic, Sequence[E], int], None] | None = None
    _topics: dict[Topic, _Topic[E, MetaT, PositionT]] = attrs.field(factory=dict, init=False)
    # Where each session is subscribed or tracked.
    _topics_of: dict[SessionId, dict[Topic, None]] = attrs.field(factory=dict, init=False)
    # Counts what could make a list of targets wrong.
    _changes: int = attrs.field(default=0, init=False)
    _published_total: int = attrs.field(default=0, init=False)
    _deliveries_total: int = attrs.field(default=0, init=False)
    _bytes_total: int = attrs.field(default=0, init=False)
    _gone_total: int = attrs.field(default=0, init=False)

    def subscribe(
        self,
        topic: Topic,
        session: SessionId,
        outlet: Outlet,
        format: Format[E],
        *,
        after: PositionT | None = None,
    ) -> None:
        """
        Let a session hear a topic, from behind a position. Once more for the same session replaces its outlet
        and format; it has still heard what it had.
        """
        entry = self._enter(topic, session)
        self._changes += 1
        before = entry.subscriptions.get(session)
        if before is not None and before.after is not None and after is not None:
            after = min(before.after, after)
        _unsubscribe(entry, session)
        entry.subscriptions[session] = Subscription(
            session=session, topic=topic, outlet=outlet, format=format, after=after
        )
        entry.pushes.setdefault(format, {})[session] = outlet.push

    def unsubscribe(self, topic: Topic, session: SessionId) -> None:
        """
        From now on the session hears nothing of the topic; its meta stays. Unknown ones are ignored.
        """
        if (entry := self._topics.get(topic)) is not None:
            self._changes += 1
            _unsubscribe(entry, session)
            self._leave(topic, entry, session)

    def begin_anew(self, session: SessionId) -> None:
        """
        Let what topics have published so far count as not heard by a session: it has somebody new to tell.
        """
        for topic in self._topics_of.get(session, ()):
            entry = self._topics[topic]
            one = entry.subscriptions.get(session)
            if one is not None and one.after is not None and entry.position is not None:
                after = max(one.after, entry.position)
                entry.subscriptions[session] = attrs.evolve(one, after=after)

    def track(self, topic: Topic, session: SessionId, meta: MetaT) -> None:
        """
        Remember that a session is present on a topic, and as what. Once more replaces the meta.
        """
        self._enter(topic, session).metas[session] = meta

    def untrack(self, topic: Topic, session: SessionId) -> None:
        """
        Forget a session's presence on a topic; its subscription stays. Unknown ones are ignored.
        """
        if (entry := self._topics.get(topic)) is not None:
            entry.metas.pop(session, None)
            self._leave(topic, entry, session)

    def drop_session(self, session: SessionId) -> tuple[Topic, ...]:
        """
        Forget a session everywhere; returns the topics where it was subscribed or tracked.
        """
        topics = tuple(self._topics_of.get(session, ()))
        for topic in topics:
            self.untrack(topic, session)
            self.unsubscribe(topic, session)
        return topics

    def publish(
        self,
        topic: Topic,
        messages: Sequence[E],
        *,
        but_not: Topic | None = None,
        at: PositionT | None = None,
    ) -> int:
        """
        Push messages, joined into one write per outlet; returns how many outlets took them.

        Skips the sessions that hear it on `but_not`: all that are subscribed there, or those whose
        subscription began before position `at`. For topics with few subscribers: nothing else runs until
        all are served. An error in a format is raised before the first push.
        """
        delivered = 0
        gone: list[_Gone] = []
        for data, live, sessions, pushes in self._shares(topic, messages, but_not, at):
            for session, push in zip(sessions, pushes, strict=True):
                if not push(data):
                    gone.append((live, session, push))
            delivered += len(pushes)
            self._bytes_total += len(data) * len(pushes)
        delivered -= len(gone)
        self._count(topic, messages, delivered, gone)
        return delivered

    async def publish_fairly(
        self,
        topic: Topic,
        messages: Sequence[E],
        *,
        but_not: Topic | None = None,
        at: PositionT | None = None,
    ) -> int:
        """
        The same, letting other tasks run every few milliseconds.

        It serves those who are subscribed now, except who leaves meanwhile. Cancellation comes before the
        first push or not at all: the rest is bounded, and half a delivery could not be repaired.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        delivered = 0
        gone: list[_Gone] = []
        changes, began, pushed = self._changes, trio.current_time(), 0
        for data, live, sessions, pushes in self._shares(topic, messages, but_not, at):
            for start in range(0, len(pushes), PUSHES_BETWEEN_LOOKS):
                part = slice(start, start + PUSHES_BETWEEN_LOOKS)
                batch = pushes[part]
                # Somebody left while the others ran.
                if self._changes != changes:
                    now = zip(sessions[part], batch, strict=True)
                    batch = [push for session, push in now if live.get(session) is push]
                delivered += len(batch)
                self._bytes_total += len(data) * len(batch)
                if refused := [push for push in batch if not push(data)]:
                    now = zip(sessions[part], pushes[part], strict=True)
                    gone += [(live, session, push) for session, push in now if push in refused]
                pushed += len(batch)
                if pushed >= PUSHES_BETWEEN_CHECKPOINTS or trio.current_time() - began >= TURN:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    began, pushed = trio.current_time(), 0
        await trio.lowlevel.cancel_shielded_checkpoint()
        delivered -= len(gone)
        self._count(topic, messages, delivered, gone)
        return delivered

    def note_position(self, topic: Topic, position: PositionT) -> None:
        """
        Remember what was published last, as long as the topic has a subscription or a meta.
        """
        if (entry := self._topics.get(topic)) is not None:
            entry.position = position

    def position(self, topic: Topic) -> PositionT | None:
        """
        What was noted last; None when the topic is new or was empty since.
        """
        entry = self._topics.get(topic)
        return None if entry is None else entry.position

    def note_heard(self, topic: Topic, position: PositionT) -> None:
        """
        Remember what all subscribers have been pushed, as long as the topic has a subscription or a meta.
        """
        if (entry := self._topics.get(topic)) is not None:
            entry.heard = position

    def heard(self, topic: Topic) -> PositionT | None:
        """
        The same as `position`, but behind it while that is being published: some have not heard it yet.
        """
        entry = self._topics.get(topic)
        return None if entry is None else entry.heard

    def metas(self, topic: Topic) -> Mapping[SessionId, MetaT]:
        """
        Who is present on a topic, in the order of their coming; a copy.
        """
        entry = self._topics.get(topic)
        return {} if entry is None else dict(entry.metas)

    def subscribers(self, topic: Topic) -> int:
        """
        How many sessions are subscribed to a topic.
        """
        entry = self._topics.get(topic)
        return 0 if entry is None else len(entry.subscriptions)

    def subscription(self, topic: Topic, session: SessionId) -> Subscription[E, PositionT] | None:
        """
        How a session listens to a topic, if it does.
        """
        entry = self._topics.get(topic)
        return None if entry is None else entry.subscriptions.get(session)

    def topics(self) -> tuple[Topic, ...]:
        """
        The topics that have a subscription or a meta.
        """
        return tuple(self._topics)

    def statistics(self) -> HubStatistics:
        """
        Numbers for metrics.
        """
        return HubStatistics(
            topics=len(self._topics),
            sessions=len(self._topics_of),
            subscriptions=sum(len(entry.subscriptions) for entry in self._topics.values()),
            published_total=self._published_total,
            deliveries_total=self._deliveries_total,
            bytes_total=self._bytes_total,
            gone_total=self._gone_total,
        )

    def _shares(
        self, topic: Topic, messages: Sequence[E], but_not: Topic | None, at: PositionT | None
    ) -> list[_Share]:
        entry = self._topics.get(topic)
        if entry is None or not messages:
            return []
        other = None if but_not is None else self._topics.get(but_not)
        skip = {session for session, one in other.subscriptions.items() if hears(one, at)} if other else ()
        shares: list[_Share] = []
        for format, live in entry.pushes.items():
            sessions, pushes = list(live), list(live.values())
            if skip:
                sessions = [session for session in live if session not in skip]
                pushes = [live[session] for session in sessions]
            data = b"".join([format.encode(message) for message in messages]) if pushes else b""
            # To some kinds of client a message says nothing.
            if data:
                shares.append((data, live, sessions, pushes))
        return shares

    def _count(self, topic: Topic, messages: Sequence[E], delivered: int, gone: list[_Gone]) -> None:
        if self.on_published is not None:
            self.on_published(topic, messages, delivered)
        self._published_total += 1
        self._deliveries_total += delivered
        for live, session, push in gone:
            # It may have come back with a new outlet while the others were served.
            if live.get(session) is push:
                self._gone_total += 1
                self.unsubscribe(topic, session)
                if self.on_gone is not None:
                    self.on_gone(session)

    def _enter(self, topic: Topic, session: SessionId) -> _Topic[E, MetaT, PositionT]:
        self._topics_of.setdefault(session, {})[topic] = None
        entry = self._topics.get(topic)
        if entry is None:
            entry = self._topics[topic] = _Topic()
        return entry

    def _leave(self, topic: Topic, entry: _Topic[E, MetaT, PositionT], session: SessionId) -> None:
        if session not in entry.subscriptions and session not in entry.metas:
            topics = self._topics_of.get(session, {})
            topics.pop(topic, None)
            if not topics:
                self._topics_of.pop(session, None)
            if not entry.subscriptions and not entry.metas:
                self._topics.pop(topic, None)


def hears(subscription: Subscription[E, PositionT], at: PositionT | None) -> bool:
    """
    Whether what is published at this position is heard by that subscription; without a position: anything.
    """
    return at is None or subscription.after is None or subscription.after < at


def _unsubscribe(entry: _Topic[E, MetaT, PositionT], session: SessionId) -> None:
    subscription = entry.subscriptions.pop(session, None)
    if subscription is not None:
        pushes = entry.pushes[subscription.format]
        del pushes[session]
        if not pushes:
            del entry.pushes[subscription.format]
