"""A connection comes about as libpq makes it, and ends whole: whoever is on it is told."""

import psycopg
import pytest
import trio
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from engine.store.trio_psycopg import TrioConnection
from tests.contract.trio_psycopg_helpers import stopped, until_busy
from tests.patience import patience


async def test_a_host_name_is_resolved_and_a_refusal_reported() -> None:
    """
    Nobody listening is an OperationalError; several addresses are all named.
    """
    with pytest.raises(psycopg.OperationalError, match=r"(?s)host: 'localhost'.*host: '127.0.0.1'"):
        await TrioConnection.connect("host=localhost,127.0.0.1 port=1,1 dbname=nowhere")


async def test_the_second_address_is_tried_when_the_first_refuses(postgres_conninfo: str) -> None:
    """
    Several hosts are tried in order, as libpq does.
    """
    parameters = conninfo_to_dict(postgres_conninfo)
    host, port = f"127.0.0.1,{parameters['host']}", f"1,{parameters.get('port', 5432)}"
    async with await TrioConnection.connect(postgres_conninfo, host=host, port=port) as connection:
        assert not connection.closed


async def test_connecting_to_a_server_that_never_answers_ends_with_connect_timeout() -> None:
    """
    connect_timeout is psycopg's: at least two seconds for each address.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener:
        with patience(), pytest.raises(errors.ConnectionTimeout):
            await TrioConnection.connect(f"host=127.0.0.1 port={port} connect_timeout=1")


async def test_connecting_can_be_cancelled_and_leaves_no_socket(nursery: trio.Nursery) -> None:
    """
    A cancelled connect closes its half-open socket at once.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def connect() -> None:
        with scope:
            try:
                await TrioConnection.connect(f"host=127.0.0.1 port={port}")
            except trio.Cancelled as cancelled:
                kept.append(cancelled)  # and with it every frame that led there
                raise

    kept: list[trio.Cancelled] = []

    scope = trio.CancelScope()
    async with listener:
        nursery.start_soon(connect)
        peer = await listener.accept()
        assert await peer.receive_some() != b""  # libpq has begun to talk
        scope.cancel()
        with patience():
            assert await peer.receive_some() == b""
    assert kept


async def test_closing_wakes_whoever_waits_on_the_connection(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    close() during a query of another task ends that query with OperationalError.
    """

    async def close_when_busy() -> None:
        await until_busy(observer, connection.info.backend_pid)
        await connection.close()

    nursery.start_soon(close_when_busy)
    with patience(), pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT pg_sleep(60)")
    assert connection.closed


async def test_closing_wakes_whoever_waits_to_write(
    connection: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    The same while the server takes nothing more and the query is not sent yet.
    """

    async def close_when_blocked() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        await connection.close()

    with stopped(connection.info.backend_pid):
        nursery.start_soon(close_when_blocked)
        with patience(), pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT length(%s)", ["x" * 10_000_000])


async def test_a_terminated_backend_is_told(
    connection: TrioConnection, observer: TrioConnection, nursery: trio.Nursery
) -> None:
    """
    An operator's pg_terminate_backend arrives as AdminShutdown.
    """
    pid = connection.info.backend_pid

    async def terminate_when_busy() -> None:
        await until_busy(observer, pid)
        await observer.execute("SELECT pg_terminate_backend(%s)", [pid])

    nursery.start_soon(terminate_when_busy)
    with patience(), pytest.raises(errors.AdminShutdown):
        await connection.execute("SELECT pg_sleep(60)")


async def test_leaving_the_connection_s_block_closes_it_even_when_cancelled(postgres_conninfo: str) -> None:
    """
    `async with connection` never leaves the socket open.
    """
    connection = await TrioConnection.connect(postgres_conninfo)
    with trio.CancelScope() as scope:
        async with connection:
            await connection.execute("SELECT 1")  # there is something to commit
            scope.cancel()
    assert scope.cancelled_caught
    assert connection.closed
