"""Bring a database's schema up to date, before the event loop starts. Safe twice, and by two at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from engine.errors import StartupError

# Any number that nobody else uses: "greenroo" in ASCII.
ADVISORY_LOCK = 0x677265656E726F6F
CONNECT_TIMEOUT = 10


def migrate(conninfo: str) -> list[str]:
    """
    Apply what is missing; answers the names of the migrations that were applied.

    Raises StartupError when the database cannot be reached or refuses.
    """
    try:
        with as_file(files("engine.store") / "migrations") as folder, _alone(conninfo):
            backend = _backend(conninfo)
            missing = backend.to_apply(read_migrations(str(folder)))
            backend.apply_migrations(missing)
            backend.connection.close()
            return [migration.id for migration in missing]
    except psycopg.OperationalError as error:
        raise StartupError(f"the database cannot be reached: {_one_line(error)}") from error
    except psycopg.Error as error:
        raise StartupError(f"the database could not be migrated: {_one_line(error)}") from error


@contextmanager
def _alone(conninfo: str) -> Iterator[None]:
    # yoyo's own lock is a row that a killed process leaves behind; this one ends with its connection.
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT) as connection:
        connection.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])
        yield


def _backend(conninfo: str) -> PostgresqlPsycopgBackend:
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    database = parts.pop("dbname", None)
    uri = DatabaseURI("postgresql+psycopg", None, None, None, None, database, parts)
    backend = PostgresqlPsycopgBackend(uri, "_yoyo_migration")
    backend.init_database()
    return backend


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
