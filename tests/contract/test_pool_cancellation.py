"""Whoever gives up, and whenever, takes no slot of the pool along."""

import math
import os
import random
import signal

import trio

from engine.store.pool import Pool
from engine.store.trio_psycopg import CLEANUP_SECONDS, TrioConnection
from tests.contract.pool_helpers import fill, open_pool, pid_of
from tests.contract.trio_psycopg_helpers import SLACK_SECONDS, value_of
from tests.patience import patience


async def test_a_cancelled_waiter_takes_no_slot_with_it(postgres_conninfo: str) -> None:
    """
    Giving up while waiting for a connection leaves the pool as it was.
    """
    async with open_pool(postgres_conninfo, 1) as pool:
        async with pool.connection():
            with trio.move_on_after(0) as scope:
                async with pool.connection():
                    raise AssertionError("there was none to lend")
            assert scope.cancelled_caught
            assert pool.statistics().waiting == 0
        with patience():
            await pid_of(pool)


async def test_a_caller_with_a_deadline_is_back_soon_from_a_server_that_does_not_answer(pool: Pool) -> None:
    """
    In the transaction of a stopped PostgreSQL: the deadline, a quarter second, and no slot lost.
    """
    pid = await pid_of(pool)
    os.kill(pid, signal.SIGSTOP)
    try:
        with patience():
            with trio.move_on_after(0.05) as scope:
                async with pool.connection() as connection, connection.transaction():
                    await connection.execute("SELECT 1")
            late = trio.current_time() - scope.deadline
        assert scope.cancelled_caught
        assert late < CLEANUP_SECONDS + SLACK_SECONDS
        assert (pool.statistics().in_use, pool.statistics().idle) == (0, 0)
        assert await pid_of(pool) != pid
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_cancelled_connect_gives_its_slot_back(nursery: trio.Nursery) -> None:
    """
    Even if the server never says a word.
    """

    async def connect() -> None:
        with scope:
            await pid_of(pool)

    scope = trio.CancelScope()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, open_pool(f"host=127.0.0.1 port={listener.socket.getsockname()[1]}", 1) as pool:
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
                    assert await value_of(connection, "SELECT %s::int", mine) == mine
                    await connection.execute("INSERT INTO pool_chaos VALUES (1)")
                answered += 1

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(24):
                nursery.start_soon(work)
        assert answered
        statistics = pool.statistics()
        assert (statistics.in_use, statistics.waiting) == (0, 0)
        assert await value_of(observer, "SELECT count(*) FROM pool_chaos") == 2 * answered
        async with pool.connection() as connection:
            open_transactions = "SELECT count(*) FROM pg_locks WHERE relation = 'pool_chaos'::regclass"
            assert await value_of(connection, open_transactions) == 0
        assert await fill(pool, 4)
    finally:
        await observer.execute("DROP TABLE pool_chaos")
