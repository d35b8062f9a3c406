"""The transactions that plugins write in: one of their own, opened with its first statement."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, LiteralString

import attrs
import psycopg
import trio
from psycopg import pq
from psycopg.rows import dict_row

from engine.domain.event import Epoch, EventDraft, Request, UserId, user_topic
from engine.errors import EngineError, StoreUnavailableError
from engine.store.events import Author, PendingEvent
from engine.store.pool import Pool, is_away
from engine.store.queries import queries
from engine.store.trio_psycopg import TrioConnection

_EVENTS = queries("events")


@attrs.define(eq=False, kw_only=True)
class PluginTransaction:
    """
    What a plugin writes, all or nothing; fulfils hookspecs.Transaction.

    Owns one connection from its first use to `commit` or `rollback`. A crash rolls back. `used` tells
    whether anything was run in it. Everything raises StoreUnavailableError once the database was away,
    so that a plugin which overlooks that cannot commit the rest.
    """

    plugin: str
    pool: Pool
    # Seconds that the commit may take; the statements before it are under the plugin's budget.
    deadline: float
    epoch: Epoch
    _held: AbstractAsyncContextManager[TrioConnection] | None = attrs.field(default=None, init=False)
    _connection: TrioConnection | None = attrs.field(default=None, init=False)
    # Why nothing can be run in it any more: it has ended, or broke with all that was written in it.
    _over: EngineError | None = attrs.field(default=None, init=False)
    used: bool = attrs.field(default=False, init=False)
    # When anything was first run in it; until it ends, the log is held up for everybody.
    began_at: float | None = attrs.field(default=None, init=False)
    # Told then.
    on_begin: Callable[[], None] | None = attrs.field(default=None, init=False)
    # Whether it has appended events to the log.
    told: bool = attrs.field(default=False, init=False)

    @property
    def _begin(self) -> LiteralString:
        # The pool's connections do not wait for the disk; what a plugin does by itself nobody does again.
        return "begin; set local synchronous_commit = on"

    async def execute(self, query: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """
        Run one statement; answers the number of rows that it touched.
        """
        async with self._working() as connection:
            return (await connection.execute(query.encode(), params)).rowcount

    async def execute_many(self, query: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> None:
        """
        Run one statement for each row, in one go.
        """
        given = list(rows)
        async with self._working() as connection, connection.cursor() as cursor:
            if len(given) == 1:
                # As most often at a moderate pace; a pipeline for one row costs half as much again.
                await cursor.execute(query.encode(), given[0])
            else:
                await cursor.executemany(query.encode(), given)

    async def fetch(
        self, query: str, params: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[Mapping[str, Any]]:
        """
        Run one statement; answers its rows by column name.
        """
        async with self._working() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), params)
            return list(await cursor.fetchall())

    async def tell_user(self, user: UserId, type: str, data: Mapping[str, Any]) -> None:
        """
        Append an event to the log of what one person is told.
        """
        author = Author(user=user, request=Request(mutation_id=f"{self.plugin}:{uuid.uuid4()}"))
        draft = EventDraft(type=type, data=data)
        pending = PendingEvent.of(user_topic(user), draft, author, self.epoch)
        async with self._working() as connection:
            await connection.execute(_EVENTS["tell_user"], {**pending.params(), "to": user})
        self.told = True

    async def commit_own(self) -> None:
        """
        Commit what was written. Raises StoreUnavailableError when nobody knows whether it was.
        """
        with trio.move_on_after(self.deadline) as scope:
            try:
                await self._commit()
            finally:
                await self.rollback()
        if scope.cancelled_caught:
            raise StoreUnavailableError(f"the database did not commit within {self.deadline:g} s")

    async def rollback(self) -> None:
        """
        Give the connection back; what was not committed is undone. May be called again.
        """
        self._over = self._over or EngineError("the transaction has ended: use it within its block only")
        if self._held is not None:
            held, self._held, self._connection = self._held, None, None
            await held.__aexit__(None, None, None)

    async def _commit(self) -> None:
        if self.used:
            async with self._working() as connection:
                await connection.execute("commit")

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[TrioConnection]:
        if self._over is not None:
            raise self._over
        self.used = True
        if self.began_at is None:
            self.began_at = trio.current_time()
            if self.on_begin is not None:
                self.on_begin()
        if self._connection is None:
            held = self.pool.connection()
            try:
                self._connection = await held.__aenter__()
            except StoreUnavailableError as away:
                self._over = away
                raise
            self._held = held
        connection = self._connection
        try:
            if connection.pgconn.transaction_status == pq.TransactionStatus.IDLE:
                await connection.execute(self._begin)
            yield connection
        except psycopg.Error as error:
            if is_away(error, connection):
                await self._lose(error)  # noqa: ASYNC120 -- cancelled, nobody waits for the error
            raise

    async def _lose(self, error: psycopg.Error) -> None:
        """
        Give the broken connection back; that raises StoreUnavailableError.
        """
        assert self._held is not None
        held, self._held, self._connection = self._held, None, None
        try:
            await held.__aexit__(type(error), error, error.__traceback__)
        except StoreUnavailableError as lost:
            self._over = lost
            raise
