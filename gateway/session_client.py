"""Who the client of a session is, what it may, and how patient it is with actors."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
import trio

from engine.actors.messages import Message
from engine.domain.access import Action, Identity, refusal
from engine.domain.event import EpisodeId, Topic
from engine.domain.presence import SessionId
from engine.errors import ActorStoppedError
from engine.hookspecs import Resource
from engine.node import Node
from engine.runtime.hub import Format, Outlet
from gateway.http.outlet import Conflating

# Seconds that an actor has to let a session in.
PATIENCE = 5.0
# An actor that crashes while it is asked is asked once more.
ATTEMPTS = 2


@attrs.frozen
class Refusal:
    """
    Why a wish is not fulfilled: a code for programs, a text for people. The session goes on.
    """

    code: str
    message: str


class SessionOutlet(Outlet, Conflating, Protocol):
    """
    What a session needs of the writer of its connection.
    """


@attrs.define(eq=False, kw_only=True)
class SessionClient:
    """
    Own what a session knows of its client.
    """

    node: Node
    identity: Identity
    outlet: SessionOutlet
    format: Format[Message]
    max_subscriptions: int
    id: SessionId = attrs.field(init=False, factory=lambda: SessionId(str(uuid.uuid4())))
    # What it listens to, by its own choice.
    topics: set[Topic] = attrs.field(factory=set, init=False)

    async def may(self, resource: Resource) -> Refusal | None:
        """
        Why the client may not see this; None if it may.
        """
        reason = refusal(self.identity, Action.VIEW) or await self.node.plugins.authorize(
            self.identity, Action.VIEW, resource
        )
        return None if reason is None else Refusal("forbidden", reason)

    async def may_view(self, episode: EpisodeId) -> Refusal | None:
        """
        Why the client may not see this episode, or that there is none; None if it may.
        """
        no = await self.may(Resource(type="episode", id=episode, episode_id=episode))
        if no is not None:
            return no
        # A running actor's episode is known to exist: a crowd that returns does not ask the store.
        known = episode in self.node.episodes
        if not known and await self.node.store.episodes.log_offset(episode) is None:
            return Refusal("not_found", f"there is no episode {episode}")
        return None

    async def patiently(self, join: Callable[[], Awaitable[None]]) -> Refusal | None:
        """
        Join what an actor has. Raises ParkedError, and ActorStoppedError when it crashed at each attempt.
        """
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


def episode_id(text: str) -> EpisodeId | None:
    """
    An id in its one spelling: a topic must not have two names.
    """
    try:
        known = str(uuid.UUID(text))
    except ValueError:
        return None
    return EpisodeId(known) if known == text else None
