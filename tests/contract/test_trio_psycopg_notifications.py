"""Notifications reach a listener in order, for as long as it cares to wait."""

from contextlib import aclosing

import trio

from engine.store.trio_psycopg import TrioConnection
from tests.contract.trio_psycopg_helpers import assert_usable
from tests.patience import patience


async def test_notifications_arrive_in_order(connection: TrioConnection, observer: TrioConnection) -> None:
    """
    A listener gets every notification, in the order of the commits.
    """
    await observer.execute("LISTEN driver")
    for i in range(100):
        await connection.execute("SELECT pg_notify('driver', %s)", [str(i)])
    async with aclosing(observer.notifies(stop_after=100)) as notifies:
        assert [notify.payload async for notify in notifies] == [str(i) for i in range(100)]


async def test_waiting_for_notifications_ends_with_its_timeout(connection: TrioConnection) -> None:
    """
    notifies(timeout=…) returns when the time is up, with nothing.
    """
    with patience():
        assert [notify async for notify in connection.notifies(timeout=0.05)] == []
    await assert_usable(connection)


async def test_a_timeout_of_zero_takes_what_has_arrived(
    connection: TrioConnection, observer: TrioConnection
) -> None:
    """
    notifies(timeout=0) is a poll: no waiting, but nothing present is missed.
    """
    await observer.execute("LISTEN driver")
    await connection.execute("NOTIFY driver, 'here'")
    await trio.lowlevel.wait_readable(observer.fileno())
    assert [notify.payload async for notify in observer.notifies(timeout=0)] == ["here"]


async def test_a_listener_that_was_cancelled_hears_the_next_notification(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Cancelling the wait for notifications leaves the connection as it was.
    """
    await observer.execute("LISTEN driver")

    async def cancel_when_blocked() -> None:
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked)
        async with aclosing(observer.notifies()) as notifies:
            async for _ in notifies:
                pass
    assert scope.cancelled_caught
    await connection.execute("NOTIFY driver, 'after'")
    with patience():
        assert [notify.payload async for notify in observer.notifies(stop_after=1)] == ["after"]
