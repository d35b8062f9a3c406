"""A store on a migrated database, and those who work on it."""

from collections.abc import AsyncIterator, Callable

import pytest
import trio

from engine.domain.event import (
    EpisodeId,
)
from engine.domain.presence import SessionId
from engine.store.migrate import migrate
from engine.store.store import Store
from tests.contract.stage import Client, Plain, Stage
from tests.contract.studio import PATIENCE, Log, Studio
from tests.contract.theatre import Theatre


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
