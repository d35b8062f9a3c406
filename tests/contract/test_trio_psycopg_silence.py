"""A server that says nothing holds nobody who was cancelled; with time left, it is waited for."""

import os
import signal
from collections.abc import Awaitable, Callable

import pytest
import trio

from engine.store.trio_psycopg import CLEANUP_SECONDS, TrioConnection
from tests.contract.trio_psycopg_helpers import SLACK_SECONDS, assert_usable, parent_of, stopped
from tests.contract.trio_psycopg_operations import OPERATIONS
from tests.patience import patience


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("everything", [False, True], ids=["backend", "server"])
async def test_a_server_that_does_not_answer_holds_a_cancelled_caller_for_a_quarter_second(
    connection: TrioConnection, operation: Callable[[TrioConnection], Awaitable[None]], everything: bool
) -> None:
    """
    A stopped PostgreSQL, be it one backend or all of it: the connection is given up, in time.
    """
    pid = connection.info.backend_pid
    with stopped(pid, *([parent_of(pid)] if everything else [])), patience():
        with trio.move_on_after(0.05) as scope:
            await operation(connection)
        late = trio.current_time() - scope.deadline
    assert scope.cancelled_caught
    assert late < CLEANUP_SECONDS + SLACK_SECONDS
    assert connection.closed


async def test_a_transaction_on_a_stopped_server_ends_in_a_quarter_second(connection: TrioConnection) -> None:
    """
    The same if the cancellation hits between two queries and only the ROLLBACK meets the silence.
    """
    cancelled_at = 0.0
    with stopped() as stop, patience():
        with trio.CancelScope() as scope:
            async with connection.transaction():
                await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
                stop(connection.info.backend_pid)
                scope.cancel()
                cancelled_at = trio.current_time()
                await trio.sleep_forever()
        late = trio.current_time() - cancelled_at
    assert scope.cancelled_caught
    assert late < CLEANUP_SECONDS + SLACK_SECONDS
    assert connection.closed


async def test_a_clean_up_with_time_left_is_not_hurried(
    connection: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Without a cancellation a ROLLBACK may take longer than a quarter second.
    """

    async def wake_later() -> None:
        await trio.sleep(CLEANUP_SECONDS + 0.1)
        os.kill(connection.info.backend_pid, signal.SIGCONT)

    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            os.kill(connection.info.backend_pid, signal.SIGSTOP)
            nursery.start_soon(wake_later)
            raise ZeroDivisionError
    await assert_usable(connection)
