"""A bounded pool of connections to one database: hands out what works, knows no table and has no task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import attrs
import msgspec
import psycopg
import trio
from psycopg import pq
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import set_json_dumps, set_json_loads

from engine.errors import StartupError, StoreUnavailableError
from engine.store.trio_psycopg import TrioConnection

# A statement is prepared when it comes the second time: all of ours do, an operator's does not.
PREPARE_THRESHOLD = 1

# What the server says when it ends a session: class 08 and, of class 57, all that is not a statement's.
_AWAY = ("08", "25P03", "57P01", "57P02", "57P03", "57P04", "57P05")
_UNFINISHED = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)


@attrs.frozen(kw_only=True)
class PoolStatistics:
    """
    What a pool is doing; `size` is its limit, `failures_total` counts connections not made or lost.
    """

    size: int
    idle: int
    in_use: int
    waiting: int
    # How often somebody had to wait for a connection, and how many seconds in all.
    waits_total: int
    wait_seconds_total: float
    connects_total: int
    failures_total: int
    last_error: str | None


@attrs.define(eq=False)
class Pool:
    """
    Own the connections to one database: at most `size`, last used first out, waiters first come.

    A crash of it loses the connections and rolls back what was not committed on them. It never
    sleeps and never retries: it connects when somebody asks, and whoever asks owns the deadline.
    `configure` is run once on each new connection. Raises StartupError for a malformed conninfo.
    """

    _conninfo: str = attrs.field(alias="conninfo", repr=False)  # has the password
    _size: int = attrs.field(alias="size", kw_only=True)
    _configure: Callable[[TrioConnection], Awaitable[None]] | None = attrs.field(
        alias="configure", default=None, kw_only=True
    )
    _where: str = attrs.field(init=False)
    _adapters: AdaptersMap = attrs.field(init=False, repr=False)
    _slots: trio.Semaphore = attrs.field(init=False, repr=False)
    _idle: list[TrioConnection] = attrs.field(factory=list, init=False, repr=False)
    _closed: bool = attrs.field(default=False, init=False)
    _waits_total: int = attrs.field(default=0, init=False)
    _wait_seconds_total: float = attrs.field(default=0.0, init=False)
    _connects_total: int = attrs.field(default=0, init=False)
    _failures_total: int = attrs.field(default=0, init=False)
    _last_error: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._where = where_is(self._conninfo)
        self._slots = trio.Semaphore(self._size, max_value=self._size)
        self._adapters = AdaptersMap(psycopg.adapters)
        set_json_dumps(msgspec.json.encode, self._adapters)
        set_json_loads(msgspec.json.decode, self._adapters)

    def connection(self) -> AbstractAsyncContextManager[TrioConnection]:
        """
        Lend an autocommit connection for the block; an unfinished transaction is rolled back after it.

        What the block sets for the session (SET, LISTEN) stays with the connection. Raises
        StoreUnavailableError if the database is away, be it before or within the block; errors
        of a statement pass as they are.
        """
        # Not a generator: that costs more than the rest of the pool.
        return _Loan(self)

    async def aclose(self) -> None:
        """
        Close what is idle now and what is in use when it comes back; lend nothing more.
        """
        self._closed = True
        self._drop_idle()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PoolStatistics:
        """
        What the pool is doing at this moment.
        """
        return PoolStatistics(
            size=self._size,
            idle=len(self._idle),
            in_use=self._size - self._slots.value,
            waiting=self._slots.statistics().tasks_waiting,
            waits_total=self._waits_total,
            wait_seconds_total=self._wait_seconds_total,
            connects_total=self._connects_total,
            failures_total=self._failures_total,
            last_error=self._last_error,
        )

    async def _take(self) -> TrioConnection:
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            began = trio.current_time()
            try:
                await self._slots.acquire()
            finally:
                self._waits_total += 1
                self._wait_seconds_total += trio.current_time() - began
        try:
            if self._closed:
                raise StoreUnavailableError(f"the pool for {self._where} is closed: the node is stopping")
            return self._take_idle_nowait() or await self._connect()
        except BaseException:
            self._slots.release()
            raise

    def _take_idle_nowait(self) -> TrioConnection | None:
        if not self._idle:
            return None
        connection = self._idle.pop()
        if not connection.lost_nowait():
            return connection
        connection.abandon()
        self._failed("the server closed an idle connection")
        return None

    async def _connect(self) -> TrioConnection:
        try:
            connection: TrioConnection = await TrioConnection.connect(
                self._conninfo,
                autocommit=True,
                prepare_threshold=PREPARE_THRESHOLD,
                context=self._adapters,
            )
        except psycopg.OperationalError as error:
            raise self._failed(str(error)) from error
        self._connects_total += 1
        configured = False
        try:
            if self._configure is not None:
                await self._configure(connection)
            configured = True
        except psycopg.Error as error:
            if is_away(error, connection):
                raise self._failed(str(error)) from error
            raise
        finally:
            if not configured:
                connection.abandon()
        return connection

    async def _give_back(self, connection: TrioConnection, error: BaseException | None) -> None:
        if isinstance(error, psycopg.Error) and is_away(error, connection):
            connection.abandon()
            self._slots.release()
            raise self._failed(str(error)) from error
        try:
            if connection.pgconn.transaction_status in _UNFINISHED:
                await connection.rollback()
        except psycopg.Error:
            connection.abandon()
        except BaseException:
            connection.abandon()
            raise
        finally:
            self._put_back_nowait(connection)

    def _put_back_nowait(self, connection: TrioConnection) -> None:
        clean = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE and connection.autocommit
        if clean and not self._closed:
            self._idle.append(connection)
        else:
            connection.abandon()
        self._slots.release()

    def _failed(self, reason: str) -> StoreUnavailableError:
        # Whatever took one connection has most likely taken the idle ones, all of them older.
        self._drop_idle()
        self._failures_total += 1
        self._last_error = " ".join(reason.split())
        return StoreUnavailableError(f"{self._where} is away: {self._last_error}")

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abandon()


@attrs.define(eq=False)
class _Loan:
    """
    One block's use of a connection.
    """

    _pool: Pool
    _connection: TrioConnection = attrs.field(init=False)

    async def __aenter__(self) -> TrioConnection:
        self._connection = await self._pool._take()
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self._pool._give_back(self._connection, exc_val)


def is_away(error: psycopg.Error, connection: TrioConnection) -> bool:
    """
    Whether `error` says that the database is away, rather than that a statement failed.
    """
    if error.sqlstate:
        return error.sqlstate.startswith(_AWAY)
    # Without a code it is libpq's own, which is a plain DatabaseError if it came as a result.
    return connection.closed and (
        isinstance(error, psycopg.OperationalError) or type(error) is psycopg.DatabaseError
    )


def where_is(conninfo: str) -> str:
    """
    Name the database for people, without its password. Raises StartupError for a malformed conninfo.
    """
    try:
        params = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # Not chained: libpq quotes the piece it stumbled over, and that may be the password.
        raise StartupError(
            "the database's connection string cannot be read;"
            " it should look like postgresql://user:password@host:5432/name"
        ) from None
    host = params.get("host") or params.get("hostaddr") or "the default host"
    port = f":{params['port']}" if "port" in params else ""
    return f"the database {params.get('dbname', '')!r} at {host}{port}"
