"""One PostgreSQL for the whole run, a fresh database for whoever asks for one."""

import itertools
from collections.abc import Iterator

import psycopg
import psycopg.conninfo
import psycopg.sql
import pytest

from engine.store.embedded import EmbeddedPostgres

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_conninfo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """
    An empty database, shared by all tests, on a PostgreSQL that forgets everything in a power cut.
    """
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("data"), parameters=quick)
    yield postgres.start()
    postgres.stop()


@pytest.fixture
def empty_database(postgres_conninfo: str) -> Iterator[str]:
    """
    An empty database of the test's own, dropped afterwards with whoever is still connected.
    """
    name = f"test_{next(_numbers)}"
    identifier = psycopg.sql.Identifier(name)
    with psycopg.connect(postgres_conninfo, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(identifier))
        yield psycopg.conninfo.make_conninfo(postgres_conninfo, dbname=name)
        connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
