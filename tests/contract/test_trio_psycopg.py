"""psycopg on Trio keeps psycopg's promises, and Trio's: what is cancelled stops, soon and cleanly."""

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
import pytest
import trio
from psycopg import errors, pq
from psycopg._capabilities import Capabilities
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.waiting import Wait

from engine.store import trio_psycopg
from engine.store.trio_psycopg import CLEANUP_SECONDS, TrioConnection

_TABLE = "CREATE TABLE IF NOT EXISTS driver_rows (number int, text text)"
# Two busy cores may be late, but not by as much as a clean-up that waits for the server.
_SLACK_SECONDS = 0.35


@pytest.fixture
async def connection(postgres_conninfo: str) -> AsyncIterator[TrioConnection]:
    async with _connected(postgres_conninfo) as connection:
        await connection.execute(_TABLE)
        await connection.execute("TRUNCATE driver_rows")
        yield connection


@pytest.fixture
async def observer(postgres_conninfo: str) -> AsyncIterator[TrioConnection]:
    async with _connected(postgres_conninfo) as connection:
        yield connection


@asynccontextmanager
async def _connected(conninfo: str) -> AsyncIterator[TrioConnection]:
    connection: TrioConnection
    async with await TrioConnection.connect(conninfo, autocommit=True) as connection:
        yield connection


async def _value(connection: TrioConnection, query: LiteralString, *params: object) -> object:
    row = await (await connection.execute(query, params)).fetchone()
    assert row is not None
    return row[0]


def _streamed(connection: TrioConnection, query: LiteralString) -> aclosing[AsyncGenerator[tuple[int]]]:
    return aclosing(cast("AsyncGenerator[tuple[int]]", connection.cursor().stream(query)))


async def _assert_usable(connection: TrioConnection) -> None:
    assert not connection.closed
    assert connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    assert await _value(connection, "SELECT %s::int", 42) == 42


async def _until_busy(observer: TrioConnection, pid: int) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event IN ('PgSleep', 'advisory')"
    while await _value(observer, query, pid) == 0:
        pass


async def _cancel_when_busy(observer: TrioConnection, pid: int, scope: trio.CancelScope) -> None:
    await _until_busy(observer, pid)
    scope.cancel()


@contextmanager
def _stopped(*pids: int) -> Iterator[Callable[[int], None]]:
    stopped: list[int] = []

    def stop(pid: int) -> None:
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)

    try:
        for pid in pids:
            stop(pid)
        yield stop
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


# What psycopg promises


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
    assert await _value(connection, "SELECT sum(number) FROM driver_rows") == sum(range(1000))


async def test_results_of_a_pipeline_come_back_to_their_cursors(connection: TrioConnection) -> None:
    """
    In a pipeline every cursor gets the result of its own statement.
    """
    async with connection.pipeline():
        cursors = [await connection.execute("SELECT %s::int", [i]) for i in range(50)]
        assert [await cursor.fetchone() for cursor in cursors] == [(i,) for i in range(50)]
    await _assert_usable(connection)


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
    await _assert_usable(connection)


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
    await _assert_usable(connection)


async def test_a_repeated_query_is_prepared_on_the_server(connection: TrioConnection) -> None:
    """
    Statements used more often than prepare_threshold are prepared.
    """
    for i in range(8):
        await connection.execute("SELECT %s::int + 1", [i])
    assert await _value(connection, "SELECT count(*) FROM pg_prepared_statements") == 1


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
    async with _streamed(connection, "SELECT generate_series(1, 500)") as rows:
        assert [row[0] async for row in rows] == list(range(1, 501))


async def test_a_stream_left_early_leaves_the_connection_usable(connection: TrioConnection) -> None:
    """
    Whoever stops reading a stream pays for no more than what was on its way.
    """
    async with _streamed(connection, "SELECT generate_series(1, 100000)") as rows:
        async for _ in rows:
            break
    await _assert_usable(connection)


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
        order.append(await _value(connection, "SELECT %s::int FROM pg_sleep(0.001)", i))

    async with trio.open_nursery() as tasks:
        for i in range(10):
            tasks.start_soon(ask, i)
            await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(10))


async def test_notifications_arrive_in_order(connection: TrioConnection, observer: TrioConnection) -> None:
    """
    A listener gets every notification, in the order of the commits.
    """
    await observer.execute("LISTEN driver")
    for i in range(100):
        await connection.execute("SELECT pg_notify('driver', %s)", [str(i)])
    async with aclosing(observer.notifies(stop_after=100)) as notifies:
        assert [notify.payload async for notify in notifies] == [str(i) for i in range(100)]


async def test_waiting_for_notifications_ends_with_its_timeout(connection: TrioConnection) -> None:
    """
    notifies(timeout=…) returns when the time is up, with nothing.
    """
    with trio.fail_after(2):
        assert [notify async for notify in connection.notifies(timeout=0.05)] == []
    await _assert_usable(connection)


async def test_a_timeout_of_zero_takes_what_has_arrived(
    connection: TrioConnection, observer: TrioConnection
) -> None:
    """
    notifies(timeout=0) is a poll: no waiting, but nothing present is missed.
    """
    await observer.execute("LISTEN driver")
    await connection.execute("NOTIFY driver, 'here'")
    await trio.lowlevel.wait_readable(observer.fileno())
    assert [notify.payload async for notify in observer.notifies(timeout=0)] == ["here"]


async def test_a_listener_that_was_cancelled_hears_the_next_notification(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Cancelling the wait for notifications leaves the connection as it was.
    """
    await observer.execute("LISTEN driver")

    async def cancel_when_blocked() -> None:
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked)
        async with aclosing(observer.notifies()) as notifies:
            async for _ in notifies:
                pass
    assert scope.cancelled_caught
    await connection.execute("NOTIFY driver, 'after'")
    with trio.fail_after(2):
        assert [notify.payload async for notify in observer.notifies(stop_after=1)] == ["after"]


async def test_closing_wakes_whoever_waits_on_the_connection(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    close() during a query of another task ends that query with OperationalError.
    """

    async def close_when_busy() -> None:
        await _until_busy(observer, connection.info.backend_pid)
        await connection.close()

    nursery.start_soon(close_when_busy)
    with trio.fail_after(5), pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT pg_sleep(60)")
    assert connection.closed


async def test_closing_wakes_whoever_waits_to_write(
    connection: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    The same while the server takes nothing more and the query is not sent yet.
    """

    async def close_when_blocked() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        await connection.close()

    with _stopped(connection.info.backend_pid):
        nursery.start_soon(close_when_blocked)
        with trio.fail_after(5), pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT length(%s)", ["x" * 10_000_000])


async def test_a_terminated_backend_is_told(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    An operator's pg_terminate_backend arrives as AdminShutdown.
    """
    pid = connection.info.backend_pid

    async def terminate_when_busy() -> None:
        await _until_busy(observer, pid)
        await observer.execute("SELECT pg_terminate_backend(%s)", [pid])

    nursery.start_soon(terminate_when_busy)
    with trio.fail_after(5), pytest.raises(errors.AdminShutdown):
        await connection.execute("SELECT pg_sleep(60)")


async def test_leaving_the_connection_s_block_closes_it_even_when_cancelled(postgres_conninfo: str) -> None:
    """
    `async with connection` never leaves the socket open.
    """
    connection = await TrioConnection.connect(postgres_conninfo)
    with trio.CancelScope() as scope:
        async with connection:
            await connection.execute("SELECT 1")  # there is something to commit
            scope.cancel()
    assert scope.cancelled_caught
    assert connection.closed


# Connecting


async def test_a_host_name_is_resolved_and_a_refusal_reported() -> None:
    """
    Nobody listening is an OperationalError; several addresses are all named.
    """
    with pytest.raises(psycopg.OperationalError, match=r"(?s)host: 'localhost'.*host: '127.0.0.1'"):
        await TrioConnection.connect("host=localhost,127.0.0.1 port=1,1 dbname=nowhere")


async def test_the_second_address_is_tried_when_the_first_refuses(postgres_conninfo: str) -> None:
    """
    Several hosts are tried in order, as libpq does.
    """
    parameters = conninfo_to_dict(postgres_conninfo)
    host, port = f"127.0.0.1,{parameters['host']}", f"1,{parameters.get('port', 5432)}"
    async with await TrioConnection.connect(postgres_conninfo, host=host, port=port) as connection:
        assert not connection.closed


async def test_connecting_to_a_server_that_never_answers_ends_with_connect_timeout() -> None:
    """
    connect_timeout is psycopg's: at least two seconds for each address.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener:
        with trio.fail_after(4), pytest.raises(errors.ConnectionTimeout):
            await TrioConnection.connect(f"host=127.0.0.1 port={port} connect_timeout=1")


async def test_connecting_can_be_cancelled_and_leaves_no_socket(nursery: trio.Nursery) -> None:
    """
    A cancelled connect closes its half-open socket at once.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def connect() -> None:
        with scope:
            try:
                await TrioConnection.connect(f"host=127.0.0.1 port={port}")
            except trio.Cancelled as cancelled:
                kept.append(cancelled)  # and with it every frame that led there
                raise

    kept: list[trio.Cancelled] = []

    scope = trio.CancelScope()
    async with listener:
        nursery.start_soon(connect)
        peer = await listener.accept()
        assert await peer.receive_some() != b""  # libpq has begun to talk
        scope.cancel()
        with trio.fail_after(2):
            assert await peer.receive_some() == b""
    assert kept


# Cancellation


async def test_a_cancelled_query_stops_on_the_server_too(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    The caller goes on at once, the server does not work for nobody, and the connection is as new.
    """
    pid = connection.info.backend_pid
    with trio.fail_after(5), trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_busy, observer, pid, scope)
        await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    assert await _value(observer, "SELECT state FROM pg_stat_activity WHERE pid = %s", pid) == "idle"
    await _assert_usable(connection)


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
    async with _streamed(connection, "SELECT i FROM generate_series(0, 1) i, pg_sleep(i * 60)") as rows:
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
    with trio.fail_after(5), trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_busy, observer, connection.info.backend_pid, scope)
        await operation(connection)
    assert scope.cancelled_caught
    await _assert_usable(connection)


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
    with trio.fail_after(5), trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_busy, observer, connection.info.backend_pid, scope)
        await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    await _assert_usable(connection)


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
    await _assert_usable(connection)
    with trio.CancelScope() as scope, _cancelling_at(1, scope, monkeypatch, only="wait_readable"):
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
    assert await _value(connection, "SELECT count(*) FROM driver_rows") == 0


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
        with _cancelling_at(1, scope, monkeypatch, only="wait_readable"):
            cursor = await connection.execute("INSERT INTO driver_rows VALUES (1, 'kept') RETURNING number")
        outcome = await cursor.fetchone()
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert outcome == (1,)
    assert await _value(connection, "SELECT count(*) FROM driver_rows") == 1


async def test_a_transaction_cancelled_in_a_query_is_rolled_back(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Nothing of the transaction stays, and the connection is out of it.
    """
    with trio.fail_after(5), trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_busy, observer, connection.info.backend_pid, scope)
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
            await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    assert await _value(connection, "SELECT count(*) FROM driver_rows") == 0
    await _assert_usable(connection)


async def test_a_transaction_cancelled_between_queries_is_rolled_back(connection: TrioConnection) -> None:
    """
    The ROLLBACK runs although the scope is cancelled.
    """
    with trio.CancelScope() as scope:
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await _assert_usable(connection)
    assert await _value(connection, "SELECT count(*) FROM driver_rows") == 0


async def test_a_transaction_cancelled_before_its_commit_is_rolled_back(connection: TrioConnection) -> None:
    """
    A block that ends after its deadline commits nothing, and its caller is told so.
    """
    with trio.CancelScope() as scope:
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
            scope.cancel()
    assert scope.cancelled_caught
    await _assert_usable(connection)
    assert await _value(connection, "SELECT count(*) FROM driver_rows") == 0


async def test_an_inner_transaction_can_be_cancelled_alone(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Cancelling a savepoint's block keeps what the outer transaction did.
    """
    async with connection.transaction():
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'kept')")
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_busy, observer, connection.info.backend_pid, scope)
            async with connection.transaction():
                await connection.execute("INSERT INTO driver_rows VALUES (2, 'gone')")
                await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    rows = await (await connection.execute("SELECT text FROM driver_rows")).fetchall()
    assert rows == [("kept",)]


async def test_a_server_cursor_is_closed_when_its_block_is_cancelled(connection: TrioConnection) -> None:
    """
    One that outlives its transaction would stay with the session for good.
    """
    with trio.CancelScope() as scope:
        async with connection.cursor("held", withhold=True) as cursor:
            await cursor.execute("SELECT 1")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await _value(connection, "SELECT count(*) FROM pg_cursors WHERE name = 'held'") == 0


async def test_a_task_waiting_for_its_turn_can_be_cancelled(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    It goes without disturbing the query under way, and whoever comes after it is served.
    """

    async def busy() -> None:
        assert await _value(connection, "SELECT 1 FROM pg_advisory_lock(7)") == 1

    await observer.execute("SELECT pg_advisory_lock(7)")
    async with trio.open_nursery() as tasks:
        tasks.start_soon(busy)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            tasks.start_soon(_cancel_when_busy, observer, connection.info.backend_pid, scope)
            async with connection.transaction():
                raise AssertionError("it was not its turn")
        assert scope.cancelled_caught
        await observer.execute("SELECT pg_advisory_unlock(7)")
    await _assert_usable(connection)


def test_an_interrupt_from_the_keyboard_leaves_the_connection_usable(postgres_conninfo: str) -> None:
    """
    Ctrl-C stops the query on the server, as psycopg documents.
    """

    @trio.lowlevel.enable_ki_protection
    async def interrupt_when_busy(connection: TrioConnection) -> None:
        async with _connected(postgres_conninfo) as observer:
            await _until_busy(observer, connection.info.backend_pid)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with _connected(postgres_conninfo) as connection, trio.open_nursery() as nursery:
            nursery.start_soon(interrupt_when_busy, connection)
            with trio.fail_after(5), pytest.raises(KeyboardInterrupt):
                await connection.execute("SELECT pg_sleep(60)")
            await _assert_usable(connection)

    trio.run(main)


async def _query(connection: TrioConnection) -> None:
    await connection.execute("INSERT INTO driver_rows VALUES (1, 'a'), (1, 'b')", prepare=True)


async def _transaction(connection: TrioConnection) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'a')")
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'b')")


async def _rolled_back(connection: TrioConnection) -> None:
    async with connection.transaction(force_rollback=True):
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'a')")


async def _executemany(connection: TrioConnection) -> None:
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO driver_rows VALUES (%s, %s)", [(i, "x") for i in range(100)])


async def _pipeline(connection: TrioConnection) -> None:
    async with connection.pipeline() as pipeline, connection.transaction():
        first = await connection.execute("INSERT INTO driver_rows VALUES (1, 'a') RETURNING number")
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'b')")
        await first.fetchone()
        await pipeline.sync()


async def _copy_in(connection: TrioConnection) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY driver_rows FROM STDIN") as copy:
        for _ in range(4):
            await copy.write("1\tx\n" * 50_000)


async def _copy_out(connection: TrioConnection) -> None:
    query = "COPY (SELECT generate_series(1, 20)) TO STDOUT"
    async with connection.cursor() as cursor, cursor.copy(query) as copy:
        async for _ in copy.rows():
            pass


async def _stream(connection: TrioConnection) -> None:
    async with _streamed(connection, "SELECT generate_series(1, 20)") as rows:
        async for _ in rows:
            pass


async def _server_cursor(connection: TrioConnection) -> None:
    async with connection.transaction(), connection.cursor("portions") as cursor:
        await cursor.execute("SELECT generate_series(1, 20)")
        await cursor.fetchmany(5)


async def _by_hand(connection: TrioConnection) -> None:
    await connection.set_autocommit(False)
    try:
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'a'), (1, 'b')")
        await connection.commit()
    finally:
        if not connection.closed:
            await connection.rollback()
        connection._autocommit = True  # in a cancelled scope set_autocommit() would not begin


_OPERATIONS = [
    _query,
    _transaction,
    _rolled_back,
    _executemany,
    _pipeline,
    _copy_in,
    _copy_out,
    _stream,
    _server_cursor,
    _by_hand,
]


@contextmanager
def _cancelling_at(
    number: int, scope: trio.CancelScope, monkeypatch: pytest.MonkeyPatch, *, only: str = ""
) -> Iterator[list[int]]:
    """
    Cancel `scope` at the driver's await point of that number; yields how many were passed.
    """
    passed = [0]

    def counted(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def pass_by(*args: object) -> None:
            passed[0] += 1
            if passed[0] == number:
                scope.cancel()
            await original(*args)

        return pass_by

    with monkeypatch.context() as patch:
        for name in [only] if only else ["wait_readable", "wait_writable", "checkpoint_if_cancelled"]:
            patch.setattr(trio_psycopg, name, counted(getattr(trio_psycopg, name)))
        yield passed


@pytest.mark.parametrize("operation", _OPERATIONS)
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
        with trio.fail_after(5):
            with trio.CancelScope() as scope, _cancelling_at(number, scope, monkeypatch):
                await operation(connection)
            await _assert_usable(connection)
        assert connection._pipeline is None
        assert connection._num_transactions == 0
        # Every operation inserts an even number of rows, all or none of them.
        assert await _value(connection, "SELECT count(*) %% 2 FROM driver_rows") == 0
        cancelled = scope.cancel_called
    assert number > 2


@pytest.mark.parametrize("operation", _OPERATIONS)
@pytest.mark.parametrize("everything", [False, True], ids=["backend", "server"])
async def test_a_server_that_does_not_answer_holds_a_cancelled_caller_for_a_quarter_second(
    connection: TrioConnection, operation: Callable[[TrioConnection], Awaitable[None]], everything: bool
) -> None:
    """
    A stopped PostgreSQL, be it one backend or all of it: the connection is given up, in time.
    """
    pid = connection.info.backend_pid
    with _stopped(pid, *([_parent_of(pid)] if everything else [])), trio.fail_after(5):
        with trio.move_on_after(0.05) as scope:
            await operation(connection)
        late = trio.current_time() - scope.deadline
    assert scope.cancelled_caught
    assert late < CLEANUP_SECONDS + _SLACK_SECONDS
    assert connection.closed


async def test_a_transaction_on_a_stopped_server_ends_in_a_quarter_second(connection: TrioConnection) -> None:
    """
    The same if the cancellation hits between two queries and only the ROLLBACK meets the silence.
    """
    cancelled_at = 0.0
    with _stopped() as stop, trio.fail_after(5):
        with trio.CancelScope() as scope:
            async with connection.transaction():
                await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
                stop(connection.info.backend_pid)
                scope.cancel()
                cancelled_at = trio.current_time()
                await trio.sleep_forever()
        late = trio.current_time() - cancelled_at
    assert scope.cancelled_caught
    assert late < CLEANUP_SECONDS + _SLACK_SECONDS
    assert connection.closed


async def test_a_clean_up_with_time_left_is_not_hurried(
    connection: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Without a cancellation a ROLLBACK may take longer than a quarter second.
    """

    async def wake_later() -> None:
        await trio.sleep(CLEANUP_SECONDS + 0.1)
        os.kill(connection.info.backend_pid, signal.SIGCONT)

    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            os.kill(connection.info.backend_pid, signal.SIGSTOP)
            nursery.start_soon(wake_later)
            raise ZeroDivisionError
    await _assert_usable(connection)
