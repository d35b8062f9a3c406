"""Every kind of thing a connection can be at when a cancellation hits it."""

from engine.store.trio_psycopg import TrioConnection
from tests.contract.trio_psycopg_helpers import streamed


async def _query(connection: TrioConnection) -> None:
    await connection.execute("INSERT INTO driver_rows VALUES (1, 'a'), (1, 'b')", prepare=True)


async def _transaction(connection: TrioConnection) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'a')")
        async with connection.transaction():
            await connection.execute("INSERT INTO driver_rows VALUES (1, 'b')")


async def _rolled_back(connection: TrioConnection) -> None:
    async with connection.transaction(force_rollback=True):
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'a')")


async def _executemany(connection: TrioConnection) -> None:
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO driver_rows VALUES (%s, %s)", [(i, "x") for i in range(100)])


async def _pipeline(connection: TrioConnection) -> None:
    async with connection.pipeline() as pipeline, connection.transaction():
        first = await connection.execute("INSERT INTO driver_rows VALUES (1, 'a') RETURNING number")
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'b')")
        await first.fetchone()
        await pipeline.sync()


async def _copy_in(connection: TrioConnection) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY driver_rows FROM STDIN") as copy:
        for _ in range(4):
            await copy.write("1\tx\n" * 50_000)


async def _copy_out(connection: TrioConnection) -> None:
    query = "COPY (SELECT generate_series(1, 20)) TO STDOUT"
    async with connection.cursor() as cursor, cursor.copy(query) as copy:
        async for _ in copy.rows():
            pass


async def _stream(connection: TrioConnection) -> None:
    async with streamed(connection, "SELECT generate_series(1, 20)") as rows:
        async for _ in rows:
            pass


async def _server_cursor(connection: TrioConnection) -> None:
    async with connection.transaction(), connection.cursor("portions") as cursor:
        await cursor.execute("SELECT generate_series(1, 20)")
        await cursor.fetchmany(5)


async def _by_hand(connection: TrioConnection) -> None:
    await connection.set_autocommit(False)
    try:
        await connection.execute("INSERT INTO driver_rows VALUES (1, 'a'), (1, 'b')")
        await connection.commit()
    finally:
        if not connection.closed:
            await connection.rollback()
        connection._autocommit = True  # in a cancelled scope set_autocommit() would not begin


OPERATIONS = [
    _query,
    _transaction,
    _rolled_back,
    _executemany,
    _pipeline,
    _copy_in,
    _copy_out,
    _stream,
    _server_cursor,
    _by_hand,
]
