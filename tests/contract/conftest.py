"""A store on a migrated database, and those who work on it; below it, a pool and single connections."""

from collections.abc import AsyncIterator, Callable

import pytest
import trio

from engine.domain.event import EpisodeId
from engine.domain.presence import SessionId
from engine.store.pool import Pool
from engine.store.store import Store
from engine.store.trio_psycopg import TrioConnection
from tests.contract.lobby import Lobby
from tests.contract.pool_helpers import open_pool
from tests.contract.relay import Relay
from tests.contract.stage import Client, Plain, Stage
from tests.contract.studio import PATIENCE, Log, Studio
from tests.contract.theatre import Theatre
from tests.contract.trio_psycopg_helpers import connected


@pytest.fixture
async def connection(postgres_conninfo: str) -> AsyncIterator[TrioConnection]:
    """
    A connection to the shared database, with an empty table.
    """
    async with connected(postgres_conninfo) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS driver_rows (number int, text text)")
        await connection.execute("TRUNCATE driver_rows")
        yield connection


@pytest.fixture
async def observer(postgres_conninfo: str) -> AsyncIterator[TrioConnection]:
    """
    A second connection, which sees what the others are at.
    """
    async with connected(postgres_conninfo) as connection:
        yield connection


@pytest.fixture
async def pool(postgres_conninfo: str) -> AsyncIterator[Pool]:
    """
    A pool of four connections.
    """
    async with open_pool(postgres_conninfo, 4) as pool:
        yield pool


@pytest.fixture
async def relay(postgres_conninfo: str, nursery: trio.Nursery) -> Relay:
    """
    A relay to the shared database, open.
    """
    relay = Relay(postgres_conninfo)
    await nursery.start(relay.run)
    return relay


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


@pytest.fixture
def studio(store: Store) -> Studio:
    """
    People at work.
    """
    return Studio(store, store.episodes, store.compositions)


@pytest.fixture
def client() -> Callable[[str], Client]:
    """
    Makes clients, by name; all speak the same format.
    """
    plain = Plain()
    return lambda name: Client(SessionId(name), plain)


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


@pytest.fixture
async def theatre(studio):
    """
    A database with a table of the plugin's own; no actor runs yet.
    """
    await studio.rows("create table written (number bigint generated always as identity, title text)")
    async with trio.open_nursery() as nursery:
        yield Theatre(studio=studio, log=studio.store.log, nursery=nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def lobby(studio: Studio) -> AsyncIterator[Lobby]:
    """
    A catalog that is not running yet.
    """
    async with trio.open_nursery() as nursery:
        yield Lobby(studio=studio, nursery=nursery)
        nursery.cancel_scope.cancel()
