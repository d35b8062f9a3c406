"""psycopg 3 driven by Trio: psycopg's generators, Trio's waiting; knows no SQL of ours and no pool."""

from __future__ import annotations

import selectors
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from math import inf
from time import monotonic
from typing import Any, LiteralString, Self, cast

import attrs
import psycopg
import trio
from psycopg import AsyncCursor, AsyncTransaction, errors, generators, pq
from psycopg._capabilities import capabilities
from psycopg.abc import RV, AdaptContext, ConnParam, PQGen, PQGenConn
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_attempts, make_conninfo, timeout_from_conninfo
from psycopg.pq.abc import PGconn
from psycopg.rows import AsyncRowFactory, Row
from psycopg.waiting import MAX_BUSY_TIME, Wait
from psycopg.waiting import _ready as ready_now
from trio.lowlevel import ParkingLot, checkpoint_if_cancelled, notify_closing, wait_readable, wait_writable

# A cancelled caller waits this long for the server to let go; then the connection is abandoned.
CLEANUP_SECONDS = 0.25
# As many as psycopg keeps prepared.
MAX_CURSORS = 100

# psycopg's generators that open or end a block. Skipped or cut short they would leave psycopg's
# books and the server at odds, and a clean-up runs in a cancelled scope more often than not.
_FRAMES = frozenset({"_enter_gen", "_exit_gen", "_rollback_gen", "_close_gen"})

_READ = Wait.R
_ACTIVE = pq.TransactionStatus.ACTIVE


@attrs.define(eq=False)
class _Gate:
    """
    Let one task at a time use a connection, without a checkpoint while it is free.

    psycopg holds it around every operation, so this is where one that was left half-way is settled.
    """

    _connection: TrioConnection[Any]
    _held: bool = attrs.field(default=False, init=False)
    _waiters: ParkingLot = attrs.field(factory=ParkingLot, init=False)

    async def __aenter__(self) -> None:
        if self._held:
            await self._waiters.park()
        self._held = True

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            active = self._connection.pgconn.transaction_status == _ACTIVE
            if active and self._connection._pipeline is None:  # a pipeline is active between statements too
                await self._connection._settle()
        finally:
            # Handed over held, so that nobody who comes later overtakes a waiter.
            if self._waiters:
                self._waiters.unpark()
            else:
                self._held = False


class TrioConnection(psycopg.AsyncConnection[Row]):
    """
    A psycopg connection that waits with Trio; everything else is as psycopg documents it.

    A statement cancelled under way is cancelled on the server too. If it completed all the same,
    its result is returned and the next checkpoint raises; so after `Cancelled` it either did not
    happen, or the server did not answer for CLEANUP_SECONDS and the connection is closed.
    """

    def __init__(self, pgconn: PGconn, *args: Any) -> None:
        super().__init__(pgconn, *args)
        self.lock = _Gate(self)  # type: ignore[assignment]
        # The server said goodbye while nothing was under way.
        self._dismissed = False
        self._last_yield = 0.0
        self._either: int | None = None
        # A cursor that ran a query once knows how to adapt its parameters and rows.
        self._cursors: dict[str, AsyncCursor[Row]] = {}
        self.add_notice_handler(self._noticed)

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[AsyncCursor[Row]] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """
        Connect as psycopg does; host names are resolved in a thread, `connect_timeout` is per address.
        """
        params = await cls._get_connection_params(conninfo, **kwargs)
        timeout = timeout_from_conninfo(params)
        attempts = await trio.to_thread.run_sync(conninfo_attempts, params, abandon_on_cancel=True)
        failure: psycopg.Error = psycopg.OperationalError("no address to connect to")
        failures: list[str] = []
        for attempt in attempts:
            try:
                connection = await _drive_opening(cls._connect_gen(make_conninfo("", **attempt)), timeout)
                break
            except errors._WaitTimeout:
                failure = errors.ConnectionTimeout("connection timeout expired")
            except psycopg.Error as error:
                failure = error
            where = ", ".join(f"{key}: {attempt.get(key)!r}" for key in ("host", "port", "hostaddr"))
            failures.append(f"- {where}: {failure}")
        else:
            if len(failures) > 1:
                failures[:0] = [str(failure), "Multiple connection attempts failed. All failures were:"]
                failure = type(failure)("\n".join(failures), pgconn=failure.pgconn)
            raise failure.with_traceback(None)
        connection._autocommit = autocommit
        connection.row_factory = row_factory or connection.row_factory
        connection.cursor_factory = cursor_factory or connection.cursor_factory
        if context:
            connection._adapters = AdaptersMap(context.adapters)
        connection.prepare_threshold = prepare_threshold
        return connection

    async def __aexit__(self, *exc_info: Any) -> None:
        try:
            await super().__aexit__(*exc_info)
        finally:
            self.abandon()

    async def close(self) -> None:
        """
        Close the connection; whoever waits on it gets OperationalError.
        """
        self.abandon()

    def abandon(self) -> None:
        """
        Close at once, whatever is under way: the server finds out when it looks at the socket.
        """
        with suppress(psycopg.OperationalError):  # it has no socket any more
            notify_closing(self.pgconn.socket)
        if self._either is not None:
            notify_closing(self._either)
        self._closed = True
        self.pgconn.finish()

    def cursor_for(self, query: LiteralString) -> AsyncCursor[Row]:
        """
        The cursor kept for `query`, to run it again for two thirds of what a new cursor costs.

        Its next use replaces its rows, so whoever has the connection fetches before giving it back.
        """
        cursor = self._cursors.get(query)
        if cursor is None or cursor.closed:
            if len(self._cursors) >= MAX_CURSORS:
                self._cursors.clear()
            cursor = self._cursors[query] = self.cursor()
        return cursor

    def lost_nowait(self) -> bool:
        """
        Tell whether the server has closed this idle connection, without a round trip.
        """
        try:
            while ready_now(self.pgconn.socket, _READ):
                self.pgconn.consume_input()
                self.pgconn.is_busy()  # parses what came, and thereby calls the notice handlers
        except psycopg.OperationalError:
            return True
        return self._dismissed

    def _noticed(self, diagnostic: errors.Diagnostic) -> None:
        # libpq reports an error nobody waits for as a notice; the end of the socket follows it later.
        if diagnostic.severity_nonlocalized in ("FATAL", "PANIC"):
            self._dismissed = True

    async def wait(self, gen: PQGen[RV], interval: float = 0.0, timeout: float | None = None) -> RV:
        """
        Run one of psycopg's generators. In a cancelled scope nothing is begun, but clean-ups are.
        """
        finishing = getattr(gen, "__name__", "") in _FRAMES
        if not finishing:
            await checkpoint_if_cancelled()
        try:
            return await (self._drive(gen) if timeout is None else self._drive_for(gen, timeout))
        except (trio.Cancelled, KeyboardInterrupt) as interruption:
            active = self.pgconn.transaction_status == _ACTIVE
            if not (active or finishing):
                raise
            completed: list[RV] = []
            with self._bounded(), suppress(psycopg.Error):
                # A COMMIT or ROLLBACK is better awaited; the end of a pipeline awaits all its statements.
                if active and (not finishing or self._pipeline is not None):
                    await self.cancel_safe()
                completed.append(await self._drive(gen))
            # A stream or a pipeline that is still active has more to come, if only the cancellation.
            at_rest = self.pgconn.transaction_status != _ACTIVE
            if completed and at_rest and isinstance(interruption, trio.Cancelled):
                return completed[0]
            raise

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """
        Ask the server to cancel what is under way. Raises CancellationTimeout after `timeout` seconds.

        If it ends before the server answered, the connection is closed.
        """
        if not self._should_cancel():
            return
        await checkpoint_if_cancelled()
        answered = False
        try:
            if capabilities.has_cancel_safe():
                await _drive_opening(self._cancel_gen(), timeout or inf)
            else:  # libpq before 17 can only block
                await trio.to_thread.run_sync(self.pgconn.get_cancel().cancel, abandon_on_cancel=True)
            answered = True
        except errors._WaitTimeout:
            raise errors.CancellationTimeout("cancellation timeout expired") from None
        finally:
            # A request that may still be on its way would cancel whatever is run next.
            if not answered:
                self.abandon()

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """
        Run the block as a transaction, or a nested one; it is rolled back if it ends after its deadline.
        """
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction
            await checkpoint_if_cancelled()

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """
        Shield the block for CLEANUP_SECONDS; if that was not enough, abandon the connection.
        """
        with trio.CancelScope(shield=True, relative_deadline=CLEANUP_SECONDS) as bound:
            yield
        if bound.cancelled_caught:
            self.abandon()

    async def _settle(self) -> None:
        with self._bounded(), suppress(psycopg.Error):
            await self.cancel_safe()
            await self._drive(_discard(self.pgconn))
        if self.pgconn.transaction_status == _ACTIVE:
            self.abandon()

    async def _drive(self, gen: PQGen[RV]) -> RV:
        """
        Run a generator to its end; it may have been interrupted at one of its waits before.
        """
        try:
            fd = self.pgconn.socket
            wanted = next(gen)
            while True:
                if wanted == _READ:
                    await wait_readable(fd)
                    self._last_yield = monotonic()
                    wanted = gen.send(_READ)
                else:
                    wanted = gen.send(await self._wait_writable(fd, wanted))
        except StopIteration as end:
            # Thousands of rows of a COPY may come and go without one wait.
            if monotonic() - self._last_yield >= MAX_BUSY_TIME:
                await trio.lowlevel.cancel_shielded_checkpoint()
                self._last_yield = monotonic()
            return cast("RV", end.value)
        except (OSError, trio.ClosedResourceError) as error:
            raise psycopg.OperationalError("connection socket closed") from error

    async def _drive_for(self, gen: PQGen[RV], timeout: float) -> RV:
        with trio.move_on_after(timeout):
            return await self._drive(gen)
        try:
            # What has come by now still counts: a timeout of 0 is a poll.
            gen.send(ready_now(self.pgconn.socket, _READ))
        except StopIteration as end:
            return cast("RV", end.value)
        raise errors._WaitTimeout("wait timeout expired")

    async def _wait_writable(self, fd: int, wanted: Wait) -> int:
        """
        Wait until `fd` can be written, or read if `wanted` says so too; what it is ready for.
        """
        if monotonic() - self._last_yield >= MAX_BUSY_TIME:
            await trio.lowlevel.checkpoint()
            self._last_yield = monotonic()
        if ready := ready_now(fd, wanted):  # nearly always, and much cheaper than the scheduler
            return ready
        if wanted == Wait.W:
            await wait_writable(fd)
        else:
            # A selector is itself readable when something in it is ready: two waits without a nursery.
            with selectors.DefaultSelector() as either:
                either.register(fd, selectors.EVENT_READ | selectors.EVENT_WRITE)
                self._either = either.fileno()
                try:
                    await wait_readable(self._either)
                finally:
                    self._either = None
        self._last_yield = monotonic()
        return ready_now(fd, wanted) or wanted  # neither means an error, which libpq will name


async def _drive_opening(gen: PQGenConn[RV], timeout: float) -> RV:
    """
    Run a generator that opens a socket of its own, or several in turn.
    """
    try:
        with trio.move_on_after(timeout):
            fd, wanted = next(gen)
            while True:
                wait_ready = wait_readable if wanted == _READ else wait_writable
                await wait_ready(fd)
                fd, wanted = gen.send(wanted)
    except StopIteration as end:
        return cast("RV", end.value)
    finally:
        gen.close()  # closes a socket that was left half-open
    raise errors._WaitTimeout("wait timeout expired")


def _discard(pgconn: PGconn) -> PQGen[None]:
    """
    Throw away what is left of a cancelled operation: rows, or either direction of a COPY.
    """
    while (result := (yield from generators.fetch(pgconn))) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            yield from generators.copy_end(pgconn, b"cancelled")
        elif result.status == pq.ExecStatus.COPY_OUT:
            while isinstance((yield from generators.copy_from(pgconn)), memoryview):
                pass
