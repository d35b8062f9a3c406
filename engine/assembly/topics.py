"""What each kind of topic is made of: its actor, its log, and the state that a snapshot shows."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakSet

import attrs

from conf.settings import Child, Realtime, Settings, Supervision
from engine.actors.catalog import CatalogActor
from engine.actors.episode import EpisodeActor, EpisodeMessage, Marked, PresenceTimes, shown_metas
from engine.actors.log_actor import LogActor, LogMessage
from engine.actors.messages import Channels
from engine.actors.presence import PresenceSink
from engine.actors.topic_log import Snapshot, TopicLog
from engine.domain.event import EpisodeId, LogPlace, Offset, Topic, UserId, episode_topic, user_topic, utc_now
from engine.domain.presence import Presence, page
from engine.errors import EngineError
from engine.marks import Marks
from engine.runtime.child import Restart, RestartPolicy
from engine.runtime.mailbox import Mailbox
from engine.runtime.registry import Actor, Registry
from engine.runtime.supervisor import Supervisor
from engine.store.episode_list import ListQuery
from engine.store.job_list import JobQuery
from engine.store.store import Store

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")

# How many messages have room in a mailbox.
Room = Callable[[Supervision], int]

# Episodes, notifications, viewers and jobs that a snapshot shows.
SHOWN = 50


def policy_of(child: Child) -> RestartPolicy:
    """
    How the settings want this kind of child restarted.
    """
    return RestartPolicy(
        restart=Restart(child.restart),
        max_restarts=child.max_restarts,
        within=child.within,
        backoff_first=child.backoff_first,
        backoff_cap=child.backoff_cap,
        backoff_jitter=child.backoff_jitter,
        grace=child.grace,
        cool_down=child.cool_down,
    )


def catalog_ring(realtime: Realtime) -> int:
    """
    Events of the catalog that are kept in memory: at least what one client can be replayed.
    """
    return max(realtime.replay_ring, realtime.replay_limit)


def _usual(kinds: Supervision) -> int:
    return kinds.episode.mailbox


def _busy(kinds: Supervision) -> int:
    """
    The room in the mailbox of an actor that hears of everything.
    """
    return kinds.catalog.mailbox


@attrs.define(eq=False, kw_only=True)
class Topics:
    """
    Makes the actors of topics, and lets those that live go by other settings.
    """

    settings: Settings
    store: Store
    hub: Channels
    on_presence: PresenceSink
    marks: Marks = attrs.field(factory=Marks)
    _registries: list[tuple[Registry[Any, Any], Room]] = attrs.field(factory=list, init=False)
    _catalog: CatalogActor | None = attrs.field(default=None, init=False)
    _episodes: WeakSet[EpisodeActor] = attrs.field(factory=WeakSet, init=False)
    _logs: WeakSet[LogActor] = attrs.field(factory=WeakSet, init=False)

    def retune(self, settings: Settings) -> None:
        """
        Let the actors that live, and those to come, go by these settings.
        """
        self.settings = settings
        realtime, presence, kind = settings.realtime, settings.presence, settings.supervision.episode
        for registry, room in self._registries:
            registry.retune(policy_of(kind), capacity=room(settings.supervision), idle=kind.idle)
        if self._catalog is not None:
            self._catalog.mailbox.resize(_busy(settings.supervision))
            self._catalog.retune(
                ring=catalog_ring(realtime),
                replay_limit=realtime.replay_limit,
                replay_size=realtime.replay_size,
                position_interval=realtime.position_interval,
            )
        for episode in self._episodes:
            episode.times = self._times()
            episode.presence.active_for = timedelta(seconds=presence.active_for)
            episode.presence.most = presence.diff_size
            episode.log.retune(realtime)
        for actor in self._logs:
            actor.position_check = realtime.position_check
            actor.log.retune(realtime)

    def episodes(self, supervisor: Supervisor) -> Registry[EpisodeId, EpisodeMessage]:
        """
        The registry of episode actors.
        """
        episodes = self._registry(supervisor, "episode", self.episode, _usual)

        def changed(episode: EpisodeId, user: UserId) -> None:
            # Nobody there, or no room: the next diff shows it.
            with suppress(EngineError):
                episodes.tell_running_nowait(episode, Marked(user))

        self.marks.on_change = changed
        return episodes

    def users(self, supervisor: Supervisor) -> Registry[UserId, LogMessage]:
        """
        The registry of user actors.
        """
        return self._registry(supervisor, "user", self.user, _usual)

    def jobs(self, supervisor: Supervisor) -> Registry[Topic, LogMessage]:
        """
        The registry of the one actor of the topic `jobs`.
        """
        return self._registry(supervisor, "jobs", self.jobs_topic, _busy)

    def catalog(self, brought: LogPlace) -> CatalogActor:
        """
        The catalog's actor; everything up to `brought` is old to it.
        """
        realtime = self.settings.realtime
        self._catalog = CatalogActor(
            mailbox=Mailbox(_busy(self.settings.supervision), name="catalog"),
            hub=self.hub,
            log=self.store.log,
            epoch=self.store.epoch,
            snapshot=self._catalog_snapshot,
            brought=brought,
            replay_limit=realtime.replay_limit,
            replay_size=realtime.replay_size,
            ring=deque(maxlen=catalog_ring(realtime)),
            position_interval=realtime.position_interval,
        )
        return self._catalog

    def episode(self, key: EpisodeId, mailbox: Mailbox[EpisodeMessage]) -> EpisodeActor:
        """
        One life of an episode's actor.
        """
        times = self.settings.presence

        async def head() -> Offset:
            return await self.store.episodes.log_offset(key) or Offset(0)

        async def snapshot() -> tuple[Offset, dict[str, object]]:
            episode = await self.store.episodes.get(key)
            # A deleted episode shows that its log has ended.
            shown = await head() if episode is None else episode.log_offset
            present = page(
                shown_metas(self.hub, episode_topic(key)),
                now=utc_now(),
                active_for=timedelta(seconds=times.active_for),
                after="",
                limit=SHOWN,
                marks=self.marks.of(key),
            )
            return shown, {
                "episode": None if episode is None else episode.to_json(),
                "viewers": [viewer.to_json(key) for viewer in present.viewers],
                "jobs": await self._jobs(key),
            }

        actor = EpisodeActor(
            id=key,
            mailbox=mailbox,
            hub=self.hub,
            log=self._log(episode_topic(key), head, snapshot),
            presence=Presence(
                active_for=timedelta(seconds=times.active_for),
                most=times.diff_size,
                marks=self.marks.of(key),
            ),
            times=self._times(),
            on_presence=self.on_presence,
        )
        self._episodes.add(actor)
        return actor

    def user(self, key: UserId, mailbox: Mailbox[LogMessage]) -> LogActor:
        """
        One life of a person's actor.
        """

        async def head() -> Offset:
            return await self.store.log.user_offset(key)

        async def snapshot() -> tuple[Offset, dict[str, object]]:
            shown = await head()
            page, unread = await self.store.records.notifications(key, limit=SHOWN)
            return shown, {
                "notifications": [notification.to_json() for notification in page.records],
                "unread": unread,
            }

        return self._log_actor(mailbox, self._log(user_topic(key), head, snapshot))

    def jobs_topic(self, key: Topic, mailbox: Mailbox[LogMessage]) -> LogActor:
        """
        One life of the actor of the jobs that belong to no episode.
        """

        async def head() -> Offset:
            return await self.store.log.topic_offset(key)

        async def snapshot() -> tuple[Offset, dict[str, object]]:
            shown = await head()
            return shown, {"jobs": await self._jobs(None)}

        return self._log_actor(mailbox, self._log(key, head, snapshot))

    def _registry(
        self,
        supervisor: Supervisor,
        kind: str,
        start: Callable[[K, Mailbox[M]], Actor],
        room: Room,
    ) -> Registry[K, M]:
        settings = self.settings.supervision
        registry = Registry(
            supervisor,
            kind=kind,
            policy=policy_of(settings.episode),
            capacity=room(settings),
            idle=settings.episode.idle,
            start=start,
        )
        self._registries.append((registry, room))
        return registry

    def _log_actor(self, mailbox: Mailbox[LogMessage], log: TopicLog) -> LogActor:
        actor = LogActor(mailbox=mailbox, log=log, position_check=self.settings.realtime.position_check)
        self._logs.add(actor)
        return actor

    async def _jobs(self, episode: EpisodeId | None) -> list[dict[str, object]]:
        page = await self.store.job_list.page(JobQuery(episode=episode, limit=SHOWN))
        return [job.facts() for job in page.jobs]

    def _times(self) -> PresenceTimes:
        times = self.settings.presence
        return PresenceTimes(
            tick=times.tick,
            reload_grace=times.reload_grace,
            silence=times.active_for / 4,
            position_check=self.settings.realtime.position_check,
        )

    def _log(self, topic: Topic, head: Callable[[], Awaitable[Offset]], snapshot: Snapshot) -> TopicLog:
        realtime = self.settings.realtime
        return TopicLog(
            topic=topic,
            epoch=self.store.epoch,
            hub=self.hub,
            log=self.store.log,
            head=head,
            snapshot=snapshot,
            replay_limit=realtime.replay_limit,
            replay_size=realtime.replay_size,
            ring=deque(maxlen=realtime.replay_ring),
        )

    async def _catalog_snapshot(self) -> dict[str, object]:
        page = await self.store.episode_list.page(ListQuery(limit=SHOWN))
        return {"episodes": [episode.to_json() for episode in page.episodes], "total": page.total}
