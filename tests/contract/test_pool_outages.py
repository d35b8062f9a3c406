"""The pool says when the database is away, at once, and works again by itself when it is back."""

import psycopg
import pytest
import trio
from psycopg import errors

from engine.errors import StoreUnavailableError
from engine.store.pool import Pool
from engine.store.store import Store
from engine.store.trio_psycopg import TrioConnection
from tests.contract.pool_helpers import fill, open_pool, pid_of, terminate
from tests.contract.relay import Relay
from tests.contract.trio_psycopg_helpers import value_of
from tests.patience import patience

# A message of the server as it goes over the wire, with all the fields libpq asks for.
_FAREWELL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
_NOTICE = b"SNOTICE\0VNOTICE\0C00000\0Mdo not mind me\0\0"
_CROWDED = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0"
_STARTING = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"


async def test_a_connection_closed_while_idle_costs_nobody_an_error(
    pool: Pool, observer: TrioConnection
) -> None:
    """
    The server ended all idle sessions: the next caller notices nothing.
    """
    await terminate(observer, *await fill(pool, 3))
    await pid_of(pool)
    statistics = pool.statistics()
    assert (statistics.idle, statistics.connects_total, statistics.failures_total) == (1, 4, 1)


async def test_a_farewell_is_understood_before_the_socket_is_closed(relay: Relay) -> None:
    """
    Between the server's FATAL message and the end of its socket the connection is already useless.
    """
    async with open_pool(relay.conninfo, 1) as pool:
        async with pool.connection() as connection:
            pass
        await relay.say(b"E", _FAREWELL)
        await trio.lowlevel.wait_readable(connection.fileno())
        await pid_of(pool)
        assert connection.closed
        assert pool.statistics().connects_total == 2


async def test_a_notice_to_an_idle_connection_does_not_cost_the_connection(relay: Relay) -> None:
    """
    Readable while idle is not the same as closed.
    """
    async with open_pool(relay.conninfo, 1) as pool:
        async with pool.connection() as connection:
            pass
        await relay.say(b"N", _NOTICE)
        await trio.lowlevel.wait_readable(connection.fileno())
        async with pool.connection() as again:
            assert again is connection
            assert await value_of(again, "SELECT 1") == 1


async def test_a_connection_lost_in_use_says_that_the_database_is_away(
    pool: Pool, observer: TrioConnection
) -> None:
    """
    The caller gets one error of ours with psycopg's as its cause; idle connections are not trusted any more.
    """
    pids = await fill(pool, 2)
    with pytest.raises(StoreUnavailableError, match="is away") as caught:
        async with pool.connection() as connection:
            await terminate(observer, connection.info.backend_pid)
            await connection.execute("SELECT 1")
    assert isinstance(caught.value.__cause__, errors.AdminShutdown)
    statistics = pool.statistics()
    assert (statistics.idle, statistics.in_use, statistics.failures_total) == (0, 0, 1)
    assert statistics.last_error is not None
    assert "terminating connection" in statistics.last_error
    assert await pid_of(pool) not in pids


async def test_a_pool_works_again_by_itself_when_the_database_is_back(
    relay: Relay, nursery: trio.Nursery
) -> None:
    """
    Away is away for everybody, at once; back is back, with nothing to be done.
    """
    async with open_pool(relay.conninfo, 2) as pool:
        with pytest.raises(StoreUnavailableError) as lost:
            async with pool.connection() as connection:
                relay.cut()
                await connection.execute("SELECT pg_sleep(60)")
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1") as refused:
            await pid_of(pool)
        for error in (lost, refused):
            assert isinstance(error.value.__cause__, psycopg.OperationalError)
        await nursery.start(relay.run)
        await pid_of(pool)
        assert pool.statistics().failures_total == 2


async def test_a_statement_on_a_connection_that_is_gone_says_that_the_database_is_away(pool: Pool) -> None:
    """
    A caller who went on after its connection was given up learns the same.
    """
    with pytest.raises(StoreUnavailableError):
        async with pool.connection() as connection:
            connection.abandon()
            await connection.execute("SELECT 1")


@pytest.mark.parametrize("answer", [_STARTING, _CROWDED])
async def test_a_server_that_takes_no_connection_is_away(answer: bytes, nursery: trio.Nursery) -> None:
    """
    Starting up, or too many connections: away, in the server's own words, and the slot is free again.
    """

    async def refuse(client: trio.SocketStream) -> None:
        async with client:
            await client.receive_some()
            await client.send_all(b"E" + (len(answer) + 4).to_bytes(4, "big") + answer)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, refuse, listeners)
    port = listeners[0].socket.getsockname()[1]
    conninfo = f"host=127.0.0.1 port={port} dbname=greenroom sslmode=disable gssencmode=disable"
    async with open_pool(conninfo, 1) as pool:
        with patience(), pytest.raises(StoreUnavailableError, match=r"starting up|too many clients"):
            await pid_of(pool)
        assert pool.statistics().in_use == 0


async def test_a_transaction_whose_node_is_frozen_is_ended_by_the_server(store: Store) -> None:
    """
    What foreign code has open holds up the log for everybody; who thaws is told that its transaction is lost.
    """
    for pool in (store.handler_pool, store.background):
        async with pool.connection() as connection:
            assert await value_of(connection, "show idle_in_transaction_session_timeout") == "1min"
    with pytest.raises(StoreUnavailableError):
        async with store.handler_pool.connection() as connection:
            await connection.execute("begin; set local idle_in_transaction_session_timeout = 50")
            with patience():
                await trio.lowlevel.wait_readable(connection.fileno())  # the server's farewell
            await connection.execute("select 1")
