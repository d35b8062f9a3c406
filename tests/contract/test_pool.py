"""The pool lends what works, says when the database is away, and never loses a slot."""

import datetime
import math
import os
import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import LiteralString, cast

import psycopg
import pytest
import trio
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from engine.errors import StartupError, StoreUnavailableError
from engine.store.pool import Pool
from engine.store.trio_psycopg import CLEANUP_SECONDS, TrioConnection

# A message of the server as it goes over the wire, with all the fields libpq asks for.
_FAREWELL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
_NOTICE = b"SNOTICE\0VNOTICE\0C00000\0Mdo not mind me\0\0"
_CROWDED = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0"
_STARTING = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"


@asynccontextmanager
async def _pool(
    conninfo: str, size: int, configure: Callable[[TrioConnection], Awaitable[None]] | None = None
) -> AsyncIterator[Pool]:
    pool = Pool(conninfo, size=size, configure=configure)
    try:
        yield pool
    finally:
        await pool.aclose()


@pytest.fixture
async def pool(postgres_conninfo: str) -> AsyncIterator[Pool]:
    async with _pool(postgres_conninfo, 4) as pool:
        yield pool


@pytest.fixture
async def observer(postgres_conninfo: str) -> AsyncIterator[TrioConnection]:
    connection: TrioConnection
    async with await TrioConnection.connect(postgres_conninfo, autocommit=True) as connection:
        yield connection


async def _value(connection: TrioConnection, query: LiteralString, *params: object) -> object:
    row = await (await connection.execute(query, params)).fetchone()
    assert row is not None
    return row[0]


async def _pid(pool: Pool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


async def _terminate(observer: TrioConnection, *pids: int) -> None:
    for pid in pids:
        assert await _value(observer, "SELECT pg_terminate_backend(%s, 5000)", pid) is True


async def _fill(pool: Pool, count: int) -> set[int]:
    """
    Make the pool open `count` connections, all idle afterwards; their process ids.
    """
    pids: set[int] = set()
    everyone = trio.Event()

    async def hold() -> None:
        async with pool.connection() as connection:
            pids.add(connection.info.backend_pid)
            if len(pids) == count:
                everyone.set()
            await everyone.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(hold)
    return pids


class _Relay:
    """
    A way to the database that can be cut, and on which one can speak in the server's name.
    """

    def __init__(self, conninfo: str) -> None:
        parameters = conninfo_to_dict(conninfo)
        self._upstream = f"{parameters['host']}/.s.PGSQL.{parameters.get('port', 5432)}"
        self._given = conninfo
        self.port = 0
        self._clients: list[trio.SocketStream] = []
        self._speaking = trio.Lock()
        self._open: trio.CancelScope | None = None

    @property
    def conninfo(self) -> str:
        return make_conninfo(self._given, host="127.0.0.1", port=self.port, sslmode="disable")

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self._open:
            listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()
            await trio.serve_listeners(self._serve, listeners)

    def cut(self) -> None:
        assert self._open is not None
        self._open.cancel()

    async def say(self, kind: bytes, fields: bytes) -> None:
        async with self._speaking:
            (client,) = self._clients
            await client.send_all(kind + (len(fields) + 4).to_bytes(4, "big") + fields)

    async def _serve(self, client: trio.SocketStream) -> None:
        self._clients.append(client)
        async with client, await trio.open_unix_socket(self._upstream) as server, trio.open_nursery() as both:
            both.start_soon(self._ask, client, server)
            async for data in server:
                async with self._speaking:
                    await client.send_all(data)
            both.cancel_scope.cancel()
        self._clients.remove(client)

    async def _ask(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        async for data in client:
            await server.send_all(data)
        await server.send_eof()


@pytest.fixture
async def relay(postgres_conninfo: str, nursery: trio.Nursery) -> _Relay:
    relay = _Relay(postgres_conninfo)
    await nursery.start(relay.run)
    return relay


# Lending


async def test_the_connection_used_last_is_lent_next(pool: Pool) -> None:
    """
    A pool under little load keeps few connections warm.
    """
    await _fill(pool, 3)
    first = await _pid(pool)
    assert [await _pid(pool) for _ in range(3)] == [first] * 3
    assert pool.statistics().connects_total == 3


async def test_a_lent_connection_commits_by_itself(pool: Pool, observer: TrioConnection) -> None:
    """
    What a statement did is visible to others at once.
    """
    await observer.execute("CREATE TABLE pool_rows (number int)")
    try:
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO pool_rows VALUES (1)")
            assert await _value(observer, "SELECT count(*) FROM pool_rows") == 1
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

    async with _pool(postgres_conninfo, 1) as pool:
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


async def test_a_cancelled_waiter_takes_no_slot_with_it(postgres_conninfo: str) -> None:
    """
    Giving up while waiting for a connection leaves the pool as it was.
    """
    async with _pool(postgres_conninfo, 1) as pool:
        async with pool.connection():
            with trio.move_on_after(0) as scope:
                async with pool.connection():
                    raise AssertionError("there was none to lend")
            assert scope.cancelled_caught
            assert pool.statistics().waiting == 0
        with trio.fail_after(2):
            await _pid(pool)


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
        assert await _value(connection, "SELECT to_regclass('pool_unfinished')") is None


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
    await _pid(pool)


async def test_each_new_connection_is_configured_once(postgres_conninfo: str) -> None:
    """
    `configure` sees every connection before anybody else does.
    """

    async def configure(connection: TrioConnection) -> None:
        await connection.execute("SET statement_timeout = '7s'")
        configured.append(connection.info.backend_pid)

    configured: list[int] = []
    async with _pool(postgres_conninfo, 2, configure) as pool:
        pids = await _fill(pool, 2)
        async with pool.connection() as connection:
            assert await _value(connection, "SHOW statement_timeout") == "7s"
    assert sorted(configured) == sorted(pids)


async def test_a_connection_that_cannot_be_configured_is_closed(postgres_conninfo: str) -> None:
    """
    The error reaches the caller, the slot is free again and the socket is not left behind.
    """

    async def configure(connection: TrioConnection) -> None:
        seen.append(connection)
        await connection.execute("SET no_such_setting = 1")

    seen: list[TrioConnection] = []
    async with _pool(postgres_conninfo, 1, configure) as pool:
        for _ in range(2):
            with pytest.raises(errors.UndefinedObject):
                await _pid(pool)
        assert [connection.closed for connection in seen] == [True, True]
        assert pool.statistics().in_use == 0


async def test_json_is_msgspec_s_on_the_pool_s_connections_only(pool: Pool, observer: TrioConnection) -> None:
    """
    msgspec writes a datetime, the standard library does not: other connections keep psycopg's default.
    """
    moment = Jsonb({"at": datetime.datetime(2026, 1, 7, tzinfo=datetime.UTC)})
    async with pool.connection() as connection:
        assert await _value(connection, "SELECT %s", moment) == {"at": "2026-01-07T00:00:00Z"}
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
    async with _pool(postgres_conninfo, 2) as pool:
        await _fill(pool, 2)
        async with pool.connection() as connection:
            await pool.aclose()
            assert pool.statistics().idle == 0
            assert await _value(connection, "SELECT 1") == 1
        assert connection.closed
        with pytest.raises(StoreUnavailableError, match="closed"):
            await _pid(pool)
        assert pool.statistics().in_use == 0


# The database is away


async def test_a_connection_closed_while_idle_costs_nobody_an_error(
    pool: Pool, observer: TrioConnection
) -> None:
    """
    The server ended all idle sessions: the next caller notices nothing.
    """
    await _terminate(observer, *await _fill(pool, 3))
    await _pid(pool)
    statistics = pool.statistics()
    assert (statistics.idle, statistics.connects_total, statistics.failures_total) == (1, 4, 1)


async def test_a_farewell_is_understood_before_the_socket_is_closed(relay: _Relay) -> None:
    """
    Between the server's FATAL message and the end of its socket the connection is already useless.
    """
    async with _pool(relay.conninfo, 1) as pool:
        async with pool.connection() as connection:
            pass
        await relay.say(b"E", _FAREWELL)
        await trio.lowlevel.wait_readable(connection.fileno())
        await _pid(pool)
        assert connection.closed
        assert pool.statistics().connects_total == 2


async def test_a_notice_to_an_idle_connection_does_not_cost_the_connection(relay: _Relay) -> None:
    """
    Readable while idle is not the same as closed.
    """
    async with _pool(relay.conninfo, 1) as pool:
        async with pool.connection() as connection:
            pass
        await relay.say(b"N", _NOTICE)
        await trio.lowlevel.wait_readable(connection.fileno())
        async with pool.connection() as again:
            assert again is connection
            assert await _value(again, "SELECT 1") == 1


async def test_a_connection_lost_in_use_says_that_the_database_is_away(
    pool: Pool, observer: TrioConnection
) -> None:
    """
    The caller gets one error of ours with psycopg's as its cause; idle connections are not trusted any more.
    """
    pids = await _fill(pool, 2)
    with pytest.raises(StoreUnavailableError, match="is away") as caught:
        async with pool.connection() as connection:
            await _terminate(observer, connection.info.backend_pid)
            await connection.execute("SELECT 1")
    assert isinstance(caught.value.__cause__, errors.AdminShutdown)
    statistics = pool.statistics()
    assert (statistics.idle, statistics.in_use, statistics.failures_total) == (0, 0, 1)
    assert statistics.last_error is not None
    assert "terminating connection" in statistics.last_error
    assert await _pid(pool) not in pids


async def test_a_pool_works_again_by_itself_when_the_database_is_back(
    relay: _Relay, nursery: trio.Nursery
) -> None:
    """
    Away is away for everybody, at once; back is back, with nothing to be done.
    """
    async with _pool(relay.conninfo, 2) as pool:
        with pytest.raises(StoreUnavailableError) as lost:
            async with pool.connection() as connection:
                relay.cut()
                await connection.execute("SELECT pg_sleep(60)")
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1") as refused:
            await _pid(pool)
        for error in (lost, refused):
            assert isinstance(error.value.__cause__, psycopg.OperationalError)
        await nursery.start(relay.run)
        await _pid(pool)
        assert pool.statistics().failures_total == 2


async def test_a_statement_on_a_connection_that_is_gone_says_that_the_database_is_away(pool: Pool) -> None:
    """
    A caller who went on after its connection was given up learns the same.
    """
    with pytest.raises(StoreUnavailableError):
        async with pool.connection() as connection:
            connection.abandon()
            await connection.execute("SELECT 1")


@pytest.mark.parametrize("answer", [_STARTING, _CROWDED])
async def test_a_server_that_takes_no_connection_is_away(answer: bytes, nursery: trio.Nursery) -> None:
    """
    Starting up, or too many connections: away, in the server's own words, and the slot is free again.
    """

    async def refuse(client: trio.SocketStream) -> None:
        async with client:
            await client.receive_some()
            await client.send_all(b"E" + (len(answer) + 4).to_bytes(4, "big") + answer)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, refuse, listeners)
    port = listeners[0].socket.getsockname()[1]
    conninfo = f"host=127.0.0.1 port={port} dbname=greenroom sslmode=disable gssencmode=disable"
    async with _pool(conninfo, 1) as pool:
        with trio.fail_after(5), pytest.raises(StoreUnavailableError, match=r"starting up|too many clients"):
            await _pid(pool)
        assert pool.statistics().in_use == 0


async def test_no_message_shows_the_password() -> None:
    """
    Neither the error, nor the repr, nor what an operator sees in the statistics.
    """
    async with _pool("postgresql://me:s3cret@127.0.0.1:1/episodes", 1) as pool:
        with pytest.raises(StoreUnavailableError, match="episodes") as caught:
            await _pid(pool)
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


# Cancellation


async def test_a_caller_with_a_deadline_is_back_soon_from_a_server_that_does_not_answer(pool: Pool) -> None:
    """
    In the transaction of a stopped PostgreSQL: the deadline, a quarter second, and no slot lost.
    """
    pid = await _pid(pool)
    os.kill(pid, signal.SIGSTOP)
    try:
        with trio.fail_after(5):
            with trio.move_on_after(0.05) as scope:
                async with pool.connection() as connection, connection.transaction():
                    await connection.execute("SELECT 1")
            late = trio.current_time() - scope.deadline
        assert scope.cancelled_caught
        assert late < CLEANUP_SECONDS + 0.35
        assert (pool.statistics().in_use, pool.statistics().idle) == (0, 0)
        assert await _pid(pool) != pid
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_cancelled_connect_gives_its_slot_back(nursery: trio.Nursery) -> None:
    """
    Even if the server never says a word.
    """

    async def connect() -> None:
        with scope:
            await _pid(pool)

    scope = trio.CancelScope()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, _pool(f"host=127.0.0.1 port={listener.socket.getsockname()[1]}", 1) as pool:
        nursery.start_soon(connect)
        async with await listener.accept():
            assert pool.statistics().in_use == 1
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert pool.statistics().in_use == 0


async def test_no_slot_no_answer_and_no_transaction_is_lost_in_chaos(
    pool: Pool, observer: TrioConnection
) -> None:
    """
    Two dozen tasks, cancelled at any moment: every answer is the asker's own, and all ends clean.
    """
    await observer.execute("CREATE TABLE pool_chaos (number int)")
    chance = random.Random(7)
    answered = 0

    async def work() -> None:
        nonlocal answered
        for _ in range(20):
            with trio.move_on_after(chance.random() * chance.choice([0.02, 0.02, 0.02, math.inf])):
                async with pool.connection() as connection, connection.transaction():
                    mine = chance.randrange(10**6)
                    await connection.execute("INSERT INTO pool_chaos VALUES (1)")
                    await connection.execute("SELECT pg_sleep(%s)", [chance.random() * 0.005])
                    assert await _value(connection, "SELECT %s::int", mine) == mine
                    await connection.execute("INSERT INTO pool_chaos VALUES (1)")
                answered += 1

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(24):
                nursery.start_soon(work)
        assert answered
        statistics = pool.statistics()
        assert (statistics.in_use, statistics.waiting) == (0, 0)
        assert await _value(observer, "SELECT count(*) FROM pool_chaos") == 2 * answered
        async with pool.connection() as connection:
            open_transactions = "SELECT count(*) FROM pg_locks WHERE relation = 'pool_chaos'::regclass"
            assert await _value(connection, open_transactions) == 0
        assert await _fill(pool, 4)
    finally:
        await observer.execute("DROP TABLE pool_chaos")
