"""What is not the database being away passes the pool as it is; no message tells a secret."""

from typing import LiteralString

import psycopg
import pytest
from psycopg import errors

from engine.errors import StartupError, StoreUnavailableError
from engine.store.pool import Pool
from tests.contract.pool_helpers import open_pool, pid_of


async def test_no_message_shows_the_password() -> None:
    """
    Neither the error, nor the repr, nor what an operator sees in the statistics.
    """
    async with open_pool("postgresql://me:s3cret@127.0.0.1:1/episodes", 1) as pool:
        with pytest.raises(StoreUnavailableError, match="episodes") as caught:
            await pid_of(pool)
        assert "s3cret" not in f"{caught.value} {caught.value.__cause__} {pool} {pool.statistics()}"


@pytest.mark.parametrize("conninfo", ["me:s3cret@db/episodes", "postgresql://me:s3cret@db:port s3cret/x"])
def test_a_malformed_connection_string_is_a_startup_error_without_the_password(conninfo: str) -> None:
    """
    libpq quotes what it could not read, which may be the password: that is not passed on.
    """
    with pytest.raises(StartupError, match="postgresql://user") as caught:
        Pool(conninfo, size=1)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("DO $$BEGIN RAISE unique_violation; END$$", errors.UniqueViolation),
        ("DO $$BEGIN RAISE serialization_failure; END$$", errors.SerializationFailure),
        ("DO $$BEGIN RAISE lock_not_available; END$$", errors.LockNotAvailable),
        ("DO $$BEGIN RAISE disk_full; END$$", errors.DiskFull),
        ("SET statement_timeout = 10; SELECT pg_sleep(60)", errors.QueryCanceled),
        ("SELECT 'x'::int", errors.InvalidTextRepresentation),
        ("SELECT 1 / 0", errors.DivisionByZero),
        ("SELEKT", errors.SyntaxError),
        ("SELECT * FROM no_such_table", errors.UndefinedTable),
    ],
)
async def test_an_error_of_a_statement_passes_and_the_connection_stays(
    pool: Pool, statement: LiteralString, error: type[psycopg.Error]
) -> None:
    """
    The database is there, it only refuses: that is for the caller to judge.
    """
    with pytest.raises(error):
        async with pool.connection() as connection:
            await connection.execute(statement)
    assert pool.statistics().idle == 1


@pytest.mark.parametrize("error", [KeyError("mine"), psycopg.OperationalError("mine")])
async def test_an_error_of_the_caller_s_own_passes_and_the_connection_stays(
    pool: Pool, error: Exception
) -> None:
    """
    What is raised in the block has nothing to do with the connection unless the connection is lost.
    """
    with pytest.raises(type(error), match="mine"):
        async with pool.connection():
            raise error
    assert pool.statistics().idle == 1
