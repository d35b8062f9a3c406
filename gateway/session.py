"""A session: one authenticated client, what it listens to and where it is present. Knows no transport."""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import attrs
import structlog
import trio

from engine.actors.catalog import SubscribeCatalog
from engine.actors.episode import Heartbeat, Join, Leave, presence_topic, shown_metas
from engine.actors.messages import Message, Subscribed
from engine.actors.topic_log import Subscribe, Unsubscribe
from engine.domain.access import Action, Identity, refusal
from engine.domain.event import (
    CATALOG,
    JOBS,
    CatalogPosition,
    EpisodeId,
    Epoch,
    Offset,
    Position,
    Topic,
    UserId,
    episode_topic,
    user_topic,
    utc_now,
)
from engine.domain.presence import STATES, Meta, SessionId, ViewerPage, page
from engine.errors import ActorStoppedError, EngineError
from engine.hookspecs import ClientSession, Resource
from engine.node import Node
from engine.runtime.hub import Format, Outlet
from engine.runtime.mailbox import Reply, ask
from gateway.auth import printable
from gateway.http.outlet import Conflating, LatestOutlet

log = structlog.get_logger()

# What a client is told first, of where its subscription begins.
Opening = Callable[[Subscribed], bytes]

# Seconds that an actor has to let a session in.
PATIENCE = 5.0
# An actor that crashes while it is asked is asked once more.
ATTEMPTS = 2
# Seconds between two heartbeats that actors are told of, at least.
HEARTBEAT = 5.0


@attrs.frozen
class Refusal:
    """
    Why a wish is not fulfilled: a code for programs, a text for people. The session goes on.
    """

    code: str
    message: str


@attrs.frozen
class Since:
    """
    A position as a client sends it back, not yet checked.
    """

    offset: int | str
    epoch: str


class SessionOutlet(Outlet, Conflating, Protocol):
    """
    What a session needs of the writer of its connection.
    """


@attrs.define(eq=False, kw_only=True)
class Session:
    """
    Own what one client connection listens to, and where its user is present through it.

    Everything it owns is also in the hub, so that a crash of an actor costs it nothing.
    """

    node: Node
    identity: Identity
    outlet: SessionOutlet
    format: Format[Message]
    max_subscriptions: int
    id: SessionId = attrs.field(init=False, factory=lambda: SessionId(str(uuid.uuid4())))
    # A client that subscribes to nothing hears the catalog, until it chooses for itself.
    _chose: bool = attrs.field(default=False, init=False)
    _topics: set[Topic] = attrs.field(factory=set, init=False)
    _present: dict[EpisodeId, Meta] = attrs.field(factory=dict, init=False)
    # As plugins were told of it; None until they were.
    _told: ClientSession | None = attrs.field(default=None, init=False)

    async def begin(
        self, since: CatalogPosition | None = None, opening: Opening | None = None
    ) -> Refusal | None:
        """
        Listen to the catalog, as whoever chooses nothing does; from a position on, if it is still there.
        """

        def wish(reply: Reply[None]) -> SubscribeCatalog:
            return SubscribeCatalog(
                session=self.id,
                outlet=self.outlet,
                format=self.format,
                opening=opening,
                since=since,
                wants_amends=False,
                reply=reply,
            )

        no = await self._patiently(partial(ask, self.node.catalog.mailbox, wish))
        if no is None and self._told is None:
            self._told = ClientSession(id=self.id, identity=self.identity)
            self.node.plugin_tasks.notices.opened(self._told)
        return no

    async def subscribe(self, topic: str, since: Since | None, *, snapshot: bool) -> Refusal | None:
        """
        Listen to a topic. The client is answered by the topic's actor, in order with the topic's events.
        """
        if len(self._topics) >= self.max_subscriptions and topic not in self._topics:
            return Refusal("too_many", f"a session has at most {self.max_subscriptions} subscriptions")
        kind, _, key = topic.partition(":")
        if topic == CATALOG:
            join = partial(self._join_catalog, since, snapshot=snapshot)
        elif kind == "episode" and (episode := _uuid(key)) is not None:
            if (no := await self._may_view(episode)) is not None:
                return no
            join = partial(self._join_log, self.node.episodes.ask, episode, since, snapshot)
        elif topic == user_topic(self.identity.user):
            join = partial(self._join_log, self.node.users.ask, self.identity.user, since, snapshot)
        elif topic == JOBS:
            if (no := await self._may(Resource(type="job"))) is not None:
                return no
            join = partial(self._join_log, self.node.jobs_topic.ask, JOBS, since, snapshot)
        elif kind == "user":
            return Refusal("forbidden", "another person's topic is not for you")
        else:
            return Refusal(
                "unknown_topic",
                f"there is no topic {topic!r}; topics are catalog, jobs, episode:<id>, user:<your id>",
            )
        if (no := await self._patiently(join)) is not None:
            return no
        if not self._chose:
            self._chose = True
            if topic != CATALOG:
                self.node.hub.unsubscribe(CATALOG, self.id)
        self._topics.add(Topic(topic))
        return None

    async def unsubscribe(self, topic: str) -> Refusal | None:
        """
        Listen to a topic no more.
        """
        if topic == CATALOG and not self._chose:
            self._chose = True
        elif topic not in self._topics:
            return Refusal("not_subscribed", f"this session is not subscribed to {topic!r}")
        self._topics.discard(Topic(topic))
        kind, _, key = topic.partition(":")
        if kind == "episode" and EpisodeId(key) in self.node.episodes:
            # Through its actor: what the catalog has left to it must be heard first.
            with suppress(EngineError), trio.move_on_after(PATIENCE):
                await self.node.episodes.ask(EpisodeId(key), partial(_unsubscription, self.id))
        elif topic == JOBS and JOBS in self.node.jobs_topic:
            with suppress(EngineError), trio.move_on_after(PATIENCE):
                await self.node.jobs_topic.ask(JOBS, partial(_unsubscription, self.id))
        self.node.hub.unsubscribe(Topic(topic), self.id)
        return None

    async def be_present(
        self, resource_type: str, resource_id: str, state: str, name: str | None
    ) -> Refusal | None:
        """
        Be present on an episode, or change the state. The first answer shows everyone who is there.
        """
        if state not in STATES:
            return Refusal("bad_state", f"state must be one of {', '.join(STATES)}, not {state!r}")
        episode = _uuid(resource_id)
        if resource_type != "episode" or episode is None:
            return Refusal("unknown_resource", "resourceType must be episode, and resourceId an episode's id")
        if len(self._present) >= self.max_subscriptions and episode not in self._present:
            return Refusal("too_many", f"a session is present on at most {self.max_subscriptions} resources")
        if (no := await self._may_view(episode)) is not None:
            return no
        return await self._patiently(partial(self._join_viewers, episode, state, name))

    async def leave(self, resource_type: str, resource_id: str) -> Refusal | None:
        """
        Be present on an episode no longer.
        """
        episode = _uuid(resource_id)
        if resource_type != "episode" or episode is None or self._present.pop(episode, None) is None:
            return Refusal("not_present", f"this session is not present on {resource_type} {resource_id!r}")
        there = presence_topic(episode_topic(episode))
        self.node.hub.untrack(there, self.id)
        self.node.hub.unsubscribe(there, self.id)
        await self._tell_left(episode)
        return None

    def viewers(self, resource_type: str, resource_id: str, after: str, limit: int) -> ViewerPage | Refusal:
        """
        A page of those who are present on an episode that this session is present on, or subscribed to.
        """
        episode = _uuid(resource_id)
        there = episode is not None and (episode in self._present or episode_topic(episode) in self._topics)
        if resource_type != "episode" or episode is None or not there:
            return Refusal("not_present", f"this session is not present on {resource_type} {resource_id!r}")
        return page(
            shown_metas(self.node.hub, episode_topic(episode)),
            now=utc_now(),
            active_for=timedelta(seconds=self.node.settings.presence.active_for),
            marks=self.node.plugin_tasks.marks.of(episode),
            after=after,
            limit=limit,
        )

    def heartbeat(self) -> None:
        """
        The client has given a sign of life: where it is present, it is active.
        """
        now = utc_now()
        for episode, meta in self._present.items():
            if (now - meta.active_at).total_seconds() >= HEARTBEAT:
                alive = self._present[episode] = attrs.evolve(meta, active_at=now)
                self.node.hub.track(presence_topic(episode_topic(episode)), self.id, alive)
                with suppress(EngineError):
                    self.node.episodes.tell_running_nowait(episode, Heartbeat(self.id, alive))

    def positions(self) -> dict[str, Position | CatalogPosition]:
        """
        How far each topic that this session listens to has got.
        """
        found: dict[str, Position | CatalogPosition] = {}
        for topic in self._topics if self._chose else {CATALOG}:
            if topic == CATALOG:
                found[topic] = self.node.catalog.told
            elif (offset := self.node.hub.heard(topic)) is not None:
                found[topic] = Position(offset, self.node.store.epoch)
        return found

    async def end(self) -> None:
        """
        Forget the session everywhere, within PATIENCE; others see its user leave.
        """
        self.node.hub.drop_session(self.id)
        if self._told is not None:
            self.node.plugin_tasks.notices.closed(self._told)
            self._told = None
        present, self._present = self._present, {}
        with trio.move_on_after(PATIENCE, shield=True):
            for episode in present:
                await self._tell_left(episode)

    async def _tell_left(self, episode: EpisodeId) -> None:
        try:
            await self.node.episodes.tell(episode, Leave(self.id, self.identity.user))
        except EngineError as error:
            # Parked or stopping: its next life counts only whom the hub still knows.
            log.debug("nobody to tell that a session left", episode=episode, reason=str(error))

    async def _may(self, resource: Resource) -> Refusal | None:
        reason = refusal(self.identity, Action.VIEW) or await self.node.plugins.authorize(
            self.identity, Action.VIEW, resource
        )
        return None if reason is None else Refusal("forbidden", reason)

    async def _may_view(self, episode: EpisodeId) -> Refusal | None:
        no = await self._may(Resource(type="episode", id=episode, episode_id=episode))
        if no is not None:
            return no
        # A running actor's episode is known to exist: a crowd that returns does not ask the store.
        known = episode in self.node.episodes
        if not known and await self.node.store.episodes.log_offset(episode) is None:
            return Refusal("not_found", f"there is no episode {episode}")
        return None

    async def _patiently(self, join: Callable[[], Awaitable[None]]) -> Refusal | None:
        with trio.move_on_after(PATIENCE):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await join()
                except ActorStoppedError:
                    if attempt == ATTEMPTS:
                        raise
                else:
                    return None
        return Refusal("try_later", f"the topic's actor did not answer within {PATIENCE:g} s")

    async def _join_catalog(self, since: Since | None, *, snapshot: bool) -> None:
        position = CatalogPosition.parsed(str(since.offset), Epoch(since.epoch)) if since else None

        def wish(reply: Reply[None]) -> SubscribeCatalog:
            return SubscribeCatalog(
                session=self.id,
                outlet=self.outlet,
                format=self.format,
                opening=self.format.encode,
                since=position,
                # A position that none of ours can be recovers nothing, and is shown the present state.
                wants_snapshot=snapshot or (since is not None and position is None),
                reply=reply,
            )

        await ask(self.node.catalog.mailbox, wish)

    async def _join_log(
        self,
        ask_actor: Callable[[Any, Callable[[Reply[None]], Subscribe]], Awaitable[None]],
        key: EpisodeId | UserId | Topic,
        since: Since | None,
        snapshot: bool,
    ) -> None:
        position = None
        if since is not None and isinstance(since.offset, int):
            position = Position(Offset(since.offset), Epoch(since.epoch))

        def wish(reply: Reply[None]) -> Subscribe:
            return Subscribe(
                session=self.id,
                outlet=self.outlet,
                format=self.format,
                since=position,
                wants_snapshot=snapshot or (since is not None and position is None),
                reply=reply,
            )

        await ask_actor(key, wish)

    async def _join_viewers(self, episode: EpisodeId, state: str, name: str | None) -> None:
        now = utc_now()
        before = self._present.get(episode)
        meta = Meta(
            user=self.identity.user,
            name=self._shown_name(name),
            state=state,
            joined_at=before.joined_at if before else now,
            active_at=now,
        )
        self._present[episode] = meta
        self.node.hub.track(presence_topic(episode_topic(episode)), self.id, meta)

        def wish(reply: Reply[None]) -> Join:
            # Of presence only the latest counts; events are never left out.
            latest = LatestOutlet(outlet=self.outlet, key=f"presence {episode}")
            return Join(session=self.id, meta=meta, outlet=latest, format=self.format, reply=reply)

        await self.node.episodes.ask(episode, wish)

    def _shown_name(self, wished: str | None) -> str:
        # A name that the token proves is not open to wishes.
        if self.identity.name != self.identity.user:
            return self.identity.name
        return printable(wished) or self.identity.name


def _unsubscription(session: SessionId, reply: Reply[None]) -> Unsubscribe:
    return Unsubscribe(session=session, reply=reply)


def _uuid(text: str) -> EpisodeId | None:
    """
    The id in its one spelling: a topic must not have two names.
    """
    try:
        known = str(uuid.UUID(text))
    except ValueError:
        return None
    return EpisodeId(known) if known == text else None
