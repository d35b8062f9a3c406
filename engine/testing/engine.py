"""A whole engine on a virtual clock: people who write, clients who listen, failures at will, and a trace."""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import trio

from conf.settings import Settings
from engine.actors.answers import NoAnswer
from engine.actors.episode import Crash
from engine.domain import episode as decide
from engine.domain.access import Action, Identity, refusal
from engine.domain.episode import Episode
from engine.domain.event import EpisodeId, Event, EventDraft, UserId, episode_topic, utc_now
from engine.domain.world import new_id
from engine.hookspecs import HttpRequest, HttpResponse, Resource
from engine.node import Node
from engine.plugin_host.host import PluginHost
from engine.runtime.child import SupervisorEvent
from engine.store.memory_plugins import Script
from engine.store.memory_store import MemoryStore
from engine.store.store import Store
from engine.testing.client import SimulatedClient
from engine.testing.jobs import SimulatedJobs
from engine.testing.people import RefusedError, author, checked, identity

# Virtual seconds that `settle` waits.
PATIENCE = 3600.0
# A write that others are faster at is decided anew.
ATTEMPTS = 10


@attrs.frozen(kw_only=True)
class TraceEntry:
    """
    One thing that happened, and when: in virtual seconds since the beginning.
    """

    at: float
    what: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.at:12.3f}  {self.what:<10} {' '.join(self.details)}"


@attrs.define(eq=False, kw_only=True)
class SimulatedEngine:
    """
    Own a running node and what happens to it.
    """

    node: Node
    store: MemoryStore
    # Random choices of the seed's, for whoever makes a scenario.
    chance: random.Random
    trace: list[TraceEntry] = attrs.field(factory=list, init=False)
    clients: list[SimulatedClient] = attrs.field(factory=list, init=False)
    # Submits jobs, waits for them, lets them fail.
    jobs: SimulatedJobs = attrs.field(init=False)
    # Set, and made anew, with every event that is committed.
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)
    _began: float = attrs.field(init=False, factory=trio.current_time)

    def __attrs_post_init__(self) -> None:
        self.jobs = SimulatedJobs(self)

    @classmethod
    async def build(cls, settings: Settings, plugins: PluginHost, chance: random.Random) -> "SimulatedEngine":
        """
        An engine that does not run yet.
        """
        store = MemoryStore.empty()
        plugins.runner.in_threads = False
        # It has what the node uses of a store; tests hold its parts to the promises of PostgreSQL's.
        node = await Node.build(settings, cast(Store, store), plugins, chance=chance)
        engine = cls(node=node, store=store, chance=chance)
        store.tables.on_commit = engine._written
        for supervisor in node.supervisors.values():
            supervisor.on_event = engine._happened
        return engine

    @asynccontextmanager
    async def running(self) -> AsyncIterator["SimulatedEngine"]:
        """
        Run it for the time of the block, and stop it in good order.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: self.node.run(_no_gateway, task_status=task_status))
            yield self
            for client in self.clients:
                await client.disconnect()
            await self.node.stop()

    @property
    def now(self) -> float:
        """
        Virtual seconds since the beginning.
        """
        return trio.current_time() - self._began

    @property
    def script(self) -> Script:
        """
        What plugins' SQL answers, and what was committed of it.
        """
        return self.store.cursors.script

    def note(self, what: str, *details: object) -> None:
        """
        Put something into the trace.
        """
        self.trace.append(
            TraceEntry(at=round(self.now, 6), what=what, details=tuple(str(one) for one in details))
        )

    def client(self, user: str = "bob@example.com", role: str = "viewer") -> SimulatedClient:
        """
        A client that has connected as this person.
        """
        client = SimulatedClient(engine=self, identity=identity(user, role))
        self.clients.append(client)
        self.node.plugin_tasks.notices.opened(client.session)
        return client

    async def enter(self, user: str, role: str, action: Action, resource: Resource) -> Identity:
        """
        Ask whether somebody may do that: the role, then the plugins' `authorize`. Raises RefusedError.
        """
        who = identity(user, role)
        reason = refusal(who, action) or await self.node.plugins.authorize(who, action, resource)
        if reason is not None:
            raise RefusedError(reason)
        return who

    async def create(
        self, title: str = "Pilot", *, user: str = "alice@example.com", role: str = "editor", **fields: Any
    ) -> Episode:
        """
        Create an episode, as `POST /episodes` does. Raises RefusedError, StoreUnavailableError.
        """
        who = await self.enter(user, role, Action.CREATE, Resource(type="episode"))
        given = checked(decide.parse_new({"title": title, **fields}))
        change = decide.create(EpisodeId(new_id()), given, user=UserId(user), now=utc_now())
        await self._validate(who, None, change.episode, {})
        done = await self.store.episodes.create(change, author(user))
        assert isinstance(done, Event)
        self.node.feed.committed(done)
        return change.episode

    async def change(
        self,
        episode: str,
        *,
        user: str = "alice@example.com",
        role: str = "editor",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Episode:
        """
        Change some fields, as `PATCH /episodes/{id}` does. Raises RefusedError, StoreUnavailableError.
        """
        who = await self.enter(user, role, Action.UPDATE, _resource(episode))
        given = checked(decide.parse_patch(fields))
        for _ in range(ATTEMPTS):
            current = await self.episode(episode)
            change = decide.update(current, given, now=utc_now())
            if change is None:
                return current
            await self._validate(who, current, change.episode, headers or {})
            event = await self.store.episodes.update(change, author(user))
            if event is not None:
                self.node.feed.committed(event)
                return change.episode
        raise RefusedError(f"episode {episode} is changed by too many at once")

    async def delete(self, episode: str, *, user: str = "alice@example.com", role: str = "editor") -> None:
        """
        Delete an episode, as `DELETE /episodes/{id}` does. Raises RefusedError, StoreUnavailableError.
        """
        await self.enter(user, role, Action.DELETE, _resource(episode))
        current = await self.episode(episode)
        event = await self.store.episodes.delete(current, decide.delete(current), author(user))
        if event is None:
            raise RefusedError(f"episode {episode} was changed meanwhile")
        self.node.feed.committed(event)

    async def episode(self, episode: str) -> Episode:
        """
        An episode as it stands. Raises RefusedError, StoreUnavailableError.
        """
        found = await self.store.episodes.get(EpisodeId(episode))
        if found is None:
            raise RefusedError(f"there is no episode {episode}")
        return found

    async def publish(
        self, type: str, data: Mapping[str, object], *, episode: str, user: str = "alice@example.com"
    ) -> Event:
        """
        Commit any event in an episode's log, whatever its type: `job_completed`, for one.
        """
        await self.store.tables.reach()
        draft = EventDraft(type=type, data=data)
        [event] = self.store.tables.append([(episode_topic(EpisodeId(episode)), draft, author(user))])
        self.node.feed.committed(event)
        return event

    async def http(
        self,
        plugin: str,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        user: str = "alice@example.com",
        role: str = "editor",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse | NoAnswer | None:
        """
        Let a plugin answer a request under `/api/v1/x/<plugin>/`. Raises RefusedError.
        """
        action = Action.READ if method in ("GET", "HEAD") else Action.UPDATE
        who = await self.enter(user, role, action, Resource(type="plugin", id=plugin))
        request = HttpRequest(
            method=method,
            path=path,
            query=query or {},
            headers=headers or {},
            body=body,
            identity=who,
            id=new_id(),
        )
        said = await self.node.plugin_tasks.answers.http(plugin, request)
        return cast("HttpResponse | NoAnswer | None", said)

    async def advance(self, seconds: float) -> None:
        """
        Let virtual time pass.
        """
        await trio.sleep(seconds)

    async def settle(self) -> None:
        """
        Wait until every plugin that is not quarantined has handled everything that is committed.
        """
        with trio.fail_after(PATIENCE):
            while any(not self._is_settled(name) for name in self.node.effects):  # noqa: ASYNC110 -- virtual
                await trio.sleep(0.01)

    async def wait_committed(self) -> None:
        """
        Wait until the next event is committed. The caller has a deadline.
        """
        await self._news.wait()

    def crash_episode(self, episode: str) -> None:
        """
        Let an episode's actor crash, if it runs.
        """
        self.note("crash", episode)
        self.node.episodes.tell_running_nowait(EpisodeId(episode), Crash())

    async def restart(self, name: str) -> bool:
        """
        End a child of the supervision tree, by its name, and let its supervisor start it again.
        """
        self.note("restart", name)
        return any([await supervisor.restart_child(name) for supervisor in self.node.supervisors.values()])

    @asynccontextmanager
    async def outage(self, *, loses_answers: bool = False) -> AsyncIterator[None]:
        """
        Break the store for the time of the block. With `loses_answers` writes are made, but nobody hears so.
        """
        tables = self.store.tables
        self.note("outage", "begins", "answers are lost" if loses_answers else "")
        tables.broken, tables.loses_answers = not loses_answers, loses_answers
        try:
            yield
        finally:
            tables.broken = tables.loses_answers = False
            self.note("outage", "ends")

    def _written(self, event: Event) -> None:
        self.note("committed", event.type, event.topic, event.offset, event.id)
        self._news.set()
        self._news = trio.Event()

    def _happened(self, event: SupervisorEvent) -> None:
        self.note("child", event.supervisor, event.child, event.what.value, *_kind_of(event.error))

    def _is_settled(self, name: str) -> bool:
        actor = self.node.effects[name]
        events = self.store.tables.events
        return actor.quarantined_at is not None or not events or actor.cursor.place >= events[-1].place

    async def _validate(
        self, who: Identity, before: Episode | None, after: Episode, headers: Mapping[str, str]
    ) -> None:
        errors = await self.node.plugins.validate_episode(
            who, None if before is None else before.to_json(), after.to_json(), headers
        )
        if errors:
            raise RefusedError("; ".join(f"{error.field}: {error.message}" for error in errors), errors)


def _resource(episode: str) -> Resource:
    return Resource(type="episode", id=episode, episode_id=episode)


def _kind_of(error: Exception | None) -> list[str]:
    # Without its text, which may tell addresses in memory.
    return [] if error is None else [type(error).__name__]


async def _no_gateway(task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()
