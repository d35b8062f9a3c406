"""psycopg on Trio keeps psycopg's promises: statements, pipelines, copies, streams, and their turns."""

from collections.abc import Awaitable, Callable
from typing import Any, LiteralString, cast

import pytest
import trio
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from engine.store import trio_psycopg
from engine.store.trio_psycopg import TrioConnection
from tests.contract.trio_psycopg_helpers import assert_usable, streamed, value_of


async def test_a_query_returns_its_rows(connection: TrioConnection) -> None:
    """
    The simplest statement works.
    """
    assert await (await connection.execute("SELECT 1, 'a'")).fetchall() == [(1, "a")]


async def test_executemany_runs_once_for_each_row(connection: TrioConnection) -> None:
    """
    executemany sends all rows through one pipeline and counts them.
    """
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO driver_rows VALUES (%s, %s)", [(i, "x" * i) for i in range(1000)]
        )
        assert cursor.rowcount == 1000
    assert await value_of(connection, "SELECT sum(number) FROM driver_rows") == sum(range(1000))


async def test_results_of_a_pipeline_come_back_to_their_cursors(connection: TrioConnection) -> None:
    """
    In a pipeline every cursor gets the result of its own statement.
    """
    async with connection.pipeline():
        cursors = [await connection.execute("SELECT %s::int", [i]) for i in range(50)]
        assert [await cursor.fetchone() for cursor in cursors] == [(i,) for i in range(50)]
    await assert_usable(connection)


async def test_a_pipeline_with_a_failing_statement_leaves_the_connection_usable(
    connection: TrioConnection,
) -> None:
    """
    The error surfaces, what follows is aborted, and the connection works afterwards.
    """
    with pytest.raises(errors.DivisionByZero):
        async with connection.pipeline():
            await connection.execute("SELECT 1 / 0")
            await connection.execute("SELECT 1")
    await assert_usable(connection)


async def test_copy_carries_rows_in_and_out(connection: TrioConnection) -> None:
    """
    COPY works both ways with more data than fits the socket's buffers.
    """
    async with connection.cursor() as cursor:
        async with cursor.copy("COPY driver_rows FROM STDIN") as copy:
            for i in range(20_000):
                await copy.write_row((i, "y" * 200))
        assert cursor.rowcount == 20_000
        async with cursor.copy("COPY driver_rows TO STDOUT") as copy:
            assert len([row async for row in copy.rows()]) == 20_000
    await assert_usable(connection)


async def test_a_repeated_query_is_prepared_on_the_server(connection: TrioConnection) -> None:
    """
    Statements used more often than prepare_threshold are prepared.
    """
    for i in range(8):
        await connection.execute("SELECT %s::int + 1", [i])
    assert await value_of(connection, "SELECT count(*) FROM pg_prepared_statements") == 1


async def test_a_cursor_kept_for_a_query_gives_each_run_s_own_rows(connection: TrioConnection) -> None:
    """
    The same cursor, other parameters of other types, after an error too; one that was closed is replaced.
    """
    query: LiteralString = "SELECT %s, 10 / %s"
    cursor = connection.cursor_for(query)
    for value in (1, "text", None, [1, 2]):
        assert connection.cursor_for(query) is cursor
        await cursor.execute(query, [value, 5])
        assert await cursor.fetchall() == [(value, 2)]
        with pytest.raises(errors.DivisionByZero):
            await cursor.execute(query, [value, 0])
    await cursor.close()
    assert connection.cursor_for(query) is not cursor


async def test_the_cursors_kept_are_bounded(connection: TrioConnection) -> None:
    """
    Queries that are not constants, against the contract, cost speed and not memory.
    """
    for number in range(3 * trio_psycopg.MAX_CURSORS):
        connection.cursor_for(cast(Any, f"SELECT {number}"))
        assert len(connection._cursors) <= trio_psycopg.MAX_CURSORS


async def test_a_server_cursor_fetches_in_portions(connection: TrioConnection) -> None:
    """
    Named cursors work inside a transaction.
    """
    async with connection.transaction(), connection.cursor("portions") as cursor:
        await cursor.execute("SELECT generate_series(1, 500)")
        assert [row[0] async for row in cursor] == list(range(1, 501))


async def test_a_stream_brings_row_by_row(connection: TrioConnection) -> None:
    """
    stream() yields every row.
    """
    async with streamed(connection, "SELECT generate_series(1, 500)") as rows:
        assert [row[0] async for row in rows] == list(range(1, 501))


async def test_a_stream_left_early_leaves_the_connection_usable(connection: TrioConnection) -> None:
    """
    Whoever stops reading a stream pays for no more than what was on its way.
    """
    async with streamed(connection, "SELECT generate_series(1, 100000)") as rows:
        async for _ in rows:
            break
    await assert_usable(connection)


async def test_parameters_and_results_of_30_mb_do_not_deadlock(connection: TrioConnection) -> None:
    """
    Reading goes on while writing blocks, and the reverse.
    """
    big = "x" * 30_000_000
    row = await (await connection.execute("SELECT length(%s), %s", [big, big])).fetchone()
    assert row == (len(big), big)


def _asking(times: int) -> PQGen[None]:
    for _ in range(times):
        yield Wait.W


async def _always_writable(connection: TrioConnection) -> None:
    await connection.wait(_asking(1000))


async def _never_waiting(connection: TrioConnection) -> None:
    for _ in range(1000):
        await connection.wait(_asking(0))


@pytest.mark.parametrize("operation", [_always_writable, _never_waiting])
async def test_an_operation_that_never_blocks_does_not_starve_the_other_tasks(
    connection: TrioConnection,
    operation: Callable[[TrioConnection], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    After each stretch of work without a wait, here of no length at all, others have their turn.
    """
    monkeypatch.setattr(trio_psycopg, "MAX_BUSY_TIME", 0.0)
    steps = 0

    async def step() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step)
        await operation(connection)
        nursery.cancel_scope.cancel()
    assert steps > 300


async def test_two_tasks_sharing_a_connection_take_turns(
    connection: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Operations of several tasks never mix on the wire, and who waited first goes first.
    """
    order: list[object] = []

    async def ask(i: int) -> None:
        order.append(await value_of(connection, "SELECT %s::int FROM pg_sleep(0.001)", i))

    async with trio.open_nursery() as tasks:
        for i in range(10):
            tasks.start_soon(ask, i)
            await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(10))
