"""The actor of one watched episode: its log for its subscribers, and who is there."""

from collections.abc import Iterable
from itertools import islice
from typing import assert_never

import attrs
import trio

from engine.actors.messages import Channels, Message, PresenceUpdate
from engine.actors.presence import PresenceSink
from engine.actors.topic_log import Committed, Subscribe, TopicLog, Unsubscribe
from engine.domain.event import EpisodeId, Topic, UserId, utc_now
from engine.domain.presence import Diff, Meta, Presence, SessionId
from engine.runtime.hub import Format, Outlet
from engine.runtime.mailbox import Mailbox, Reply

# Messages handled in one turn: what they publish leaves as one write per subscriber.
TURN = 256
# Viewers shown to somebody who has just come; the rest is paged over REST.
WELCOME = 50


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
class Heartbeat:
    """
    A present session has given a sign of life; the hub tracks its meta already.
    """

    session: SessionId
    meta: Meta


@attrs.frozen
class Leave:
    """
    A session is no longer present; the hub has forgotten its meta already.
    """

    session: SessionId
    user: UserId


@attrs.frozen
class Marked:
    """
    What plugins say of a person has changed.
    """

    user: UserId


@attrs.frozen
class Crash:
    """
    Fail, as a bug would make it: for tests of recovery. Nothing on the network can send it.
    """


EpisodeMessage = Committed | Subscribe | Unsubscribe | Join | Heartbeat | Leave | Marked | Crash


class InjectedCrashError(Exception):
    """
    The crash that was asked for.
    """


def presence_topic(topic: Topic) -> Topic:
    """
    The hub's topic for who is there: one may be present without subscribing to the episode's events.
    """
    return Topic(f"{topic}#presence")


def leaving_topic(topic: Topic) -> Topic:
    """
    The hub's topic for who has left and may be back before that shows.
    """
    return Topic(f"{topic}#leaving")


def shown_metas(hub: Channels, topic: Topic) -> dict[SessionId, Meta]:
    """
    The metas of those who are shown as present: a page of them is what diffs make of an earlier one.
    """
    return {**hub.metas(leaving_topic(topic)), **hub.metas(presence_topic(topic))}


@attrs.frozen(kw_only=True)
class PresenceTimes:
    """
    In seconds: how long changes are gathered for one diff, how long one who left may come back unnoticed,
    how often silence is looked for, and how often the log is compared with what subscribers have heard.
    """

    tick: float
    reload_grace: float
    silence: float
    position_check: float


@attrs.define(eq=False, kw_only=True)
class EpisodeActor:
    """
    Own who is watching one episode, and the order in which they hear of it.

    A crash loses nothing: subscriptions, metas and the last position are in the hub, events in the store.
    """

    id: EpisodeId
    mailbox: Mailbox[EpisodeMessage]
    hub: Channels
    log: TopicLog
    presence: Presence
    times: PresenceTimes
    on_presence: PresenceSink
    # Counts what everyone was told; begins beyond what an earlier life can have reached.
    _version: int = attrs.field(init=False, factory=lambda: int(utc_now().timestamp() * 1000))
    # When the next diff is due; None while nothing changed.
    _diff_at: float | None = attrs.field(default=None, init=False)
    # Sessions that left, in that order, with the time from which that shows: a reload of the page is back
    # before.
    _leaving: dict[SessionId, tuple[UserId, float]] = attrs.field(factory=dict, init=False)
    _silence_at: float = attrs.field(default=0.0, init=False)
    _check_at: float = attrs.field(default=0.0, init=False)

    @property
    def _there(self) -> Topic:
        return presence_topic(self.log.topic)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Live until nobody is interested any more.
        """
        with self.mailbox.serving():
            now = trio.current_time()
            self._silence_at, self._check_at = now + self.times.silence, now + self.times.position_check
            for session in self.hub.metas(leaving_topic(self.log.topic)):
                self._forget_leaving(session)  # the life before was to do it
            self.presence.rebuild(self.hub.metas(self._there), utc_now())
            await self.log.begin()
            task_status.started()
            self.on_presence.began(self.id, self.presence.viewers(utc_now()))
            if self.presence.total:
                # A diff may have been lost with the life before: tell everyone anew.
                await self._publish_presence(self._everyone())
            while not (await self._turn() and self.is_idle()):
                pass

    def is_idle(self) -> bool:
        """
        Whether nobody listens, and nobody is present or may come back unnoticed.
        """
        listeners = self.hub.subscribers(self.log.topic) + self.hub.subscribers(self._there)
        return not (listeners or self.presence.total or self.hub.metas(self._there))

    async def _turn(self) -> bool:
        """
        Handle what waits, and what is due. True when nothing has come for the idle time.
        """
        message: EpisodeMessage | None = None
        waited = False
        with trio.move_on_at(self._due()):
            message = await self.mailbox.receive_or_idle()
            waited = message is None
        if message is not None:
            await self._handle([message, *self.mailbox.drain_nowait(TURN - 1)])
        await self._do_what_is_due()
        return waited

    def _due(self) -> float:
        _, leaving = next(iter(self._leaving.values()), (None, float("inf")))
        diff = float("inf") if self._diff_at is None else self._diff_at
        return min(leaving, diff, self._silence_at, self._check_at)

    async def _handle(self, messages: Iterable[EpisodeMessage]) -> None:
        for message in messages:
            match message:
                case Committed(event):
                    self.log.note(event)
                case Subscribe():
                    await self.log.subscribe(message)
                case Unsubscribe():
                    await self.log.unsubscribe(message)
                case Join():
                    self._join(message)
                case Heartbeat(session, meta):
                    if self.presence.meta(session, meta.user) is not None:
                        self.presence.put(session, meta)
                        self._plan_diff()
                case Leave(session, user):
                    self._leave(session, user)
                case Marked(user):
                    self.presence.touch(user)
                    self._plan_diff()
                case Crash():
                    raise InjectedCrashError(f"episode {self.id} was told to crash")
                case _:
                    assert_never(message)
        await self.log.publish_ready()

    async def _do_what_is_due(self) -> None:
        now = trio.current_time()
        # Of a crowd that left at once a few in each turn; who left first is due first.
        for session, (user, due) in list(islice(self._leaving.items(), TURN)):
            if now < due:
                break
            self._forget_leaving(session)
            self.presence.drop(session, user)
            self._plan_diff()
        if now >= self._silence_at:
            self._silence_at = now + self.times.silence
            self.presence.notice_silence(utc_now())
            self._notice_lost()
            self._plan_diff()
        if self._diff_at is not None and now >= self._diff_at:
            await self._tell_presence()
        if now >= self._check_at:
            self._check_at = now + self.times.position_check
            await self.log.check_position()

    def _leave(self, session: SessionId, user: UserId) -> None:
        self._leaving.pop(session, None)
        self._leaving[session] = (user, trio.current_time() + self.times.reload_grace)
        meta = self.presence.meta(session, user)
        if self.times.reload_grace and meta is not None:
            self.hub.track(leaving_topic(self.log.topic), session, meta)

    def _notice_lost(self) -> None:
        # Whoever left while the mailbox was full has waited for room for a while, and then gone unheard.
        for session, user in self.presence.absent(self.hub.metas(self._there)):
            if session not in self._leaving:
                self._leave(session, user)

    def _forget_leaving(self, session: SessionId) -> None:
        self._leaving.pop(session, None)
        self.hub.untrack(leaving_topic(self.log.topic), session)

    def _join(self, wish: Join) -> None:
        self._forget_leaving(wish.session)
        self.presence.put(wish.session, wish.meta)
        self._plan_diff()
        welcome = wish.format.encode(self._everyone())
        # No checkpoint in between, as for a subscription.
        if wish.outlet.push(welcome):
            self.hub.subscribe(self._there, wish.session, wish.outlet, wish.format)
        wish.reply.set(None)

    def _everyone(self) -> PresenceUpdate:
        viewers = tuple(self.presence.viewers(utc_now(), WELCOME))
        return PresenceUpdate(
            topic=self.log.topic,
            resource_id=self.id,
            total=self.presence.total,
            version=self._version,
            names=tuple(viewer.name for viewer in viewers[:2]),
            complete=self.presence.total <= WELCOME,
            viewers=viewers,
        )

    def _plan_diff(self) -> None:
        if self._diff_at is None:
            self._diff_at = trio.current_time() + self.times.tick

    async def _tell_presence(self) -> None:
        self._diff_at = None
        diff = self.presence.diff(utc_now())
        if diff is not None:
            self.on_presence.changed(self.id, diff.changed, diff.gone)
            self._version += 1
            await self._publish_presence(self._update(diff))

    def _update(self, diff: Diff) -> PresenceUpdate:
        return PresenceUpdate(
            topic=self.log.topic,
            resource_id=self.id,
            total=diff.total,
            version=self._version,
            joined=diff.joined,
            left=diff.left,
            names=diff.names,
            complete=diff.complete,
        )

    async def _publish_presence(self, update: PresenceUpdate) -> None:
        await self.hub.publish_fairly(self._there, [update])
