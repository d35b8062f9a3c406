"""A driver's connection at work: what is asked of it, who cancels it and when, who stops its server."""

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import LiteralString, cast

import pytest
import trio
from psycopg import pq

from engine.store import trio_psycopg
from engine.store.trio_psycopg import TrioConnection

# A busy machine is late by less than this; a clean-up that waits for a server that is stopped never ends.
SLACK_SECONDS = 10


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[TrioConnection]:
    """
    A connection that commits by itself.
    """
    connection: TrioConnection
    async with await TrioConnection.connect(conninfo, autocommit=True) as connection:
        yield connection


async def value_of(connection: TrioConnection, query: LiteralString, *params: object) -> object:
    """
    The first column of the first row.
    """
    row = await (await connection.execute(query, params)).fetchone()
    assert row is not None
    return row[0]


def streamed(connection: TrioConnection, query: LiteralString) -> aclosing[AsyncGenerator[tuple[int]]]:
    """
    The rows of a query one by one, and the stream closed when its block is left.
    """
    return aclosing(cast("AsyncGenerator[tuple[int]]", connection.cursor().stream(query)))


async def assert_usable(connection: TrioConnection) -> None:
    """
    The connection is open, idle, and answers what it is asked.
    """
    assert not connection.closed
    assert connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    assert await value_of(connection, "SELECT %s::int", 42) == 42


async def until_busy(observer: TrioConnection, pid: int) -> None:
    """
    Return once the backend sleeps, or waits for an advisory lock.
    """
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event IN ('PgSleep', 'advisory')"
    while await value_of(observer, query, pid) == 0:
        pass


async def cancel_when_busy(observer: TrioConnection, pid: int, scope: trio.CancelScope) -> None:
    """
    Cancel in the middle of a statement, not before it has begun.
    """
    await until_busy(observer, pid)
    scope.cancel()


@contextmanager
def stopped(*pids: int) -> Iterator[Callable[[int], None]]:
    """
    Stop processes, these and those named later; all go on when the block is left.
    """
    held: list[int] = []

    def stop(pid: int) -> None:
        held.append(pid)
        os.kill(pid, signal.SIGSTOP)

    try:
        for pid in pids:
            stop(pid)
        yield stop
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)


def parent_of(pid: int) -> int:
    """
    The postmaster, if given a backend.
    """
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@contextmanager
def cancelling_at(
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
