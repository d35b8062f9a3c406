"""How far each plugin has got, why one stopped, and the transaction in which its effects move its cursor."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, cast

import attrs
import psycopg
import trio
from psycopg import pq
from psycopg.rows import dict_row

from engine.domain.event import Epoch, Event, EventDraft, LogPlace, Request, UserId, user_topic
from engine.errors import EngineError, StoreUnavailableError
from engine.store.events import Author, PendingEvent
from engine.store.pool import Pool, is_away
from engine.store.postgres import Database
from engine.store.queries import queries
from engine.store.trio_psycopg import TrioConnection

_SQL = queries("cursors")
_EVENTS = queries("events")
# A lag is counted no further than this.
LAG_COUNTED = 10_000


@attrs.frozen(kw_only=True)
class Cursor:
    """
    One plugin's place in the log, and since when and why it is quarantined, if it is.
    """

    plugin: str
    place: LogPlace
    quarantined_at: datetime | None = None
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Failure:
    """
    One failed attempt at an effect.
    """

    event_id: str
    event_type: str
    attempt: int
    error: str
    traceback: str
    at: datetime | None = None


class CursorMovedError(Exception):
    """
    Another node has moved this plugin's cursor meanwhile; read it anew and go on from there.
    """


@attrs.define(eq=False, kw_only=True)
class Cursors:
    """
    Read and move the plugins' cursors; keep their failures.
    """

    database: Database
    epoch: Epoch

    async def open(self, plugin: str, beginning: LogPlace) -> Cursor:
        """
        The plugin's cursor; a new plugin's is put at the given place.
        """
        params = {"plugin": plugin, "xid": beginning.xid, "seq": beginning.seq}
        row = await self.database.fetch_one(_SQL["open"], params)
        assert row is not None
        return Cursor(plugin=plugin, place=LogPlace(row[0], row[1]), quarantined_at=row[2], reason=row[3])

    async def quarantine(self, plugin: str, reason: str) -> datetime:
        """
        Remember that the plugin is switched off; answers since when.
        """
        row = await self.database.fetch_one(_SQL["quarantine"], {"plugin": plugin, "reason": reason})
        assert row is not None
        return cast(datetime, row[0])

    async def resume(self, plugin: str) -> None:
        """
        Forget the quarantine.
        """
        await self.database.execute(_SQL["resume"], {"plugin": plugin})

    async def failed(self, plugin: str, failure: Failure) -> None:
        """
        Keep a failure, and of all of the plugin's the newest hundred.
        """
        params = {**attrs.asdict(failure), "plugin": plugin}
        async with self.database.connection() as connection, connection.pipeline():
            await connection.execute(_SQL["failed"], params)
            await connection.execute(_SQL["forget_failures"], params)

    async def failures(self, plugin: str, limit: int) -> list[Failure]:
        """
        The plugin's failures, newest first.
        """
        rows = await self.database.fetch(_SQL["failures"], {"plugin": plugin, "limit": limit})
        return [
            Failure(
                event_id=row[0], event_type=row[1], attempt=row[2], error=row[3], traceback=row[4], at=row[5]
            )
            for row in rows
        ]

    async def lag(self, place: LogPlace) -> int:
        """
        How many events wait behind the place, counted up to LAG_COUNTED.
        """
        params = {"xid": place.xid, "seq": place.seq, "limit": LAG_COUNTED}
        row = await self.database.fetch_one(_SQL["lag"], params)
        assert row is not None
        return int(row[0])

    def begin(self, cursor: Cursor) -> "EffectTransaction":
        """
        The transaction of the events after the cursor; it costs nothing until it is used.
        """
        return EffectTransaction(
            pool=self.database.pool, deadline=self.database.deadline, epoch=self.epoch, cursor=cursor
        )


@attrs.define(eq=False, kw_only=True)
class EffectTransaction:
    """
    What a plugin writes for some events, and the move of its cursor: both or neither.

    Owns one connection from its first use to `commit` or `rollback`. A crash rolls back. `used` tells
    whether anything was run in it. Everything raises StoreUnavailableError once the database was away,
    so that a plugin which overlooks that cannot commit the rest.
    """

    pool: Pool
    # Seconds that the commit may take; the statements before it are under the plugin's budget.
    deadline: float
    epoch: Epoch
    cursor: Cursor
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
        author = Author(user=user, request=Request(mutation_id=f"{self.cursor.plugin}:{uuid.uuid4()}"))
        draft = EventDraft(type=type, data=data)
        pending = PendingEvent.of(user_topic(user), draft, author, self.epoch)
        async with self._working() as connection:
            await connection.execute(_EVENTS["tell_user"], {**pending.params(), "to": user})
        self.told = True

    async def commit(self, last: Event) -> Cursor:
        """
        Commit what was written, with the cursor moved to the last event.

        Raises CursorMovedError, and StoreUnavailableError when nobody knows whether it was committed: then
        the cursor has moved or has not, and who tries again finds out.
        """
        place, old = last.place, self.cursor.place
        params = {
            "plugin": self.cursor.plugin,
            "xid": place.xid,
            "seq": place.seq,
            "from_xid": old.xid,
            "from_seq": old.seq,
        }
        with trio.move_on_after(self.deadline) as scope:
            try:
                if not self.used:
                    async with self.pool.connection() as connection:
                        moved = (await connection.execute(_SQL["move"], params)).rowcount
                else:
                    async with self._working() as connection:
                        moved = (await connection.execute(_SQL["move"], params)).rowcount
                if moved != 1:
                    raise CursorMovedError
                if self.used:
                    async with self._working() as connection:
                        await connection.execute("commit")
            finally:
                await self.rollback()
        if scope.cancelled_caught:
            raise StoreUnavailableError(f"the database did not commit within {self.deadline:g} s")
        return attrs.evolve(self.cursor, place=place)

    async def rollback(self) -> None:
        """
        Give the connection back; what was not committed is undone. May be called again.
        """
        self._over = self._over or EngineError("the transaction has ended: use it within the hook only")
        if self._held is not None:
            held, self._held, self._connection = self._held, None, None
            await held.__aexit__(None, None, None)

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
                await connection.execute("begin")
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
