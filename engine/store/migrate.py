"""Bring a database's schema up to date, before the event loop starts. Safe twice, and by two at once."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.resources import as_file, files

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from engine.errors import StartupError
from engine.store.pool import where_is

# Any number that nobody else uses: "greenroo" in ASCII.
ADVISORY_LOCK = 0x677265656E726F6F
CONNECT_TIMEOUT = 5


def migrate(conninfo: str) -> list[str]:
    """
    Apply what is missing; answers the names of the migrations that were applied.

    Raises StartupError when the database cannot be reached or refuses.
    """
    where = where_is(conninfo)
    try:
        folder = files("engine.store") / "migrations"
        with as_file(folder) as path, _alone(conninfo), _backend(conninfo) as backend:
            missing = backend.to_apply(read_migrations(str(path)))
            for migration in missing:
                with backend.transaction():
                    backend.apply_one(migration)
            return [migration.id for migration in missing]
    except psycopg.OperationalError as error:
        raise StartupError(f"{where} cannot be reached: {_one_line(error)}") from error
    except psycopg.Error as error:
        raise StartupError(f"{where} could not be migrated: {_one_line(error)}") from error


def known() -> list[str]:
    """
    The migrations that this release has, in their order.
    """
    with as_file(files("engine.store") / "migrations") as path:
        return [migration.id for migration in read_migrations(str(path))]


def applied(connection: psycopg.Connection) -> list[str]:
    """
    The migrations that a database has.
    """
    if connection.execute("select to_regclass('_yoyo_migration')").fetchone() == (None,):
        return []
    rows = connection.execute("select migration_id from _yoyo_migration order by 1").fetchall()
    return [str(row[0]) for row in rows]


@contextmanager
def _alone(conninfo: str) -> Iterator[None]:
    # yoyo's own lock is a row that a killed process leaves behind; this one ends with its connection.
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT) as connection:
        connection.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])
        yield


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # it ships without types
    """
    yoyo on one connection: a migration and the note that it was applied are one transaction.

    With a connection for each, as yoyo has it, a process killed in between leaves a database that can
    never be migrated again.
    """

    # yoyo uses it in a `with` only, which closes it.
    def copy(self) -> AbstractContextManager["_Backend"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return nullcontext(self)

    @contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:
        yield  # `_alone` is the lock


def _backend(conninfo: str) -> _Backend:
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    database = parts.pop("dbname", None)
    uri = DatabaseURI("postgresql+psycopg", None, None, None, None, database, parts)
    return _Backend(uri, "_yoyo_migration")


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
