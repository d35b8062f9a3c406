"""A session: one authenticated client, what it listens to and where it is present. Knows no transport."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import trio

from engine.actors.catalog import SubscribeCatalog
from engine.actors.messages import Subscribed
from engine.actors.topic_log import Subscribe, Unsubscribe
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
    user_topic,
)
from engine.domain.presence import SessionId
from engine.errors import EngineError
from engine.hookspecs import ClientSession, Resource
from engine.runtime.mailbox import Reply, ask
from gateway.presences import Presences
from gateway.session_client import PATIENCE, Refusal, SessionClient, episode_id

# What a client is told first, of where its subscription begins.
Opening = Callable[[Subscribed], bytes]


@attrs.frozen
class Since:
    """
    A position as a client sends it back, not yet checked.
    """

    offset: int | str
    epoch: str


@attrs.define(eq=False, kw_only=True)
class Session(SessionClient):
    """
    Own what one client connection listens to, and where its user is present through it.

    Everything it owns is also in the hub, so that a crash of an actor costs it nothing.
    """

    # Whether its topics make one stream, in which nothing comes twice. Else each of them tells all of its
    # past, because the client may have somebody new to tell it to.
    is_one_stream: bool = False
    # Where its user is present.
    presences: Presences = attrs.field(init=False, default=attrs.Factory(Presences, takes_self=True))
    # A client that subscribes to nothing hears the catalog, until it chooses for itself.
    _chose: bool = attrs.field(default=False, init=False)
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

        no = await self.patiently(partial(ask, self.node.catalog.mailbox, wish))
        if no is None and self._told is None:
            self._told = ClientSession(id=self.id, identity=self.identity)
            self.node.plugin_tasks.notices.opened(self._told)
        return no

    async def subscribe(self, topic: str, since: Since | None, *, snapshot: bool) -> Refusal | None:
        """
        Listen to a topic. The client is answered by the topic's actor, in order with the topic's events.
        """
        if len(self.topics) >= self.max_subscriptions and topic not in self.topics:
            return Refusal("too_many", f"a session has at most {self.max_subscriptions} subscriptions")
        kind, _, key = topic.partition(":")
        if topic == CATALOG:
            join = partial(self._join_catalog, since, snapshot=snapshot)
        elif kind == "episode" and (episode := episode_id(key)) is not None:
            if (no := await self.may_view(episode)) is not None:
                return no
            join = partial(self._join_log, self.node.episodes.ask, episode, since, snapshot)
        elif topic == user_topic(self.identity.user):
            join = partial(self._join_log, self.node.users.ask, self.identity.user, since, snapshot)
        elif topic == JOBS:
            if (no := await self.may(Resource(type="job"))) is not None:
                return no
            join = partial(self._join_log, self.node.jobs_topic.ask, JOBS, since, snapshot)
        elif kind == "user":
            return Refusal("forbidden", "another person's topic is not for you")
        else:
            return Refusal(
                "unknown_topic",
                f"there is no topic {topic!r}; topics are catalog, jobs, episode:<id>, user:<your id>",
            )
        if (no := await self.patiently(join)) is not None:
            return no
        if not self._chose:
            self._chose = True
            if topic != CATALOG:
                self.node.hub.unsubscribe(CATALOG, self.id)
        self.topics.add(Topic(topic))
        return None

    async def unsubscribe(self, topic: str) -> Refusal | None:
        """
        Listen to a topic no more.
        """
        if topic == CATALOG and not self._chose:
            self._chose = True
        elif topic not in self.topics:
            return Refusal("not_subscribed", f"this session is not subscribed to {topic!r}")
        self.topics.discard(Topic(topic))
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

    def positions(self) -> dict[str, Position | CatalogPosition]:
        """
        How far each topic that this session listens to has got.
        """
        found: dict[str, Position | CatalogPosition] = {}
        for topic in self.topics if self._chose else {CATALOG}:
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
        await self.presences.end()

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
                leaves_out_own=self.is_one_stream,
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
                # Who has not chosen yet leaves the catalog for this topic, and hears no event of it twice.
                owns_past=self.is_one_stream or not self._chose,
                reply=reply,
            )

        await ask_actor(key, wish)


def _unsubscription(session: SessionId, reply: Reply[None]) -> Unsubscribe:
    return Unsubscribe(session=session, reply=reply)
