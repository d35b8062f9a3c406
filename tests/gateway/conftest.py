"""A server on a real port, clients on raw sockets, and what was logged meanwhile."""

import itertools
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import attrs
import psycopg
import psycopg.conninfo
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from engine.store.migrate import migrate
from gateway.server import ServerLimits, listen, serve
from tests.gateway.node_fixture import RunningNode, start_node

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
# How long any test waits for something that should happen at once.
SOON = 5
_numbers = itertools.count(1)


@attrs.define(eq=False)
class RawClient:
    """
    A client that may send any bytes at any time, and reads only when told to.
    """

    stream: trio.abc.Stream
    buffer: bytearray = attrs.field(factory=bytearray)

    async def send(self, data: bytes) -> None:
        with trio.fail_after(SOON):
            await self.stream.send_all(data)

    @staticmethod
    def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, mask: bool = True) -> bytes:
        """
        Frame as a client; the mask is zero, so the payload stays legible.
        """
        size, bit = len(payload), 0x80 if mask else 0
        head = struct.pack("!BB", (0x80 if fin else 0) | opcode, bit | (size if size < 126 else 126))
        if size >= 126:
            assert size < 65536
            head += struct.pack("!H", size)
        return head + (bytes(4) if mask else b"") + payload

    async def receive(self, size: int) -> bytes:
        with trio.fail_after(SOON):
            while len(self.buffer) < size:
                data = await self.stream.receive_some()
                assert data, f"closed after {bytes(self.buffer)!r}"
                self.buffer += data
        return self._take(size)

    async def receive_head(self) -> bytes:
        with trio.fail_after(SOON):
            while (end := self.buffer.find(b"\r\n\r\n")) < 0:
                data = await self.stream.receive_some()
                assert data, f"closed after {bytes(self.buffer)!r}"
                self.buffer += data
        return self._take(end + 4)

    async def receive_response(self) -> tuple[int, bytes]:
        head = await self.receive_head()
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await self.receive(int(lengths[0].split(b":")[1])) if lengths else b""
        return int(head.split()[1]), body

    async def receive_frame(self) -> tuple[int, bytes]:
        """
        Return one frame's opcode and payload.
        """
        first, size = await self.receive(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.receive(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.receive(8))
        return first & 0x0F, await self.receive(size)

    async def receive_close(self) -> int:
        """
        Skip what comes before the close frame and return its code; the server must close right after.
        """
        while True:
            opcode, payload = await self.receive_frame()
            if opcode == 8:
                assert await self.receive_rest() == b""
                return int.from_bytes(payload[:2], "big")

    async def receive_rest(self) -> bytes:
        """
        Read until the server closes, in good order or by a reset.
        """
        with trio.fail_after(SOON):
            try:
                while data := await self.stream.receive_some():
                    self.buffer += data
            except trio.BrokenResourceError:
                pass
        return self._take(len(self.buffer))

    async def upgrade(self, path: str, *, more: str = "", then: bytes = b"") -> bytes:
        """
        Open a WebSocket; `then` goes out in the same segment. Returns the head of the answer.
        """
        await self.send(HANDSHAKE.format(path=path, more=more).encode() + then)
        return await self.receive_head()

    async def get(self, path: str = "/") -> tuple[int, bytes]:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return await self.receive_response()

    def reset(self) -> None:
        """
        Vanish: the server's next read or write fails.
        """
        sock = self.stream.socket  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data


@attrs.define(eq=False, kw_only=True)
class Served:
    """
    A running `serve()`, and a bystander whose WebSocket must survive whatever the others do.
    """

    port: int
    shutdown: trio.Event
    ended: trio.Event
    tls: Any = None
    bystander: RawClient | None = None
    tasks: int = 0

    async def connect(self, *, receive_buffer: int | None = None) -> RawClient:
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with trio.fail_after(SOON):
            await sock.connect(("127.0.0.1", self.port))
        return RawClient(trio.SocketStream(sock))

    async def wait_all_ended(self) -> None:
        """
        Wait until the server keeps no task for anybody but the bystander.
        """
        with trio.fail_after(SOON):
            while trio.lowlevel.current_statistics().tasks_living > self.tasks:  # noqa: ASYNC110 (no event)
                await trio.sleep(0.005)

    async def assert_unharmed(self) -> None:
        assert self.bystander is not None
        await self.bystander.send(self.bystander.frame(b"still here?"))
        assert await self.bystander.receive_frame() == (1, b"still here?")
        newcomer = await self.connect()
        assert await newcomer.get() == (200, b"hello")
        await newcomer.stream.aclose()
        assert not self.ended.is_set()


@attrs.define(eq=False)
class Logs:
    """
    Everything logged during a test, through structlog and through the standard library.
    """

    entries: list[Any]
    caplog: pytest.LogCaptureFixture

    def tracebacks(self) -> list[Any]:
        return [entry for entry in self.entries if entry.get("exc_info")] + [
            record for record in self.caplog.records if record.exc_info or record.levelno >= logging.ERROR
        ]

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.entries]


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[Logs]:
    with capture_logs() as entries:
        yield Logs(entries, caplog)


@pytest.fixture(scope="session")
def migrated_template(postgres_conninfo: str) -> str:
    """
    A database with the schema and nothing else, to be copied: that is faster than to migrate.
    """
    name = "gateway_template"
    with psycopg.connect(postgres_conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    migrate(psycopg.conninfo.make_conninfo(postgres_conninfo, dbname=name))
    return name


@pytest.fixture
def migrated_database(postgres_conninfo: str, migrated_template: str) -> Iterator[str]:
    """
    A migrated database of the test's own.
    """
    name = f"gateway_{next(_numbers)}"
    with psycopg.connect(postgres_conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
        yield psycopg.conninfo.make_conninfo(postgres_conninfo, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def start_greenroom(
    nursery: trio.Nursery, migrated_database: str, logs: Logs
) -> AsyncIterator[Callable[..., Awaitable[RunningNode]]]:
    """
    Start a whole node: `await start_greenroom({"limits.message_burst": 2}, plugins={"name": plugin})`.

    Whatever its clients do to it, it must end in good order and log no traceback.
    """
    started: list[RunningNode] = []

    async def start(
        options: Mapping[str, object] | None = None, *, plugins: Mapping[str, object] | None = None
    ) -> RunningNode:
        started.append(await start_node(migrated_database, nursery, plugins or {}, options or {}))
        return started[-1]

    yield start
    for running in started:
        for frontend in running.frontends:
            await frontend.vanish()
        if not running.ended.is_set():
            await running.stop()
    if not any(running.may_log_tracebacks for running in started):
        assert logs.tracebacks() == []


@pytest.fixture
async def greenroom(start_greenroom: Callable[..., Awaitable[RunningNode]]) -> RunningNode:
    """
    A whole node with ordinary settings.
    """
    return await start_greenroom()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """
    The smallest application: "hello" over HTTP, an echo over WebSocket.
    """
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})
    elif scope["type"] == "http":
        await respond(send, 200, b"hello")


async def respond(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """
    Start a server: `await start({"/path": application}, header_timeout=0.1)`; other paths go to `echo`.
    """

    async def start(routes: dict[str, Any] | None = None, *, tls: Any = None, **limits: float) -> Served:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                assert (await receive())["type"] == "lifespan.startup"
                await send({"type": "lifespan.startup.complete"})
                assert (await receive())["type"] == "lifespan.shutdown"
                await send({"type": "lifespan.shutdown.complete"})
            else:
                await (routes or {}).get(scope["path"], echo)(scope, receive, send)

        async def run(task_status: Any) -> None:
            await serve(
                app, sockets, generous_limits(**limits), shutdown=shutdown, tls=tls, task_status=task_status
            )
            ended.set()

        shutdown, ended = trio.Event(), trio.Event()
        sockets = listen("127.0.0.1", 0, 128)
        served = Served(port=sockets[0].getsockname()[1], shutdown=shutdown, ended=ended)
        await nursery.start(run)
        if tls is None:
            served.bystander = await served.connect()
            assert b" 101 " in await served.bystander.upgrade("/bystander")
        await trio.testing.wait_all_tasks_blocked()
        served.tasks = trio.lowlevel.current_statistics().tasks_living
        return served

    yield start


@pytest.fixture
def make_limits() -> Callable[..., ServerLimits]:
    return generous_limits


def generous_limits(**limits: float) -> ServerLimits:
    """
    Limits that no test meets by accident.
    """
    defaults: dict[str, Any] = {
        "header_timeout": 60,
        "body_timeout": 60,
        "keep_alive": 60,
        "write_timeout": 60,
        "shutdown_grace": 60,
        "max_header": 16384,
        "max_body": 16_777_216,
        "max_message": 65536,
        "backlog": 128,
        "outlet_backlog": 262144,
        "outlet_deadline": 60,
        "ping_interval": 60,
        "ping_timeout": 60,
    }
    return ServerLimits(**{**defaults, **limits})
