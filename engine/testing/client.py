"""A client of a simulated engine: subscribes, is present, calls; remembers what it hears. Knows no wire."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

import attrs
import trio

from engine.actors.answers import NoAnswer
from engine.actors.catalog import SubscribeCatalog
from engine.actors.episode import Join, Leave, presence_topic
from engine.actors.messages import Listed, Message, PresenceUpdate, Reached, Subscribed
from engine.actors.topic_log import Subscribe
from engine.domain.access import Action, Identity
from engine.domain.event import CATALOG, JOBS, EpisodeId, Event, Position, episode_topic, user_topic, utc_now
from engine.domain.presence import Meta, SessionId
from engine.domain.world import new_id
from engine.errors import EngineError
from engine.hookspecs import ClientSession, Refused, Resource
from engine.runtime.mailbox import Reply, ask

if TYPE_CHECKING:
    from engine.testing.engine import SimulatedEngine

# Virtual seconds that a client waits for anything.
PATIENCE = 60.0
# An actor that crashes or is away while it is asked is asked again.
ATTEMPTS = 20


@attrs.define(eq=False)
class Hearing:
    """
    The format of one client: bytes are only numbers of what it heard, so that nothing is encoded.
    """

    client: "SimulatedClient"

    def encode(self, message: Message) -> bytes:
        """
        Remember the message until it is pushed.
        """
        return self.client.pack(message)


@attrs.define(eq=False, kw_only=True)
class SimulatedClient:
    """
    Own one session, as the gateway would.
    """

    engine: "SimulatedEngine"
    identity: Identity
    session: ClientSession = attrs.field(init=False)
    # Everything it heard, in order.
    heard: list[Message] = attrs.field(factory=list, init=False)
    gone: bool = attrs.field(default=False, init=False)
    _format: Hearing = attrs.field(init=False)
    _packed: dict[int, Message] = attrs.field(factory=dict, init=False)
    _numbers: int = attrs.field(default=0, init=False)
    _present: dict[EpisodeId, Meta] = attrs.field(factory=dict, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.session = ClientSession(id=new_id(), identity=self.identity)
        self._format = Hearing(self)

    @property
    def id(self) -> SessionId:
        """
        The session's id.
        """
        return SessionId(self.session.id)

    @property
    def events(self) -> list[Event]:
        """
        The events that it heard, each once.
        """
        found: dict[str, Event] = {}
        for message in self.heard:
            event = message.event if isinstance(message, Listed) else message
            if isinstance(event, Event):
                found.setdefault(event.id, event)
        return list(found.values())

    @property
    def viewers(self) -> list[PresenceUpdate]:
        """
        What it was told of who is there.
        """
        return [message for message in self.heard if isinstance(message, PresenceUpdate)]

    def pack(self, message: Message) -> bytes:
        """
        Turn a message into bytes that `push` turns back.
        """
        self._numbers += 1
        self._packed[self._numbers] = message
        return b"%d\n" % self._numbers

    def push(self, data: bytes) -> bool:
        """
        Take what the hub writes.
        """
        if self.gone:
            return False
        for line in data.splitlines():
            message = self._packed.pop(int(line))
            self.heard.append(message)
            self.engine.note("heard", self.identity.user, _shown(message))
        self._changed.set()
        self._changed = trio.Event()
        return True

    async def subscribe(self, topic: str, since: Position | None = None) -> None:
        """
        Listen to `catalog`, `jobs`, `episode:<id>` or the own `user:<id>`. Raises RefusedError.
        """
        kind, _, key = topic.partition(":")
        node = self.engine.node
        if topic == CATALOG:
            await self._insist(partial(ask, node.catalog.mailbox, self._catalog))
        elif kind == "episode":
            await self._enter(Resource(type="episode", id=key, episode_id=key))
            wish = partial(self._wish, since)
            await self._insist(partial(node.episodes.ask, EpisodeId(key), wish))
        elif topic == JOBS:
            await self._enter(Resource(type="job"))
            wish = partial(self._wish, since)
            await self._insist(partial(node.jobs_topic.ask, JOBS, wish))
        elif topic == user_topic(self.identity.user):
            wish = partial(self._wish, since)
            await self._insist(partial(node.users.ask, self.identity.user, wish))
        else:
            mine = user_topic(self.identity.user)
            raise ValueError(f"{topic!r} is none of catalog, jobs, episode:<id>, {mine}")

    async def be_present(self, episode: str, state: str = "viewing") -> None:
        """
        Be present on an episode. Raises RefusedError.
        """
        await self._enter(Resource(type="episode", id=episode, episode_id=episode))
        key, now = EpisodeId(episode), utc_now()
        meta = Meta(
            user=self.identity.user, name=self.identity.name, state=state, joined_at=now, active_at=now
        )
        self._present[key] = meta
        self.engine.node.hub.track(presence_topic(episode_topic(key)), self.id, meta)

        def wish(reply: Reply[None]) -> Join:
            return Join(session=self.id, meta=meta, outlet=self, format=self._format, reply=reply)

        await self._insist(partial(self.engine.node.episodes.ask, key, wish))

    async def leave(self, episode: str) -> None:
        """
        Be present there no longer.
        """
        key = EpisodeId(episode)
        self._present.pop(key, None)
        there = presence_topic(episode_topic(key))
        self.engine.node.hub.untrack(there, self.id)
        self.engine.node.hub.unsubscribe(there, self.id)
        await self._insist(partial(self.engine.node.episodes.tell, key, Leave(self.id, self.identity.user)))

    async def call(self, name: str, args: Any = None) -> Any:
        """
        Let a plugin answer; its answer, or Refused.
        """
        reply: Reply[Any] = Reply()
        self.engine.node.plugin_tasks.answers.call(self.identity, name, args, reply.set)
        said = await reply.wait()
        return Refused(said.code, said.message) if isinstance(said, NoAnswer) else said

    async def disconnect(self) -> None:
        """
        Be gone.
        """
        if self.gone:
            return
        self.gone = True
        node = self.engine.node
        node.hub.drop_session(self.id)
        node.plugin_tasks.notices.closed(self.session)
        for key in list(self._present):
            with trio.move_on_after(PATIENCE):
                try:
                    await node.episodes.tell(key, Leave(self.id, self.identity.user))
                except EngineError:
                    # Parked or stopping: its next life counts only whom the hub knows.
                    continue

    async def wait(self, is_so: Callable[["SimulatedClient"], object]) -> None:
        """
        Wait until what was heard is enough; at most PATIENCE.
        """
        with trio.fail_after(PATIENCE):
            while not is_so(self):
                await self._changed.wait()

    async def _enter(self, resource: Resource) -> None:
        await self.engine.enter(self.identity.user, self.identity.role.name, Action.VIEW, resource)

    async def _insist(self, attempt: Callable[[], Any]) -> None:
        with trio.fail_after(PATIENCE):
            for number in range(ATTEMPTS):
                try:
                    await attempt()
                except EngineError:
                    if number == ATTEMPTS - 1:
                        raise
                    await trio.sleep(1)
                else:
                    return

    def _wish(self, since: Position | None, reply: Reply[None]) -> Subscribe:
        return Subscribe(
            session=self.id,
            outlet=self,
            format=self._format,
            since=since,
            wants_snapshot=False,
            reply=reply,
        )

    def _catalog(self, reply: Reply[None]) -> SubscribeCatalog:
        opening = self._format.encode
        return SubscribeCatalog(
            session=self.id, outlet=self, format=self._format, opening=opening, reply=reply
        )


def _shown(message: Message) -> str:
    """
    A message in a trace: what of it does not depend on anything but the seed.
    """
    match message:
        case Listed(event=event):
            return f"listed {event.type} {event.topic} {event.offset} {event.id}"
        case Event():
            return f"{message.type} {message.topic} {message.offset} {message.id}"
        case Subscribed():
            return f"subscribed {message.topic} at {message.position.offset}, recovered: {message.recovered}"
        case Reached():
            return f"reached {message.position.offset}"
        case PresenceUpdate():
            joined = [f"{one.user}:{one.state}" for one in (*message.joined, *(message.viewers or ()))]
            left = [one.user for one in message.left]
            return f"presence {message.resource_id} {message.total} {joined} -{left}"
        case _:
            assert_never(message)
