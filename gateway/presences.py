"""Where a session's user is present, and who else is there."""

from contextlib import suppress
from datetime import timedelta
from functools import partial

import attrs
import structlog
import trio

from engine.actors.episode import Heartbeat, Join, Leave, presence_topic, shown_metas
from engine.domain.event import EpisodeId, Topic, episode_topic, utc_now
from engine.domain.presence import STATES, Meta, ViewerPage, page
from engine.errors import EngineError
from engine.node import Node
from engine.runtime.mailbox import Reply
from gateway.auth import printable
from gateway.http.outlet import LatestOutlet
from gateway.session_client import PATIENCE, Refusal, SessionClient, episode_id

log = structlog.get_logger()

# Seconds between two heartbeats that actors are told of, at least.
HEARTBEAT = 5.0


@attrs.define(eq=False)
class Presences:
    """
    Own where one session's user is present.

    All of it is also in the hub: a crash of an episode's actor costs it nothing.
    """

    client: SessionClient
    _present: dict[EpisodeId, Meta] = attrs.field(factory=dict, init=False)

    @property
    def node(self) -> Node:
        return self.client.node

    async def join(
        self, resource_type: str, resource_id: str, state: str, name: str | None
    ) -> Refusal | None:
        """
        Be present on an episode, or change the state. The first answer shows everyone who is there.
        """
        if state not in STATES:
            return Refusal("bad_state", f"state must be one of {', '.join(STATES)}, not {state!r}")
        episode = episode_id(resource_id)
        if resource_type != "episode" or episode is None:
            return Refusal("unknown_resource", "resourceType must be episode, and resourceId an episode's id")
        most = self.client.max_subscriptions
        if len(self._present) >= most and episode not in self._present:
            return Refusal("too_many", f"a session is present on at most {most} resources")
        if (no := await self.client.may_view(episode)) is not None:
            return no
        return await self.client.patiently(partial(self._join_viewers, episode, state, name))

    async def leave(self, resource_type: str, resource_id: str) -> Refusal | None:
        """
        Be present on an episode no longer.
        """
        episode = episode_id(resource_id)
        if resource_type != "episode" or episode is None or self._present.pop(episode, None) is None:
            return Refusal("not_present", f"this session is not present on {resource_type} {resource_id!r}")
        there = _there(episode)
        self.node.hub.untrack(there, self.client.id)
        self.node.hub.unsubscribe(there, self.client.id)
        # One that is told too late, or never, is missed by the actor itself.
        with trio.move_on_after(PATIENCE):
            await self._tell_left(episode)
        return None

    def viewers(self, resource_type: str, resource_id: str, after: str, limit: int) -> ViewerPage | Refusal:
        """
        A page of those who are present on an episode that this session is present on, or subscribed to.
        """
        episode = episode_id(resource_id)
        if (
            resource_type != "episode"
            or episode is None
            or not (episode in self._present or episode_topic(episode) in self.client.topics)
        ):
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
                self.node.hub.track(_there(episode), self.client.id, alive)
                with suppress(EngineError):
                    self.node.episodes.tell_running_nowait(episode, Heartbeat(self.client.id, alive))

    async def end(self) -> None:
        """
        Be present nowhere any more, within PATIENCE; others see the user leave.
        """
        present, self._present = self._present, {}
        with trio.move_on_after(PATIENCE, shield=True):
            for episode in present:
                await self._tell_left(episode)

    async def _tell_left(self, episode: EpisodeId) -> None:
        try:
            await self.node.episodes.tell(episode, Leave(self.client.id, self.client.identity.user))
        except EngineError as error:
            # Parked or stopping: its next life counts only whom the hub still knows.
            log.debug("nobody to tell that a session left", episode=episode, reason=str(error))

    async def _join_viewers(self, episode: EpisodeId, state: str, name: str | None) -> None:
        now = utc_now()
        before = self._present.get(episode)
        meta = Meta(
            user=self.client.identity.user,
            name=self._shown_name(name),
            state=state,
            joined_at=before.joined_at if before else now,
            active_at=now,
        )
        self._present[episode] = meta
        self.node.hub.track(_there(episode), self.client.id, meta)

        def wish(reply: Reply[None]) -> Join:
            # Of presence only the latest counts; events are never left out.
            latest = LatestOutlet(outlet=self.client.outlet, key=f"presence {episode}")
            client = self.client
            return Join(session=client.id, meta=meta, outlet=latest, format=client.format, reply=reply)

        await self.node.episodes.ask(episode, wish)

    def _shown_name(self, wished: str | None) -> str:
        # A name that the token proves is not open to wishes.
        identity = self.client.identity
        if identity.name != identity.user:
            return identity.name
        return printable(wished) or identity.name


def _there(episode: EpisodeId) -> Topic:
    return presence_topic(episode_topic(episode))
