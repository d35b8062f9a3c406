"""The pool lends what works, to no more than its size, and takes back nothing half done."""

import datetime
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import psycopg
import pytest
import trio
from psycopg import errors
from psycopg.types.json import Jsonb

from engine.errors import StoreUnavailableError
from engine.store.pool import Pool
from engine.store.trio_psycopg import TrioConnection
from tests.contract.pool_helpers import fill, open_pool, pid_of
from tests.contract.trio_psycopg_helpers import value_of


async def test_the_connection_used_last_is_lent_next(pool: Pool) -> None:
    """
    A pool under little load keeps few connections warm.
    """
    await fill(pool, 3)
    first = await pid_of(pool)
    assert [await pid_of(pool) for _ in range(3)] == [first] * 3
    assert pool.statistics().connects_total == 3


async def test_a_lent_connection_commits_by_itself(pool: Pool, observer: TrioConnection) -> None:
    """
    What a statement did is visible to others at once.
    """
    await observer.execute("CREATE TABLE pool_rows (number int)")
    try:
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO pool_rows VALUES (1)")
            assert await value_of(observer, "SELECT count(*) FROM pool_rows") == 1
    finally:
        await observer.execute("DROP TABLE pool_rows")


async def test_never_more_than_size_are_lent_and_who_waited_first_is_served_first(
    postgres_conninfo: str,
) -> None:
    """
    The bound holds, and waiting is fair.
    """
    served: list[int] = []

    async def use(pool: Pool, number: int) -> None:
        async with pool.connection():
            served.append(number)

    async with open_pool(postgres_conninfo, 1) as pool:
        async with trio.open_nursery() as nursery, pool.connection():
            for number in range(5):
                nursery.start_soon(use, pool, number)
                await trio.testing.wait_all_tasks_blocked()
            statistics = pool.statistics()
            assert (statistics.in_use, statistics.idle, statistics.waiting) == (1, 0, 5)
        assert served == [0, 1, 2, 3, 4]
        statistics = pool.statistics()
        assert (statistics.in_use, statistics.idle, statistics.waiting) == (0, 1, 0)
        assert (statistics.size, statistics.connects_total) == (1, 1)


async def test_an_unfinished_transaction_is_rolled_back(pool: Pool) -> None:
    """
    Whoever gets the connection next does not continue a stranger's transaction.
    """
    async with pool.connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute("CREATE TABLE pool_unfinished ()")
    pid = connection.info.backend_pid
    async with pool.connection() as connection:
        assert connection.info.backend_pid == pid
        assert await value_of(connection, "SELECT to_regclass('pool_unfinished')") is None


async def test_a_connection_that_does_not_commit_by_itself_any_more_is_not_lent_again(pool: Pool) -> None:
    """
    A forgotten set_autocommit(False) would silently throw away the next user's writes.
    """
    async with pool.connection() as connection:
        await connection.set_autocommit(False)
    assert connection.closed
    assert pool.statistics().idle == 0


async def test_a_connection_left_in_the_middle_of_something_is_not_lent_again(pool: Pool) -> None:
    """
    A stream nobody reads to its end goes with its connection.
    """
    async with pool.connection() as connection:
        rows = cast(
            "AsyncGenerator[object]", connection.cursor().stream("SELECT generate_series(1, 1000000)")
        )
        await anext(rows)
    assert connection.closed
    with pytest.raises(psycopg.OperationalError):
        async with aclosing(rows):
            await anext(rows)
    await pid_of(pool)


async def test_each_new_connection_is_configured_once(postgres_conninfo: str) -> None:
    """
    `configure` sees every connection before anybody else does.
    """

    async def configure(connection: TrioConnection) -> None:
        await connection.execute("SET statement_timeout = '7s'")
        configured.append(connection.info.backend_pid)

    configured: list[int] = []
    async with open_pool(postgres_conninfo, 2, configure) as pool:
        pids = await fill(pool, 2)
        async with pool.connection() as connection:
            assert await value_of(connection, "SHOW statement_timeout") == "7s"
    assert sorted(configured) == sorted(pids)


async def test_a_connection_that_cannot_be_configured_is_closed(postgres_conninfo: str) -> None:
    """
    The error reaches the caller, the slot is free again and the socket is not left behind.
    """

    async def configure(connection: TrioConnection) -> None:
        seen.append(connection)
        await connection.execute("SET no_such_setting = 1")

    seen: list[TrioConnection] = []
    async with open_pool(postgres_conninfo, 1, configure) as pool:
        for _ in range(2):
            with pytest.raises(errors.UndefinedObject):
                await pid_of(pool)
        assert [connection.closed for connection in seen] == [True, True]
        assert pool.statistics().in_use == 0


async def test_json_is_msgspec_s_on_the_pool_s_connections_only(pool: Pool, observer: TrioConnection) -> None:
    """
    msgspec writes a datetime, the standard library does not: other connections keep psycopg's default.
    """
    moment = Jsonb({"at": datetime.datetime(2026, 1, 7, tzinfo=datetime.UTC)})
    async with pool.connection() as connection:
        assert await value_of(connection, "SELECT %s", moment) == {"at": "2026-01-07T00:00:00Z"}
    with pytest.raises(TypeError, match="not JSON serializable"):
        await observer.execute("SELECT %s", [moment])


async def test_a_statement_is_prepared_when_it_comes_again(pool: Pool) -> None:
    """
    The second execution prepares; the first does not, as most one-off statements never come again.
    """
    async with pool.connection() as connection:
        count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%pool_mark%%'"
        await connection.execute("SELECT %s::int AS pool_mark", [1])
        assert await (await connection.execute(count, prepare=False)).fetchone() == (0,)
        await connection.execute("SELECT %s::int AS pool_mark", [2])
        assert await (await connection.execute(count, prepare=False)).fetchone() == (1,)


async def test_a_closed_pool_lends_nothing_and_keeps_nothing(postgres_conninfo: str) -> None:
    """
    Idle connections are closed at once, lent ones when they come back.
    """
    async with open_pool(postgres_conninfo, 2) as pool:
        await fill(pool, 2)
        async with pool.connection() as connection:
            await pool.aclose()
            assert pool.statistics().idle == 0
            assert await value_of(connection, "SELECT 1") == 1
        assert connection.closed
        with pytest.raises(StoreUnavailableError, match="closed"):
            await pid_of(pool)
        assert pool.statistics().in_use == 0
