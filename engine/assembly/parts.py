"""Builds the node's parts from the settings, plugs them into one another, and lets them follow a reload."""

import random
from collections.abc import Mapping, Sequence
from typing import Self

import attrs

from conf.settings import Settings
from engine.actors.catalog import CatalogActor
from engine.actors.effects import EffectActor, EffectMessage
from engine.actors.episode import EpisodeMessage
from engine.actors.feed import Feed
from engine.actors.housekeeping import Housekeeping
from engine.actors.log_actor import LogMessage
from engine.actors.messages import Channels, Message
from engine.actors.meter import Meter
from engine.actors.presence import PresenceWriter
from engine.actors.retention import Retention
from engine.assembly.part_settings import child_settings, effect_settings
from engine.assembly.plugin_tasks import PluginTasks
from engine.assembly.topics import Topics, policy_of
from engine.assembly.workshop import Workshop
from engine.domain.event import EpisodeId, Event, Topic, UserId
from engine.live import Live
from engine.plugin_host.handle import EngineParts
from engine.plugin_host.host import PluginHost
from engine.runtime.loop_guard import LoopGuard
from engine.runtime.mailbox import Mailbox
from engine.runtime.registry import Registry
from engine.runtime.supervisor import Strategy, Supervisor
from engine.runtime.watchdog import Watchdog
from engine.store.embedded import EmbeddedPostgres
from engine.store.store import Store
from engine.traces import Traces


@attrs.define(eq=False, kw_only=True)
class Parts:
    """
    Own every part of one engine. Does not run them.
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
    async def build(
        cls,
        settings: Settings,
        store: Store,
        plugins: PluginHost,
        embedded: EmbeddedPostgres | None = None,
        chance: random.Random | None = None,
    ) -> Self:
        """
        All of it on a store, not yet running; `chance` spreads restarts. Raises StoreUnavailableError.
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
        parts = cls(
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
                lives=tasks.lives,
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
        parts._listen_in()
        parts.live.follow(topics.retune)
        parts.live.follow(parts._retune)
        return parts

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
        Let all parts that were made once go by these settings; `Topics` does so for the actors of topics.
        """
        kinds = settings.supervision
        for child in self.root.children():
            self.root.retune(policy_of(child_settings(settings, child.name)), only=child.name)
        self.plugin_supervisor.retune(policy_of(kinds.plugin))
        for name, effect in self.effects.items():
            effect.mailbox.resize(kinds.plugin.mailbox)
            effect.settings = effect_settings(settings, name)
        self.plugin_tasks.retune(settings)
        self.plugins.retune(settings.plugins)
        self.guard.limit = settings.plugins.block_limit
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
