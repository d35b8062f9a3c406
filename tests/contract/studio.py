"""People who write to a store as the gateway does for them, and a log that can be made to be away."""

import itertools
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import trio

from engine.domain import composition as compositions
from engine.domain import episode as episodes
from engine.domain.composition import Composition, CompositionId
from engine.domain.episode import Episode
from engine.domain.event import (
    EpisodeId,
    Event,
    LogPlace,
    Offset,
    Request,
    Topic,
    UserId,
    utc_now,
)
from engine.errors import StoreUnavailableError
from engine.store.compositions import Compositions
from engine.store.episodes import Episodes, Idempotency, Replay
from engine.store.events import Author, EventLog
from engine.store.pool import Pool
from engine.store.postgres import Database, Row
from engine.store.store import Store
from engine.store.trio_psycopg import TrioConnection
from tests.patience import PATIENCE, patience

ALICE = Author(user=UserId("alice@example.com"), request=Request(mutation_id="m", ip="127.0.0.1"))
WAITING = """
select backend_xid::text from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""

_numbers = itertools.count(1)


@attrs.define(eq=False)
class OneConnection:
    """
    A pool that is one connection, and so one transaction, which somebody else ends.
    """

    lent: TrioConnection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[TrioConnection]:
        yield self.lent


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
            database = Database(pool=cast(Pool, OneConnection(connection)), deadline=PATIENCE)
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
        with patience():
            while not (found := await self.rows(WAITING)):  # noqa: ASYNC110 -- no event tells of it
                await trio.sleep(0.005)
        return found[0]


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

    async def after(
        self, place: LogPlace, limit: int, told: Mapping[LogPlace, Event] | None = None
    ) -> list[Event]:
        """
        As the event log has it, unless it is away.
        """
        self._read()
        return await self.log.after(place, limit, told)

    def _read(self) -> None:
        self.reads += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailableError("the test has taken the database away")
