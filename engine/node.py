"""The node: hangs the engine's parts into the supervision tree, and takes them down in order."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from conf.settings import Settings
from engine.actors.effects import Resume
from engine.actors.episode import Crash
from engine.assembly.overview import children_of
from engine.assembly.part_settings import child_settings
from engine.assembly.parts import Parts
from engine.assembly.topics import policy_of
from engine.assembly.workshop import KINDS
from engine.plugin_host.host import PluginHost
from engine.runtime.child import ChildSpec
from engine.runtime.mailbox import Mailbox, ask
from engine.runtime.supervisor import Supervisor
from engine.store.embedded import EmbeddedPostgres
from engine.store.store import Store

Run = Callable[[trio.TaskStatus[None]], Awaitable[None]]


@attrs.define(eq=False, kw_only=True)
class Node(Parts):
    """
    Own the life of one engine: `open` builds its parts, `run` lives them.

    A part that crashes is restarted; a crash that escalates ends `run`.
    """

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
            **{f"{name}/notices": actor.mailbox for name, actor in self.plugin_tasks.notices.actors.items()},
            **self.episodes.mailboxes(),
            **self.users.mailboxes(),
            **self.jobs_topic.mailboxes(),
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
            await self._child(name, KINDS.get(name, "poller"), run)
        await self._child("gateway", "gateway", gateway)

    async def _child(self, name: str, kind: str, run: Run) -> None:
        policy = policy_of(child_settings(self.settings, name))
        await self.root.start_child(ChildSpec(name=name, kind=kind, run=run, policy=policy, park=False))

    async def _supervise_postgres(self, task_status: trio.TaskStatus[None]) -> None:
        assert self.embedded is not None
        await self.embedded.supervise(task_status=task_status)

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await self.store.bell.listen(self._heard)

    def _heard(self) -> None:
        self.feed.wake()
        self.workshop.heard()
