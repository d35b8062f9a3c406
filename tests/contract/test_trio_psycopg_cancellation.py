"""What is cancelled stops, on the server too, and leaves the connection as new."""

import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
from psycopg._capabilities import Capabilities

from engine.store.trio_psycopg import TrioConnection
from tests.contract.trio_psycopg_helpers import (
    assert_usable,
    cancel_when_busy,
    cancelling_at,
    connected,
    streamed,
    until_busy,
    value_of,
)
from tests.contract.trio_psycopg_operations import OPERATIONS
from tests.patience import patience


async def test_a_cancelled_query_stops_on_the_server_too(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    The caller goes on at once, the server does not work for nobody, and the connection is as new.
    """
    pid = connection.info.backend_pid
    with patience(), trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_busy, observer, pid, scope)
        await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    assert await value_of(observer, "SELECT state FROM pg_stat_activity WHERE pid = %s", pid) == "idle"
    await assert_usable(connection)


async def _long_executemany(connection: TrioConnection) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany("SELECT pg_sleep(%s)", [(60,), (60,)])


async def _long_pipeline(connection: TrioConnection) -> None:
    async with connection.pipeline():
        await connection.execute("SELECT pg_sleep(60)")
        await connection.execute("SELECT pg_sleep(60)")


async def _long_copy(connection: TrioConnection) -> None:
    query = "COPY (SELECT pg_sleep(i * 60) FROM generate_series(0, 1) i) TO STDOUT"
    async with connection.cursor() as cursor, cursor.copy(query) as copy:
        async for _ in copy:
            pass


async def _long_stream(connection: TrioConnection) -> None:
    async with streamed(connection, "SELECT i FROM generate_series(0, 1) i, pg_sleep(i * 60)") as rows:
        async for _ in rows:
            pass


@pytest.mark.parametrize("operation", [_long_executemany, _long_pipeline, _long_copy, _long_stream])
async def test_many_statements_or_rows_stop_on_the_server_too(
    connection: TrioConnection,
    observer: TrioConnection,
    nursery: trio.Nursery,
    operation: Callable[[TrioConnection], Awaitable[None]],
) -> None:
    """
    Pipelines, copies and streams are cancelled like a single query, and end as Cancelled, not as an error.
    """
    with patience(), trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_busy, observer, connection.info.backend_pid, scope)
        await operation(connection)
    assert scope.cancelled_caught
    await assert_usable(connection)


async def test_a_query_is_cancelled_without_libpq_17_too(
    connection: TrioConnection,
    observer: TrioConnection,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    An older libpq can only cancel by blocking: that happens in a thread.
    """
    monkeypatch.setattr(Capabilities, "has_cancel_safe", lambda self, check=False: False)
    with patience(), trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_busy, observer, connection.info.backend_pid, scope)
        await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    await assert_usable(connection)


async def test_a_cancel_request_that_may_still_arrive_never_hits_the_next_query(
    connection: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Not begun, it leaves the connection as it was; interrupted on its way, it takes the connection along.
    """
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.cancel_safe()
    assert scope.cancelled_caught
    await assert_usable(connection)
    with trio.CancelScope() as scope, cancelling_at(1, scope, monkeypatch, only="wait_readable"):
        await connection.cancel_safe()
    assert scope.cancelled_caught
    assert connection.closed


async def test_nothing_is_begun_in_a_cancelled_scope(connection: TrioConnection) -> None:
    """
    When the deadline has passed already, the statement is not even sent.
    """
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'never')")
    assert scope.cancelled_caught
    assert await value_of(connection, "SELECT count(*) FROM driver_rows") == 0


async def test_a_statement_that_was_faster_than_its_cancellation_returns_its_result(
    connection: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What has happened is not hidden behind Cancelled; the next checkpoint raises it.
    """

    async def cancel_nothing(connection: TrioConnection, *, timeout: float = 30.0) -> None:
        scope.cancel()

    monkeypatch.setattr(TrioConnection, "cancel_safe", cancel_nothing)
    outcome: object = None
    with trio.CancelScope() as scope:
        with cancelling_at(1, scope, monkeypatch, only="wait_readable"):
            cursor = await connection.execute("INSERT INTO driver_rows VALUES (1, 'kept') RETURNING number")
        outcome = await cursor.fetchone()
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert outcome == (1,)
    assert await value_of(connection, "SELECT count(*) FROM driver_rows") == 1


async def test_a_task_waiting_for_its_turn_can_be_cancelled(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    It goes without disturbing the query under way, and whoever comes after it is served.
    """

    async def busy() -> None:
        assert await value_of(connection, "SELECT 1 FROM pg_advisory_lock(7)") == 1

    await observer.execute("SELECT pg_advisory_lock(7)")
    async with trio.open_nursery() as tasks:
        tasks.start_soon(busy)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            tasks.start_soon(cancel_when_busy, observer, connection.info.backend_pid, scope)
            async with connection.transaction():
                raise AssertionError("it was not its turn")
        assert scope.cancelled_caught
        await observer.execute("SELECT pg_advisory_unlock(7)")
    await assert_usable(connection)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """
    Ctrl-C raises, also where the tests run in a shell's background and it is ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_from_the_keyboard_leaves_the_connection_usable(postgres_conninfo: str) -> None:
    """
    Ctrl-C stops the query on the server, as psycopg documents.
    """

    @trio.lowlevel.enable_ki_protection
    async def interrupt_when_busy(connection: TrioConnection) -> None:
        async with connected(postgres_conninfo) as observer:
            await until_busy(observer, connection.info.backend_pid)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with connected(postgres_conninfo) as connection, trio.open_nursery() as nursery:
            nursery.start_soon(interrupt_when_busy, connection)
            with patience(), pytest.raises(KeyboardInterrupt):
                await connection.execute("SELECT pg_sleep(60)")
            await assert_usable(connection)

    trio.run(main)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_cancellation_at_any_await_point_leaves_a_usable_connection(
    connection: TrioConnection,
    operation: Callable[[TrioConnection], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Wherever it hits: no hang, no half-finished transaction, no answer that belongs to another query.
    """
    number = 0
    cancelled = True
    while cancelled:
        number += 1
        with patience():
            with trio.CancelScope() as scope, cancelling_at(number, scope, monkeypatch):
                await operation(connection)
            await assert_usable(connection)
        assert connection._pipeline is None
        assert connection._num_transactions == 0
        # Every operation inserts an even number of rows, all or none of them.
        assert await value_of(connection, "SELECT count(*) %% 2 FROM driver_rows") == 0
        cancelled = scope.cancel_called
    assert number > 2
