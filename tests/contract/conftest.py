"""A store on a migrated database, people who write to it, and clients who remember what they are told."""

import itertools
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio

from engine.actors.episode import (
    Committed,
    Crash,
    EpisodeActor,
    EpisodeMessage,
    InjectedCrashError,
    Join,
    Leave,
    Subscribe,
    presence_topic,
)
from engine.actors.messages import Channels, Message, PresenceUpdate, Subscribed
from engine.domain import composition as compositions
from engine.domain import episode as episodes
from engine.domain.composition import Composition, CompositionId
from engine.domain.episode import Episode
from engine.domain.event import (
    EpisodeId,
    Event,
    LogPlace,
    Offset,
    Position,
    Request,
    Topic,
    UserId,
    episode_topic,
    utc_now,
)
from engine.domain.presence import Diff, Meta, SessionId, Viewer
from engine.errors import StoreUnavailableError
from engine.runtime.mailbox import Mailbox, Reply, ask
from engine.store.compositions import Compositions
from engine.store.episodes import Episodes, Idempotency, Replay
from engine.store.events import Author, EventLog
from engine.store.migrate import migrate
from engine.store.postgres import Database, Row
from engine.store.store import Store
from engine.store.trio_psycopg import TrioConnection

# What a test may wait for, in seconds, before it is said to hang: generous, because machines are busy.
PATIENCE = 20
ALICE = Author(user=UserId("alice@example.com"), request=Request(mutation_id="m", ip="127.0.0.1"))
WAITING = """
select backend_xid::text from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""

_numbers = itertools.count(1)


@pytest.fixture
def migrated_database(empty_database: str) -> str:
    """
    A database of the test's own with the present schema.
    """
    migrate(empty_database)
    return empty_database


@pytest.fixture
async def store(migrated_database: str) -> AsyncIterator[Store]:
    """
    A store on a migrated database of its own.
    """
    store = await Store.open(
        migrated_database, node="here", pool_size=6, background_size=4, deadline=PATIENCE
    )
    yield store
    await store.aclose()


@attrs.define(eq=False)
class OneConnection(Database):
    """
    A database that is one connection, and so one transaction, which somebody else ends.
    """

    connection_: TrioConnection = attrs.field(kw_only=True)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[TrioConnection]:
        yield self.connection_


@attrs.define(eq=False)
class Studio:
    """
    People at work: decides and commits, as the gateway does for them.
    """

    store: Store
    episodes: Episodes
    compositions: Compositions

    async def create(self, title: str = "Pilot", key: Idempotency | None = None, **fields: Any) -> Event:
        """
        Commit a new episode.
        """
        event = await self.try_create(title, key, **fields)
        assert isinstance(event, Event)
        return event

    async def try_create(
        self, title: str = "Pilot", key: Idempotency | None = None, **fields: Any
    ) -> Event | Replay:
        """
        The same, answering what the store does.
        """
        episode_id = EpisodeId(str(uuid.uuid4()))
        given = {"title": title, **fields}
        change = episodes.create(episode_id, given, user=ALICE.user, now=utc_now())
        return await self.episodes.create(change, ALICE, key)

    async def update(self, episode_id: EpisodeId, **fields: Any) -> Event:
        """
        Change an episode, as often as it takes to be first; to a title that is new, if nothing is given.
        """
        fields = fields or {"title": f"Take {next(_numbers)}"}
        while True:
            current = await self.get(episode_id)
            change = episodes.update(current, fields, now=utc_now())
            assert change is not None
            if (event := await self.episodes.update(change, ALICE)) is not None:
                return event

    async def write(self, episode_id: EpisodeId, count: int) -> list[Event]:
        """
        So many changes of an episode, one after the other.
        """
        return [await self.update(episode_id) for _ in range(count)]

    async def delete(self, episode_id: EpisodeId) -> Event:
        """
        Delete an episode.
        """
        current = await self.get(episode_id)
        event = await self.episodes.delete(current, episodes.delete(current), ALICE)
        assert event is not None
        return event

    async def get(self, episode_id: EpisodeId) -> Episode:
        """
        An episode that is there.
        """
        episode = await self.episodes.get(episode_id)
        assert episode is not None
        return episode

    async def compose(self, episode: Episode, name: str = "Poster") -> tuple[Composition, Event]:
        """
        Commit a new composition.
        """
        key = CompositionId(str(uuid.uuid4()))
        change = compositions.create(key, episode, {"name": name}, user=ALICE.user, now=utc_now())
        event = await self.compositions.create(change, ALICE)
        assert event is not None
        return change.composition, event

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Studio"]:
        """
        Somebody whose writes commit at the end of the block, not before.
        """
        async with self.store.background.connection() as connection, connection.transaction():
            database = OneConnection(pool=self.store.background, deadline=PATIENCE, connection_=connection)
            yield Studio(
                self.store,
                Episodes(database=database, epoch=self.store.epoch),
                Compositions(database=database, epoch=self.store.epoch),
            )

    async def rows(self, query: Any, *params: object) -> list[Row]:
        """
        What is in the tables; or change it, past the product.
        """
        async with self.store.background.connection() as connection:
            found = await connection.execute(query, params)
            return await found.fetchall() if found.description else []

    async def wait_for_lock(self) -> Row:
        """
        Wait until somebody waits for somebody else's transaction; its transaction id, if it has one.
        """
        with trio.fail_after(PATIENCE):
            while not (found := await self.rows(WAITING)):  # noqa: ASYNC110 -- no event tells of it
                await trio.sleep(0.005)
        return found[0]


@pytest.fixture
def studio(store: Store) -> Studio:
    """
    People at work.
    """
    return Studio(store, store.episodes, store.compositions)


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
        case Subscribed(position=position):
            shown = {"recovered": message.recovered, "snapshot": message.snapshot}
            return {"subscribed": message.topic, "at": position and position.offset, **shown}
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
        with trio.fail_after(PATIENCE):
            while not is_there(self):
                await self._pushed.wait()


@pytest.fixture
def client() -> Callable[[str], Client]:
    """
    Makes clients, by name; all speak the same format.
    """
    plain = Plain()
    return lambda name: Client(SessionId(name), plain)


@attrs.define(eq=False)
class Log:
    """
    The event log, which can be made to be away, and counts how often it was read.
    """

    log: EventLog
    # How many of the next reads fail.
    away: int = 0
    reads: int = 0

    async def since(self, topic: Topic, offset: Offset, limit: int) -> list[Event]:
        """
        As the event log has it, unless it is away.
        """
        self._read()
        return await self.log.since(topic, offset, limit)

    async def after(self, place: LogPlace, limit: int) -> list[Event]:
        """
        As the event log has it, unless it is away.
        """
        self._read()
        return await self.log.after(place, limit)

    def _read(self) -> None:
        self.reads += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailableError("the test has taken the database away")


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
    diffs: list[Diff] = attrs.field(factory=list)
    # Who was there when each life began.
    lives: list[list[UserId]] = attrs.field(factory=list)
    actor: EpisodeActor | None = None
    # Set when the present life has ended, by returning or by the crash that was asked for.
    ended: trio.Event = attrs.field(factory=trio.Event)
    mailbox: Mailbox[EpisodeMessage] = attrs.field(factory=lambda: Mailbox(256, name="stage", idle=0.05))

    async def start(self, *, ring: int = 100, replay_limit: int = 100) -> None:
        """
        Begin a life, and wait until it is ready.
        """
        self.actor = EpisodeActor(
            id=self.id,
            mailbox=self.mailbox,
            hub=self.hub,
            log=cast(EventLog, self.log),
            episodes=self.studio.episodes,
            epoch=self.studio.store.epoch,
            tick=0.02,
            ring=deque(maxlen=ring),
            replay_limit=replay_limit,
            on_presence=self,
        )
        self.ended = trio.Event()
        await self.nursery.start(self._live, self.actor)

    async def _live(self, actor: EpisodeActor, task_status: trio.TaskStatus[None]) -> None:
        try:
            await actor.run(task_status)
        except InjectedCrashError:
            pass
        finally:
            self.ended.set()

    def changed(self, episode: EpisodeId, diff: Diff) -> None:
        """
        What the actor says for the table of viewers.
        """
        assert episode == self.id
        self.diffs.append(diff)

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
        with trio.fail_after(PATIENCE):
            await self.ended.wait()

    async def subscribe(
        self, client: Client, since: Position | int | None = None, *, snapshot: bool = False
    ) -> dict[str, Any]:
        """
        Subscribe, from an offset in the present epoch or from a position; the answer that was heard.
        """
        begin = len(client.heard)
        with trio.fail_after(PATIENCE):
            await ask(self.mailbox, lambda reply: self.subscribing(client, since, snapshot, reply=reply))
        return client.heard[begin] if client.alive else {}

    def subscribing(
        self,
        client: Client,
        since: Position | int | None = None,
        snapshot: bool = False,
        *,
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
            reply=reply,
        )

    async def join(self, client: Client, user: str, state: str = "viewing") -> None:
        """
        Be present, as somebody.
        """
        with trio.fail_after(PATIENCE):
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


@pytest.fixture
async def stage(studio: Studio) -> AsyncIterator[Stage]:
    """
    An episode that has just been created; its actor is not running.
    """
    created = await studio.create()
    async with trio.open_nursery() as nursery:
        id_ = EpisodeId(created.topic.removeprefix("episode:"))
        yield Stage(studio=studio, nursery=nursery, id=id_, log=Log(studio.store.log), created=created)
        nursery.cancel_scope.cancel()
