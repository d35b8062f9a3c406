"""A cancelled transaction leaves nothing behind, neither rows nor cursors."""

import trio

from engine.store.trio_psycopg import TrioConnection
from tests.contract.trio_psycopg_helpers import assert_usable, cancel_when_busy, value_of
from tests.patience import patience


async def test_a_transaction_cancelled_in_a_query_is_rolled_back(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Nothing of the transaction stays, and the connection is out of it.
    """
    with patience(), trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_busy, observer, connection.info.backend_pid, scope)
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
            await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    assert await value_of(connection, "SELECT count(*) FROM driver_rows") == 0
    await assert_usable(connection)


async def test_a_transaction_cancelled_between_queries_is_rolled_back(connection: TrioConnection) -> None:
    """
    The ROLLBACK runs although the scope is cancelled.
    """
    with trio.CancelScope() as scope:
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await assert_usable(connection)
    assert await value_of(connection, "SELECT count(*) FROM driver_rows") == 0


async def test_a_transaction_cancelled_before_its_commit_is_rolled_back(connection: TrioConnection) -> None:
    """
    A block that ends after its deadline commits nothing, and its caller is told so.
    """
    with trio.CancelScope() as scope:
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'gone')")
            scope.cancel()
    assert scope.cancelled_caught
    await assert_usable(connection)
    assert await value_of(connection, "SELECT count(*) FROM driver_rows") == 0


async def test_an_inner_transaction_can_be_cancelled_alone(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    Cancelling a savepoint's block keeps what the outer transaction did.
    """
    async with connection.transaction():
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'kept')")
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_busy, observer, connection.info.backend_pid, scope)
            async with connection.transaction():
                await connection.execute("INSERT INTO driver_rows VALUES (2, 'gone')")
                await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    rows = await (await connection.execute("SELECT text FROM driver_rows")).fetchall()
    assert rows == [("kept",)]


async def test_a_server_cursor_is_closed_when_its_block_is_cancelled(connection: TrioConnection) -> None:
    """
    One that outlives its transaction would stay with the session for good.
    """
    with trio.CancelScope() as scope:
        async with connection.cursor("held", withhold=True) as cursor:
            await cursor.execute("SELECT 1")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await value_of(connection, "SELECT count(*) FROM pg_cursors WHERE name = 'held'") == 0
