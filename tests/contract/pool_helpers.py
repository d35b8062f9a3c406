"""People who borrow from a pool, and an operator who ends their sessions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from engine.store.pool import Pool
from engine.store.trio_psycopg import TrioConnection
from tests.contract.trio_psycopg_helpers import value_of


@asynccontextmanager
async def open_pool(
    conninfo: str, size: int, configure: Callable[[TrioConnection], Awaitable[None]] | None = None
) -> AsyncIterator[Pool]:
    """
    A pool that is closed when the block is left.
    """
    pool = Pool(conninfo, size=size, configure=configure)
    try:
        yield pool
    finally:
        await pool.aclose()


async def pid_of(pool: Pool) -> int:
    """
    The process id of the backend that is lent now.
    """
    async with pool.connection() as connection:
        return connection.info.backend_pid


async def terminate(observer: TrioConnection, *pids: int) -> None:
    """
    End sessions as an operator does; returns when they are gone.
    """
    for pid in pids:
        assert await value_of(observer, "SELECT pg_terminate_backend(%s, 5000)", pid) is True


async def fill(pool: Pool, count: int) -> set[int]:
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
