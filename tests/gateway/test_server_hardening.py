"""The server as a whole: crowds, defects, no file descriptors, shutdown."""

import resource

import pytest
import trio
import trio.testing

from engine.errors import StartupError
from gateway.http import secure, wire
from gateway.http.http1 import Http1
from gateway.http.server import listen, serve
from tests.gateway.applications import accept, respond
from tests.patience import PATIENCE, patience


async def test_many_connections_that_do_nothing_leave_room_for_others(start, logs):
    """
    Two hundred silent clients, some amid a header, some amid a handshake.
    """
    served = await start()
    clients = [await served.connect() for _ in range(200)]
    for client, sent in zip(
        clients, [b"", b"GET / HTTP/1.1\r\n", b"GET /echo HTTP/1.1\r\nUpgrade: webs"] * 66, strict=False
    ):
        await client.send(sent)
    await served.assert_unharmed()
    for client in clients:
        client.reset()
    await served.wait_all_ended()
    assert logs.tracebacks() == []


async def test_a_defect_in_the_protocol_ends_one_connection_with_one_line(start, logs, monkeypatch):
    """
    Whatever a connection raises stays in it; the line says who and where, without a traceback.
    """
    original = Http1._feed

    def feed(self, data):
        if b"trigger" in data:
            raise RuntimeError("defect")
        return original(self, data)

    monkeypatch.setattr(Http1, "_feed", feed)
    served = await start()
    client = await served.connect()
    await client.send(b"GET /trigger HTTP/1.1\r\n")
    assert await client.receive_rest() == b""
    await served.wait_all_ended()
    assert logs.events() == ["connection failed"]
    assert logs.entries[0]["error"] == "RuntimeError('defect')"
    assert logs.entries[0]["at"].startswith("test_server_hardening.py:")
    assert logs.tracebacks() == []
    await served.assert_unharmed()


async def test_without_file_descriptors_the_server_waits_and_then_accepts(start, logs):
    """
    EMFILE is told once, in one line, and the client in the queue is served when there is room.
    """
    served = await start()
    sock = trio.socket.socket()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        await sock.connect(("127.0.0.1", served.port))
        with patience():
            while not logs.entries:  # noqa: ASYNC110 (a log line wakes nobody)
                await trio.sleep(0.01)
        await trio.sleep(0.25)
        assert logs.events() == ["cannot accept connections"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    stream = trio.SocketStream(sock)
    with patience():
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    await stream.aclose()
    await served.assert_unharmed()


async def test_responses_carry_a_date_and_do_not_name_the_server(start):
    """
    What software answers is nobody's business.
    """
    served = await start()
    client = await served.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    head = (await client.receive_head()).lower()
    assert b"\r\ndate: " in head
    assert b"\r\nserver:" not in head


async def test_shutdown_lets_a_request_finish_and_closes_idle_connections_at_once(start, logs):
    """
    Nobody waits for a connection that does nothing, and no answer is cut off.
    """
    release = trio.Event()

    async def slow(scope, receive, send):
        await release.wait()
        await respond(send, 200, b"done")

    served = await start({"/slow": slow})
    idle, busy, half = await served.connect(), await served.connect(), await served.connect()
    assert await idle.get() == (200, b"hello")
    await half.send(b"GET / HT")
    await busy.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
    await served.bystander.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    served.shutdown.set()
    assert await idle.receive_rest() == b""
    assert await half.receive_rest() == b""
    assert not served.ended.is_set()
    with pytest.raises(OSError):
        await served.connect()
    release.set()
    head = await busy.receive_head()
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await busy.receive_rest() == b"done"
    await busy.stream.aclose()
    with patience():
        await served.ended.wait()
    assert logs.entries == [] and logs.tracebacks() == []


async def test_shutdown_gives_the_application_time_to_close_its_websockets(start):
    """
    A close frame that the application sends during the grace arrives.
    """
    told = trio.Event()

    async def polite(scope, receive, send):
        await accept(receive, send)
        await told.wait()
        await send({"type": "websocket.close", "code": 1001})

    served = await start({"/polite": polite})
    client = await served.connect()
    await client.upgrade("/polite")
    await served.bystander.stream.aclose()
    served.shutdown.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not served.ended.is_set()
    told.set()
    assert await client.receive_close() == 1001
    await client.stream.aclose()
    with patience():
        await served.ended.wait()


async def test_the_grace_ends_for_everybody_however_they_stall(start, logs, monkeypatch):
    """
    A reader that stalls amid a response, one amid events, a request and a WebSocket without end: `serve()`
    returns after the grace, without hearing anybody out, and who still listens is told 1001.
    """
    outlets = []

    async def big(scope, receive, send):
        await respond(send, 200, bytes(20_000_000))

    async def endless(scope, receive, send):
        await trio.sleep_forever()

    async def watch(scope, receive, send):
        await accept(receive, send)
        outlets.append(scope["extensions"]["greenroom.outlet"])
        await trio.sleep_forever()

    served = await start({"/big": big, "/endless": endless, "/watch": watch}, shutdown_grace=0.5)
    for path in "/big", "/endless":
        stalled = await served.connect(receive_buffer=4096)
        await stalled.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    viewer = await served.connect(receive_buffer=4096)
    await viewer.upgrade("/watch")
    await trio.testing.wait_all_tasks_blocked()
    while not outlets[0].pending:
        outlets[0].push(b"\x82\x7e\x03\xe8" + bytes(1000))
    # Nobody whom it hears out would be done before our patience is.
    for module in (wire, secure):
        monkeypatch.setattr(module, "LINGER", 3 * PATIENCE)
    served.shutdown.set()
    assert await served.bystander.receive_close() == 1001
    with patience():
        await served.ended.wait()
    assert logs.tracebacks() == []


async def test_an_application_that_refuses_to_start_is_a_startup_error(make_limits):
    """
    The node says why, and nothing listens any more.
    """

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    sockets = listen("127.0.0.1", 0, 1)
    with pytest.raises(StartupError, match="no database"), patience():
        await serve(app, sockets, make_limits(), shutdown=trio.Event())
    assert sockets[0].fileno() == -1
