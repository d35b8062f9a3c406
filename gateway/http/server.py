"""The node's port: listening, accepting, containing each connection, stopping in time. Knows no episodes."""

import errno
import logging
import os
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError, parse_socket_addr

from engine.error_groups import first
from engine.errors import StartupError
from gateway.http.connection import Connection, open_connection
from gateway.http.door import Door
from gateway.http.readers import Readers
from gateway.http.serving import ServerLimits, Serving
from gateway.http.traffic import Traffic

__all__ = ["ServerLimits", "listen", "serve"]

log = structlog.get_logger()

# Seconds between two looks at the deadlines of all connections: none pays for a timer of its own.
TICK = 0.25
# Connections looked at in one turn of the loop.
LOOKS = 500
# Connections accepted in one turn of the loop.
ACCEPTS = 4
# At a shutdown, connections looked at in one turn: those aborted all wake in the next.
ABORTS = 64
# Between two tries to accept while the process has no file descriptor left.
ACCEPT_PAUSE = 0.1
# Of the shutdown's grace, what connections may use; the rest is for the application's own shutdown.
CONNECTIONS_SHARE = 0.9


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """
    Open a listening socket on every address of `host`; port 0 means any free one, the same on all.

    Raises:
        StartupError: no such host, or none of its addresses can be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartupError(f"no such host: {host!r} ({error.strerror}); try 127.0.0.1 or ::") from None
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    with ExitStack() as opened:
        for family, kind, proto, _, address in found:
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sock = opened.enter_context(socket.socket(family, kind, proto))
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    # Else :: would take 0.0.0.0's port too, and the second bind would fail.
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address[0], chosen, *address[2:]))
                sock.listen(backlog)
            except OSError as error:
                # localhost is ::1 too, also on a machine without IPv6.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise _cannot_listen(host, chosen, error) from error
                missing = error
            else:
                sockets.append(sock)
        if not sockets:
            assert missing is not None
            raise _cannot_listen(host, port, missing) from missing
        opened.pop_all()
    return sockets


async def serve(
    app: ASGIFramework,
    sockets: Sequence[socket.socket],
    limits: ServerLimits,
    *,
    shutdown: trio.Event,
    farewell: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    tls: ssl.SSLContext | None = None,
    traffic: Traffic | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve an ASGI 3 application on listening sockets, and close them, until `shutdown` is set.

    Then nobody is let in any more, and `farewell` is awaited, in which the application sends its clients
    away. Requests in flight may finish; what is left after the grace is closed forcefully.

    Raises:
        StartupError: the application refused to start.
    """
    wrapped = ASGIWrapper(app)
    config = _config(limits)
    state: LifespanState = {}
    lifespan = Lifespan(wrapped, config, state)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            ends = await _serve_connections(
                app,
                config,
                sockets,
                limits,
                state,
                shutdown,
                farewell,
                tls,
                traffic or Traffic(),
                task_status,
            )
            with trio.move_on_at(ends):
                await lifespan.wait_for_shutdown()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        refused, other = group.split((LifespanFailureError, LifespanTimeoutError))
        if refused is None or other is not None:
            raise
        if not shutdown.is_set():
            raise StartupError(f"the application did not start: {first(refused)}") from group
        log.error("the application did not stop cleanly", error=str(first(refused)))
    finally:
        for listener in sockets:
            listener.close()


async def _serve_connections(
    app: ASGIFramework,
    config: Config,
    sockets: Sequence[socket.socket],
    limits: ServerLimits,
    state: LifespanState,
    shutdown: trio.Event,
    farewell: Callable[[], Awaitable[None]],
    tls: ssl.SSLContext | None,
    traffic: Traffic,
    task_status: trio.TaskStatus[None],
) -> float:
    """
    Serve until all have gone or the grace for connections is over; when the whole grace will be over.
    """
    connections: set[Connection] = set()
    with closing(Readers()) as readers:
        async with trio.open_nursery() as watching:
            door = traffic.door = Door(limits)
            watching.start_soon(door.keep)
            watching.start_soon(readers.keep)
            watching.start_soon(_watch_deadlines, connections)
            async with trio.open_nursery() as nursery:
                serving = Serving(
                    app=app,
                    limits=limits,
                    state=ConnectionState(state),
                    door=door,
                    readers=readers,
                    nursery=nursery,
                    tls=tls,
                    config=config,
                    context=WorkerContext(None),
                    traffic=traffic,
                )
                async with trio.open_nursery() as accepting:
                    for listener in sockets:
                        accepting.start_soon(_accept, serving, listener, connections)
                    task_status.started()
                    await shutdown.wait()
                    accepting.cancel_scope.cancel()
                for listener in sockets:
                    listener.close()
                now = trio.current_time()
                nursery.cancel_scope.deadline = now + CONNECTIONS_SHARE * limits.shutdown_grace
                serving.is_draining = True
                await serving.context.terminated.set()
                for number, connection in enumerate(list(connections), 1):
                    if connection.is_idle:
                        connection.abort()
                    if number % ABORTS == 0:
                        await trio.lowlevel.checkpoint()
                # Nobody begins any more: whoever is to be sent away is there.
                await farewell()
            watching.cancel_scope.cancel()
    return now + limits.shutdown_grace


async def _accept(serving: Serving, listener: socket.socket, connections: set[Connection]) -> None:
    exhausted = False
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            # Quickly, because the kernel's queue has a request behind a crowd of WebSockets; few, because
            # others have their turn, too.
            for _ in range(ACCEPTS):
                sock, address = listener.accept()
                connection = open_connection(serving, sock, parse_socket_addr(sock.family, address))
                # Now, not in its task: a shutdown before that starts must find it.
                connections.add(connection)
                serving.traffic.connections = len(connections)
                serving.nursery.start_soon(
                    _contain, connection, connections, serving.traffic, name="connection"
                )
                exhausted = False
        except (BlockingIOError, ConnectionError):
            pass  # nobody is left in the queue, or who was has left it
        except OSError as error:
            if not exhausted:
                log.warning("cannot accept connections", error=str(error))
            exhausted = True
            await trio.sleep(ACCEPT_PAUSE)


async def _contain(connection: Connection, connections: set[Connection], traffic: Traffic) -> None:
    try:
        await connection.run()
    except* Exception as group:
        _log_failure(connection, group)
    finally:
        connections.discard(connection)
        traffic.connections = len(connections)


async def _watch_deadlines(connections: set[Connection]) -> None:
    while True:
        await trio.sleep(TICK)
        now = trio.current_time()
        for number, connection in enumerate(list(connections), 1):
            # It may have ended while others were looked at.
            if connection in connections:
                connection.wake_late(now)
            if number % LOOKS == 0:
                await trio.lowlevel.checkpoint()


def _config(limits: ServerLimits) -> Config:
    config = Config()
    # A logger of ours: for a name, Hypercorn would put its own handler on it.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.max_header
    config.h2_max_header_list_size = limits.max_header
    config.websocket_max_message_size = limits.max_message
    config.startup_timeout = config.shutdown_timeout = limits.shutdown_grace
    return config


def _cannot_listen(host: str, port: int, error: OSError) -> StartupError:
    where = f"port {port} on {host}"
    if error.errno == errno.EADDRINUSE:
        return StartupError(f"{where} is in use: stop who uses it, or choose another port")
    if error.errno == errno.EACCES:
        return StartupError(f"cannot bind {where}: not permitted; ports below 1024 are the administrator's")
    return StartupError(f"cannot bind {where}: {os.strerror(error.errno or 0)}")


def _log_failure(connection: Connection, group: BaseExceptionGroup[Exception]) -> None:
    # One line: whoever can bring this about must not be able to fill the disk with tracebacks.
    error = first(group)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    at = f"{Path(frame.filename).name}:{frame.lineno}"
    log.warning("connection failed", client=connection.client, error=repr(error), at=at)
