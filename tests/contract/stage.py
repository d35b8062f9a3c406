"""One episode's actor without a node, and clients who remember what they are told."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import attrs
import trio

from conf.settings import load
from engine.actors.catalog import CatalogActor, CatalogMessage
from engine.actors.episode import (
    Crash,
    EpisodeActor,
    EpisodeMessage,
    InjectedCrashError,
    Join,
    Leave,
    presence_topic,
)
from engine.actors.messages import Channels, Listed, Message, PresenceUpdate, Reached, Subscribed
from engine.actors.topic_log import Committed, Subscribe
from engine.assembly.topics import Topics
from engine.domain.event import (
    EpisodeId,
    Epoch,
    Event,
    LogPlace,
    Offset,
    Position,
    UserId,
    episode_topic,
    utc_now,
)
from engine.domain.presence import Meta, SessionId, Viewer
from engine.runtime.mailbox import Mailbox, Reply, ask
from engine.store.events import EventLog
from tests.contract.studio import Log, Studio
from tests.patience import patience


def catalog_without_store(mailbox: Mailbox[CatalogMessage], hub: Channels) -> CatalogActor:
    """
    A catalog that nobody returns to, and so never asks the store.
    """

    async def snapshot() -> dict[str, object]:
        return {}

    return CatalogActor(
        mailbox=mailbox,
        hub=hub,
        log=cast(EventLog, None),
        epoch=Epoch("epoch"),
        snapshot=snapshot,
        brought=LogPlace(0, 0),
        replay_limit=100,
        replay_size=100_000,
        ring=deque(maxlen=100),
        position_interval=3600,
    )


class Plain:
    """
    Messages as lines of JSON, short enough to be compared in a test.
    """

    def encode(self, message: Message) -> bytes:
        return json.dumps(_plain(message)).encode() + b"\n"


def _plain(message: Message) -> dict[str, Any]:
    match message:
        case Event():
            return {"event": message.type, "offset": message.offset, "id": message.id}
        case Listed(event=event, position=position):
            return {**_plain(event), "then": position.offset}
        case Subscribed(position=position):
            shown = {"recovered": message.recovered, "snapshot": message.snapshot}
            return {"subscribed": message.topic, "at": position and position.offset, **shown}
        case Reached():
            return {"reached": message.position.offset}
        case PresenceUpdate():
            return {
                "total": message.total,
                "joined": [viewer.user for viewer in message.joined],
                "left": [viewer.user for viewer in message.left],
                "viewers": message.viewers and [viewer.user for viewer in message.viewers],
            }


@attrs.define(eq=False)
class Client:
    """
    An outlet that remembers every message; `alive` is whether it still takes them.
    """

    session: SessionId
    format: Plain
    alive: bool = True
    heard: list[dict[str, Any]] = attrs.field(factory=list)
    # One entry per write.
    writes: list[int] = attrs.field(factory=list)
    _pushed: trio.Event = attrs.field(factory=trio.Event)

    def push(self, data: bytes) -> bool:
        """
        Take what is written.
        """
        if self.alive:
            messages = [json.loads(line) for line in data.splitlines()]
            self.heard += messages
            self.writes.append(len(messages))
            self._pushed.set()
            self._pushed = trio.Event()
        return self.alive

    @property
    def offsets(self) -> list[int]:
        """
        The offsets of the events, in the order in which they were heard.
        """
        return [message["offset"] for message in self.heard if "event" in message]

    @property
    def ids(self) -> list[str]:
        """
        The ids of the events, in the order in which they were heard.
        """
        return [message["id"] for message in self.heard if "event" in message]

    @property
    def presence(self) -> list[dict[str, Any]]:
        """
        What it was told about viewers.
        """
        return [message for message in self.heard if "total" in message]

    async def wait(self, is_there: Callable[["Client"], object]) -> None:
        """
        Wait until what was heard is enough.
        """
        with patience():
            while not is_there(self):
                await self._pushed.wait()


@attrs.define(eq=False, kw_only=True)
class Stage:
    """
    One episode's actor, life after life, on one hub and one mailbox; sessions come as the gateway has them.
    """

    studio: Studio
    nursery: trio.Nursery
    id: EpisodeId
    log: Log
    created: Event
    hub: Channels = attrs.field(factory=Channels)
    # Who came or changed and who went, as the table of viewers is told.
    diffs: list[tuple[tuple[Viewer, ...], tuple[Viewer, ...]]] = attrs.field(factory=list)
    # Who was there when each life began.
    lives: list[list[UserId]] = attrs.field(factory=list)
    actor: EpisodeActor | None = None
    # Set when the present life has ended, by returning or by the crash that was asked for.
    ended: trio.Event = attrs.field(factory=trio.Event)
    # Without an idle time: there is no registry here that would begin the next life, and a pause of this
    # process is as long as the machine pleases. Who wants to see the actor passivate sets it.
    mailbox: Mailbox[EpisodeMessage] = attrs.field(factory=lambda: Mailbox(256, name="stage"))

    async def start(self, *, ring: int = 100, replay_limit: int = 100, replay_size: int = 1_000_000) -> None:
        """
        Begin a life, and wait until it is ready.
        """
        self.actor = self.topics(ring, replay_limit, replay_size).episode(self.id, self.mailbox)
        self.ended = trio.Event()
        await self.nursery.start(self._live, self.actor)

    def topics(self, ring: int = 100, replay_limit: int = 100, replay_size: int = 1_000_000) -> Topics:
        """
        What makes actors, with short times.
        """
        wanted = {
            "presence.tick": "20ms",
            "presence.reload_grace": 0,
            "realtime.replay_ring": ring,
            "realtime.replay_limit": replay_limit,
            "realtime.replay_size": replay_size,
        }
        return Topics(
            settings=load(None, environ={}, overrides=wanted).settings,
            store=attrs.evolve(
                self.studio.store, log=cast(EventLog, self.log), episodes=self.studio.episodes
            ),
            hub=self.hub,
            on_presence=self,
        )

    async def _live(self, actor: EpisodeActor, task_status: trio.TaskStatus[None]) -> None:
        try:
            await actor.run(task_status)
            # Nobody waits for an answer that cannot come.
            self.mailbox.close()
        except InjectedCrashError:
            pass
        finally:
            self.ended.set()

    def changed(self, episode: EpisodeId, present: Iterable[Viewer], gone: Iterable[Viewer]) -> None:
        """
        What the actor says for the table of viewers.
        """
        assert episode == self.id
        self.diffs.append((tuple(present), tuple(gone)))

    def began(self, episode: EpisodeId, viewers: Sequence[Viewer]) -> None:
        """
        What the actor says to it when a life begins.
        """
        assert episode == self.id
        self.lives.append([viewer.user for viewer in viewers])

    def tell(self, *messages: EpisodeMessage | Event) -> None:
        """
        Tell the actor; all of it is one turn, because the actor runs only afterwards.
        """
        for message in messages:
            self.mailbox.tell_nowait(Committed(message) if isinstance(message, Event) else message)

    async def crash(self, *before: EpisodeMessage | Event) -> None:
        """
        Let the actor fail in the turn in which it is told these, and wait until it has.
        """
        self.tell(*before, Crash())
        with patience():
            await self.ended.wait()

    async def subscribe(
        self, client: Client, since: Position | int | None = None, *, snapshot: bool = False
    ) -> dict[str, Any]:
        """
        Subscribe, from an offset in the present epoch or from a position; the answer that was heard.
        """
        begin = len(client.heard)
        with patience():
            await ask(self.mailbox, lambda reply: self.subscribing(client, since, snapshot, reply=reply))
        return client.heard[begin] if client.alive else {}

    def subscribing(
        self,
        client: Client,
        since: Position | int | None = None,
        snapshot: bool = False,
        *,
        owns_past: bool = False,
        reply: Reply[None],
    ) -> Subscribe:
        """
        The message to subscribe with.
        """
        position = Position(Offset(since), self.studio.store.epoch) if isinstance(since, int) else since
        return Subscribe(
            session=client.session,
            outlet=client,
            format=client.format,
            since=position,
            wants_snapshot=snapshot,
            owns_past=owns_past,
            reply=reply,
        )

    async def join(self, client: Client, user: str, state: str = "viewing") -> None:
        """
        Be present, as somebody.
        """
        with patience():
            await ask(self.mailbox, lambda reply: self.joining(client, user, state, reply=reply))

    def joining(self, client: Client, user: str, state: str = "viewing", *, reply: Reply[None]) -> Join:
        """
        The message to be present with; the session is tracked, as the gateway does it first.
        """
        there = presence_topic(episode_topic(self.id))
        now = utc_now()
        meta = Meta(user=UserId(user), name=user.title(), state=state, joined_at=now, active_at=now)
        self.hub.track(there, client.session, meta)
        return Join(session=client.session, meta=meta, outlet=client, format=client.format, reply=reply)

    def leave(self, client: Client, user: str) -> Leave:
        """
        The message to be gone with; the session is forgotten, as the gateway does it first.
        """
        self.hub.drop_session(client.session)
        return Leave(client.session, UserId(user))

    async def flush(self) -> None:
        """
        Wait until the actor has handled everything that it was told.
        """
        await self.subscribe(Client(SessionId("flush"), Plain()))
        self.hub.drop_session(SessionId("flush"))
