"""A store on a migrated database, people who write to it, and clients who remember what they are told."""

import itertools
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from engine.actors.messages import Message, PresenceUpdate, Subscribed
from engine.domain import composition as compositions
from engine.domain import episode as episodes
from engine.domain.composition import Composition, CompositionId
from engine.domain.episode import Episode
from engine.domain.event import EpisodeId, Event, Request, UserId, utc_now
from engine.domain.presence import SessionId
from engine.store.compositions import Compositions
from engine.store.episodes import Episodes, Idempotency, Replay
from engine.store.events import Author
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
