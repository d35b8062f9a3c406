"""The node: builds the engine's parts, hangs them into the supervision tree, and takes them down in order."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from conf.settings import Settings
from engine.actors.catalog import CatalogActor
from engine.actors.effects import EffectActor, EffectMessage, Resume
from engine.actors.episode import Crash, EpisodeMessage
from engine.actors.feed import Feed
from engine.actors.housekeeping import Housekeeping
from engine.actors.log_actor import LogMessage
from engine.actors.messages import Channels, Message
from engine.actors.meter import Meter
from engine.actors.presence import PresenceWriter
from engine.actors.retention import Retention
from engine.assembly.overview import children_of
from engine.assembly.part_settings import child_settings, effect_settings
from engine.assembly.plugin_tasks import PluginTasks
from engine.assembly.topics import Topics, catalog_ring, policy_of
from engine.assembly.workshop import Workshop
from engine.domain.event import EpisodeId, Event, Topic, UserId
from engine.live import Live
from engine.plugin_host.handle import EngineParts
from engine.plugin_host.host import PluginHost
from engine.runtime.child import ChildSpec
from engine.runtime.loop_guard import LoopGuard
from engine.runtime.mailbox import Mailbox, ask
from engine.runtime.registry import Registry
from engine.runtime.supervisor import Strategy, Supervisor
from engine.runtime.watchdog import Watchdog
from engine.store.embedded import EmbeddedPostgres
from engine.store.store import Store
from engine.traces import Traces

Run = Callable[[trio.TaskStatus[None]], Awaitable[None]]


@attrs.define(eq=False, kw_only=True)
class Node:
    """
    Own every part of one running engine.

    `open` builds it, `run` lives it. A part that crashes is restarted; a crash that escalates ends `run`.
    """

    live: Live
    store: Store
    hub: Channels
    plugins: PluginHost
    embedded: EmbeddedPostgres | None
    root: Supervisor
    episode_supervisor: Supervisor
    user_supervisor: Supervisor
    plugin_supervisor: Supervisor
    episodes: Registry[EpisodeId, EpisodeMessage]
    users: Registry[UserId, LogMessage]
    jobs_topic: Registry[Topic, LogMessage]
    workshop: Workshop
    catalog: CatalogActor
    effects: Mapping[str, EffectActor]
    plugin_tasks: PluginTasks
    presence: PresenceWriter
    retention: Retention
    housekeeping: Housekeeping
    feed: Feed
    guard: LoopGuard
    watchdog: Watchdog
    meter: Meter
    traces: Traces = attrs.field(factory=Traces)

    @property
    def settings(self) -> Settings:
        """
        The settings in force.
        """
        return self.live.settings

    @classmethod
    async def open(
        cls,
        settings: Settings,
        conninfo: str,
        plugins: PluginHost,
        embedded: EmbeddedPostgres | None = None,
    ) -> "Node":
        """
        A node on a migrated database, not yet running. Raises StoreUnavailableError.
        """
        store = await Store.open(
            conninfo,
            node=settings.node.resolved_name,
            pool_size=settings.database.pool_size,
            background_size=settings.database.background_pool_size,
            deadline=settings.database.statement_timeout,
            handler_size=settings.jobs.transactions,
        )
        return await cls.build(settings, store, plugins, embedded)

    @classmethod
    async def build(
        cls,
        settings: Settings,
        store: Store,
        plugins: PluginHost,
        embedded: EmbeddedPostgres | None = None,
        chance: random.Random | None = None,
    ) -> "Node":
        """
        A node on a store, not yet running; `chance` spreads restarts. Raises StoreUnavailableError.
        """
        plugins.configure(settings.plugins)
        chance = chance or random.Random()  # noqa: S311 -- jitter needs no secrecy
        end = await store.log.end()
        hub = Channels()
        kinds = settings.supervision
        guard = plugins.runner.guard = LoopGuard(settings.plugins.block_limit)
        episode_supervisor = Supervisor("episodes", strategy=Strategy.ONE_FOR_ONE, random=chance)
        user_supervisor = Supervisor("users", strategy=Strategy.ONE_FOR_ONE, random=chance)
        presence = PresenceWriter(
            rows=store.presence,
            interval=settings.presence.write_behind,
            heartbeat=settings.presence.heartbeat,
        )
        tasks = PluginTasks.build(settings, plugins, presence)
        topics = Topics(settings=settings, store=store, hub=hub, on_presence=tasks.notices, marks=tasks.marks)
        episodes = topics.episodes(episode_supervisor)
        users = topics.users(user_supervisor)
        jobs_topic = topics.jobs(user_supervisor)
        catalog = topics.catalog(end)
        store.patient_log.patience = settings.retention.removed_plugin_age
        retention = Retention(
            log=store.patient_log,
            age=settings.retention.events_age,
            count=settings.retention.events_per_topic,
            interval=settings.retention.interval,
            rooms=store.socket_rooms,
        )
        found = plugins.effects()
        mailboxes = {
            effect.plugin: Mailbox[EffectMessage](kinds.plugin.mailbox, name=f"plugin/{effect.plugin}")
            for effect in found
        }
        feed = Feed(
            log=store.log,
            bell=store.bell,
            episodes=episodes,
            users=users,
            jobs=jobs_topic,
            catalog=catalog.mailbox,
            effects=list(mailboxes.values()),
            retention=retention,
            place=end,
            poll=settings.feed.poll,
            batch=settings.feed.batch,
        )
        plugins.bind(EngineParts(store.cursors.begin_own, feed.wake, tasks.marks.put))
        effects = {
            effect.plugin: EffectActor(
                effect=effect,
                mailbox=mailboxes[effect.plugin],
                log=store.log,
                cursors=store.cursors,
                settings=effect_settings(settings, effect.plugin),
                beginning=end,
                runner=plugins.runner,
                wake_feed=feed.wake,
                prepared=tasks.lives[effect.plugin].prepared,
                chance=chance,
            )
            for effect in found
        }
        node = cls(
            live=Live(settings),
            store=store,
            hub=hub,
            plugins=plugins,
            embedded=embedded,
            root=Supervisor("node", strategy=Strategy.ONE_FOR_ONE, random=chance),
            episode_supervisor=episode_supervisor,
            user_supervisor=user_supervisor,
            plugin_supervisor=Supervisor("plugins", strategy=Strategy.ONE_FOR_ONE, random=chance),
            episodes=episodes,
            users=users,
            jobs_topic=jobs_topic,
            workshop=Workshop.build(
                settings,
                store,
                plugins,
                committed=feed.committed,
                ring=feed.ring,
                # Nobody else knows the way to an embedded database.
                alone=embedded is not None,
                chance=chance,
            ),
            catalog=catalog,
            effects=effects,
            plugin_tasks=tasks,
            presence=presence,
            retention=retention,
            housekeeping=Housekeeping(
                leftovers=store.leftovers, settings=settings.retention, plugins=list(effects)
            ),
            feed=feed,
            guard=guard,
            watchdog=Watchdog(guard),
            meter=Meter(
                hub=hub,
                feed=feed,
                cursors=store.cursors,
                job_list=store.patient_job_list,
                effects=effects,
            ),
        )
        node._listen_in()
        node.live.follow(topics.retune)
        node.live.follow(node._retune)
        return node

    async def run(self, gateway: Run, *, task_status: trio.TaskStatus[None]) -> None:
        """
        Start everything in order, the gateway last, and live until `stop`.

        What is started first is stopped last. Raises EscalationError.
        """
        try:
            with self.guard.installed(), self.watchdog.watching():
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.root.run)
                    await self._start(gateway)
                    task_status.started()
        finally:
            with trio.move_on_after(self.settings.node.shutdown_grace, shield=True):
                await self.store.aclose()

    async def stop(self) -> None:
        """
        End everything in the reverse order; `run` returns. Jobs have as long as clients, at the same time.
        """
        self.workshop.drain(self.settings.node.shutdown_grace)
        await self.root.stop()

    async def resume_plugin(self, name: str) -> bool:
        """
        End a plugin's quarantine; False when there is no such plugin. Raises StoreUnavailableError.
        """
        actor = self.effects.get(name)
        if actor is None:
            return False
        # One that only fails is busy with that, and has nothing to resume from.
        if actor.quarantined_at is not None:
            await ask(actor.mailbox, Resume)
        return True

    def crash_episodes(self) -> None:
        """
        Let every running episode actor fail, for tests of recovery; nothing on the network calls this.
        """
        for key in self.episodes.keys():  # noqa: SIM118 -- a registry is no mapping
            self.episodes.tell_running_nowait(key, Crash())

    @property
    def supervisors(self) -> dict[str, Supervisor]:
        """
        Every supervisor of the tree, by name; the root is called like the tree.
        """
        return {
            "node": self.root,
            "episodes": self.episode_supervisor,
            "users": self.user_supervisor,
            "plugins": self.plugin_supervisor,
            "answers": self.plugin_tasks.answers.supervisor,
            "jobs": self.workshop.supervisor,
        }

    def mailboxes(self) -> dict[str, Mailbox[Any]]:
        """
        Every mailbox, by the name of the child whose inbox it is.
        """
        return {
            "catalog": self.catalog.mailbox,
            **{name: actor.mailbox for name, actor in self.effects.items()},
            **self.episodes.mailboxes(),
            **self.users.mailboxes(),
        }

    def tree(self) -> dict[str, Any]:
        """
        The supervision tree as JSON, and what its parts are doing.
        """
        mailboxes = {name: mailbox.statistics() for name, mailbox in self.mailboxes().items()}
        return {
            "node": self.settings.node.resolved_name,
            "children": children_of(self.root, self.supervisors, mailboxes),
            "episodes": attrs.asdict(self.episodes.statistics()),
            "users": attrs.asdict(self.users.statistics()),
            "hub": attrs.asdict(self.hub.statistics()),
            "pools": {name: attrs.asdict(pool.statistics()) for name, pool in self.store.pools().items()},
        }

    async def _start(self, gateway: Run) -> None:
        if self.embedded is not None:
            await self._child("database", "database", self._supervise_postgres)
        await self._child("meter", "meter", self.meter.run)
        await self._child("bell", "feed", self._listen)
        await self._child("presence", "presence", self.presence.run)
        await self._child("episodes", "supervisor", self.episode_supervisor.run)
        await self._child("users", "supervisor", self.user_supervisor.run)
        await self._child("catalog", "catalog", self.catalog.run)
        await self._child("plugins", "supervisor", self.plugin_supervisor.run)
        policy = policy_of(self.settings.supervision.plugin)
        for name, actor in self.effects.items():
            spec = ChildSpec(name=name, kind="plugin", run=actor.run, policy=policy, park=True)
            await self.plugin_supervisor.start_child(spec)
        for spec in self.plugin_tasks.children():
            self.plugin_supervisor.start_child_nowait(spec)
        await self._child("answers", "supervisor", self.plugin_tasks.answers.supervisor.run)
        await self._child("retention", "feed", self.retention.run)
        await self._child("housekeeping", "feed", self.housekeeping.run)
        await self._child("feed", "feed", self.feed.run)
        for name, run in self.workshop.children().items():
            await self._child(name, "supervisor" if name == "jobs" else "poller", run)
        await self._child("gateway", "gateway", gateway)

    async def _child(self, name: str, kind: str, run: Run) -> None:
        policy = policy_of(child_settings(self.settings, name))
        await self.root.start_child(ChildSpec(name=name, kind=kind, run=run, policy=policy, park=False))

    def _listen_in(self) -> None:
        """
        Let those who measure and trace hear of commits, publications and effects.
        """
        meter, traces = self.meter, self.traces

        def committed(event: Event) -> None:
            meter.committed(event)
            traces.committed(event)

        def published(topic: Topic, messages: Sequence[Message], delivered: int) -> None:
            meter.published(topic, messages, delivered)
            traces.published(topic, messages, delivered)

        self.feed.on_committed, self.hub.on_published = committed, published
        for effect in self.effects.values():
            effect.on_handled = traces.handled
        self.workshop.dispatcher.parts.on_ran = traces.ran
        if (poller := self.workshop.poller) is not None:
            poller.reduce = traces.reducing(poller.reduce)

    def _retune(self, settings: Settings) -> None:
        """
        Let all parts that were made once go by these settings.
        """
        kinds = settings.supervision
        for child in self.root.children():
            self.root.retune(policy_of(child_settings(settings, child.name)), only=child.name)
        for registry in (self.episodes, self.users, self.jobs_topic):
            kind = kinds.episode
            registry.retune(policy_of(kind), capacity=kind.mailbox, idle=kind.idle)
        self.plugin_supervisor.retune(policy_of(kinds.plugin))
        for name, effect in self.effects.items():
            effect.mailbox.resize(kinds.plugin.mailbox)
            effect.settings = effect_settings(settings, name)
        self.plugin_tasks.retune(settings)
        self.plugins.retune(settings.plugins)
        self.guard.limit = settings.plugins.block_limit
        realtime = settings.realtime
        self.catalog.mailbox.resize(kinds.catalog.mailbox)
        self.catalog.retune(
            ring=catalog_ring(realtime),
            replay_limit=realtime.replay_limit,
            replay_size=realtime.replay_size,
            position_interval=realtime.position_interval,
        )
        self.presence.interval = settings.presence.write_behind
        self.presence.heartbeat = settings.presence.heartbeat
        self.feed.poll, self.feed.batch = settings.feed.poll, settings.feed.batch
        self.retention.age = settings.retention.events_age
        self.retention.count = settings.retention.events_per_topic
        self.retention.interval = settings.retention.interval
        self.workshop.retune(settings)
        self.store.patient_log.patience = settings.retention.removed_plugin_age
        self.housekeeping.settings = settings.retention
        self.store.retune(settings.database.statement_timeout)

    async def _supervise_postgres(self, task_status: trio.TaskStatus[None]) -> None:
        assert self.embedded is not None
        await self.embedded.supervise(task_status=task_status)

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await self.store.bell.listen(self._heard)

    def _heard(self) -> None:
        self.feed.wake()
        self.workshop.heard()
