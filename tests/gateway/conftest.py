"""A server on a real port, clients on raw sockets, and what was logged meanwhile."""

import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from gateway.http.server import ServerLimits, serve
from gateway.http.traffic import Traffic
from tests.gateway.node_fixture import RunningNode, listen_here, start_node
from tests.gateway.raw_client import RawClient
from tests.patience import patience


@attrs.define(eq=False, kw_only=True)
class Served:
    """
    A running `serve()`, and a bystander whose WebSocket must survive whatever the others do.
    """

    port: int
    shutdown: trio.Event
    ended: trio.Event
    # In force: a test may change them for what comes next, as a reload does.
    limits: ServerLimits
    tls: ssl.SSLContext | None = None
    bystander: RawClient | None = None
    tasks: int = 0
    traffic: Traffic = attrs.field(factory=Traffic)

    async def connect(self, *, receive_buffer: int | None = None) -> RawClient:
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with patience():
            await sock.connect(("127.0.0.1", self.port))
        stream: trio.abc.Stream = trio.SocketStream(sock)
        if self.tls is not None:
            stream = trio.SSLStream(
                trio.SocketStream(sock), self.tls, server_hostname="localhost", https_compatible=True
            )
        return RawClient(stream)

    async def wait_all_ended(self) -> None:
        """
        Wait until the server keeps no task for anybody but the bystander.
        """
        with patience():
            while trio.lowlevel.current_statistics().tasks_living > self.tasks:  # noqa: ASYNC110 (no event)
                await trio.sleep(0.005)

    async def assert_unharmed(self) -> None:
        # The newcomer may take its time.
        self.limits.header_timeout = self.limits.keep_alive = 60
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


@pytest.fixture
def put_clock_forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """
    Let tokens be older by so many seconds: `put_clock_forward(700)`. Trio's clock, and its deadlines, stay.

    A token that really lasts for a second or two may have ended, on a machine that pauses, before it is used.
    """
    real, ahead = time.time, 0.0

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    return forward


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

    async def start(
        routes: dict[str, Any] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        **limits: float,
    ) -> Served:
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
                app,
                sockets,
                served.limits,
                shutdown=shutdown,
                tls=tls,
                traffic=served.traffic,
                task_status=task_status,
            )
            ended.set()

        shutdown, ended = trio.Event(), trio.Event()
        sockets = listen_here()
        served = Served(
            port=sockets[0].getsockname()[1],
            shutdown=shutdown,
            ended=ended,
            limits=generous_limits(**limits),
            tls=client_tls,
        )
        # Not for the bystander: it is there before they are in force.
        hasty = {name: limits[name] for name in ("header_timeout", "keep_alive") if name in limits}
        served.limits.header_timeout = served.limits.keep_alive = 60
        await nursery.start(run)
        if tls is None or client_tls is not None:
            served.bystander = await served.connect()
            assert b" 101 " in await served.bystander.upgrade("/bystander")
        for name, value in hasty.items():
            setattr(served.limits, name, value)
        await trio.testing.wait_all_tasks_blocked()
        served.tasks = trio.lowlevel.current_statistics().tasks_living
        return served

    yield start


@pytest.fixture(params=["plain", "TLS"])
def start_either(
    request: pytest.FixtureRequest, start: Callable[..., Awaitable[Served]], certificate: Path
) -> Callable[..., Awaitable[Served]]:
    """
    Start a server as `start` does, once with our own HTTP/1.1 and once with Hypercorn's over TLS.
    """
    if request.param == "plain":
        return start
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    return partial(start, tls=server_tls, client_tls=ssl.create_default_context(cafile=str(certificate)))


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
        "handshake_queue": 1000,
        "handshake_timeout": 60,
        "retry_after": 2,
    }
    return ServerLimits(**{**defaults, **limits})


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A PEM file with a certificate for localhost that signs itself, and its key.
    """
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(new_certificate())
    return path


def new_certificate() -> bytes:
    """
    What such a file has, made anew.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
