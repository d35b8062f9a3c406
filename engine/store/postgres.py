"""Statements under a deadline: the one way from the store's parts to PostgreSQL. Knows no table."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import attrs
import trio

from engine.errors import StoreUnavailableError
from engine.store.pool import Pool
from engine.store.trio_psycopg import TrioConnection

Row = tuple[Any, ...]
Params = Mapping[str, Any]


@attrs.define(eq=False, kw_only=True)
class Database:
    """
    A pool, and the deadline in seconds of everything that is run through it.

    Raises StoreUnavailableError when the database is away or too slow.
    """

    pool: Pool
    deadline: float

    async def fetch(self, query: LiteralString, params: Params) -> list[Row]:
        """
        All rows that the statement answers.
        """
        with trio.move_on_after(self.deadline):
            async with self.pool.connection() as connection:
                return await (await connection.cursor_for(query).execute(query, params)).fetchall()
        raise self._too_slow()

    async def fetch_one(self, query: LiteralString, params: Params) -> Row | None:
        """
        The first row that the statement answers, or None.
        """
        with trio.move_on_after(self.deadline):
            async with self.pool.connection() as connection:
                return await (await connection.cursor_for(query).execute(query, params)).fetchone()
        raise self._too_slow()

    async def execute(self, query: LiteralString, params: Params) -> int:
        """
        Run the statement; answers the number of rows that it touched.
        """
        with trio.move_on_after(self.deadline):
            async with self.pool.connection() as connection:
                return (await connection.cursor_for(query).execute(query, params)).rowcount
        raise self._too_slow()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[TrioConnection]:
        """
        A connection for several statements; the deadline covers the whole block.
        """
        with trio.move_on_after(self.deadline) as scope:
            async with self.pool.connection() as connection:
                yield connection
        if scope.cancelled_caught:
            raise self._too_slow()

    def _too_slow(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"the database did not answer within {self.deadline:g} s")
