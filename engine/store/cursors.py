"""How far each plugin has got, why one stopped, and the transaction in which its effects move its cursor."""

from datetime import datetime
from typing import LiteralString, cast

import attrs
import trio

from engine.domain.event import Epoch, Event, EventId, LogPlace
from engine.errors import StoreUnavailableError
from engine.store.postgres import Database
from engine.store.queries import queries
from engine.store.transactions import PluginTransaction

_SQL = queries("cursors")
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

    async def replay(self, plugin: str, event: EventId | None) -> bool:
        """
        Put the cursor before an event, or before everything; False when there is no such event or plugin.
        """
        return await self.database.execute(_SQL["replay"], {"plugin": plugin, "event": event}) == 1

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
            plugin=cursor.plugin,
            pool=self.database.pool,
            deadline=self.database.deadline,
            epoch=self.epoch,
            cursor=cursor,
        )

    def begin_own(self, plugin: str) -> PluginTransaction:
        """
        A transaction of the plugin's own, of no events.
        """
        return PluginTransaction(
            plugin=plugin, pool=self.database.pool, deadline=self.database.deadline, epoch=self.epoch
        )


@attrs.define(eq=False, kw_only=True)
class EffectTransaction(PluginTransaction):
    """
    What a plugin writes for some events, and the move of its cursor: both or neither.
    """

    cursor: Cursor

    @property
    def _begin(self) -> LiteralString:
        return "begin"

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
                await self._commit()
            finally:
                await self.rollback()
        if scope.cancelled_caught:
            raise StoreUnavailableError(f"the database did not commit within {self.deadline:g} s")
        return attrs.evolve(self.cursor, place=place)
