"""What one client can do to the server: end itself, as documented, and nothing else."""

import resource
import socket
import ssl
from datetime import UTC, datetime, timedelta

import h2.connection
import h2.events
import pytest
import trio
import trio.testing

from engine.errors import StartupError
from gateway.connection import LINGER, Http1
from gateway.server import listen, serve

SOON = 5


async def accept(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})


async def respond(send, status, body):
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse_unread(scope, receive, send):
    await respond(send, 413, b"too large")


# Handshake and WebSocket


async def test_a_frame_that_comes_with_the_handshake_waits_for_its_answer(start, logs):
    """
    A client that does not wait for the 101 is served all the same; Hypercorn alone crashes.
    """
    served = await start()
    client = await served.connect()
    head = await client.upgrade("/echo", then=client.frame(b"early") + client.frame(b"second"))
    assert head.startswith(b"HTTP/1.1 101 ")
    assert await client.receive_frame() == (1, b"early")
    assert await client.receive_frame() == (1, b"second")
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_frame_that_comes_with_a_refused_handshake_is_dropped(start, logs):
    """
    The refusal arrives, once, and the connection ends.
    """

    async def refuse(scope, receive, send):
        await receive()
        await send({"type": "websocket.close"})

    served = await start({"/refuse": refuse})
    client = await served.connect()
    head = await client.upgrade("/refuse", then=client.frame(b"early"))
    assert head.startswith(b"HTTP/1.1 403 ")
    assert await client.receive_rest() == b""
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_handshake_without_a_version_is_answered_and_closed(start, logs):
    """
    400, then the end: Hypercorn alone keeps such a connection for ever.
    """
    served = await start()
    client = await served.connect()
    await client.send(
        b"GET /echo HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    assert await client.receive_response() == (400, b"")
    assert await client.receive_rest() == b""
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_compression_is_not_negotiated(start):
    """
    An offer of permessage-deflate is left unanswered, and frames stay as they are.
    """
    served = await start()
    client = await served.connect()
    head = await client.upgrade("/echo", more="Sec-WebSocket-Extensions: permessage-deflate\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in head.lower()
    await client.send(client.frame(b"plain"))
    assert await client.receive_frame() == (1, b"plain")


@pytest.mark.parametrize("loop", ["send", "receive"])
async def test_a_loop_that_ignores_the_disconnect_lets_others_run(start, loop):
    """
    A `send` or `receive` after the client went is a checkpoint, so the loop cannot freeze the node.
    """
    turns, looping, released, ended = 0, trio.Event(), trio.Event(), trio.Event()

    async def careless(scope, receive, send):
        nonlocal turns
        await accept(receive, send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        looping.set()
        # A frozen loop would never end: give up after more turns than a fair one needs.
        while not released.is_set() and turns < 100_000:
            await (send({"type": "websocket.send", "text": "x"}) if loop == "send" else receive())
            turns += 1
        ended.set()

    async def release(scope, receive, send):
        released.set()
        await respond(send, 200, b"")

    served = await start({"/careless": careless, "/release": release})
    client = await served.connect()
    await client.upgrade("/careless")
    other = await served.connect()
    client.reset()
    with trio.fail_after(SOON):
        await looping.wait()
        await other.get("/release")
        await ended.wait()
    assert turns < 100_000
    await served.assert_unharmed()


async def test_a_crash_of_the_websocket_application_closes_with_1011(start, logs):
    """
    The client knows that it was a bug; the log has the traceback; nobody else notices.
    """

    async def buggy(scope, receive, send):
        await accept(receive, send)
        raise RuntimeError("a bug")

    served = await start({"/buggy": buggy})
    client = await served.connect()
    await client.upgrade("/buggy")
    assert await client.receive_close() == 1011
    assert [entry["exc_info"].args for entry in logs.tracebacks()] == [("a bug",)]
    await served.wait_all_ended()
    await served.assert_unharmed()


async def test_the_application_chooses_its_close_code(start):
    """
    Close codes are public API: what the application sends is what arrives, last.
    """

    async def expel(scope, receive, send):
        await accept(receive, send)
        outlet = scope["extensions"]["greenroom.outlet"]
        assert outlet.push(b"\x81\x05first")
        await send({"type": "websocket.close", "code": 4401, "reason": "not authenticated"})
        assert not outlet.push(b"\x81\x04late")

    served = await start({"/expel": expel})
    client = await served.connect()
    await client.upgrade("/expel")
    assert await client.receive_frame() == (1, b"first")
    assert await client.receive_close() == 4401
    await served.wait_all_ended()


async def test_after_its_close_frame_the_application_hears_of_the_disconnect_only(start):
    """
    What the client sent before it saw the close is dropped, not queued for nobody.
    """
    received = []

    async def expel(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 4409})
        received.append(await receive())

    served = await start({"/expel": expel})
    client = await served.connect()
    await client.upgrade("/expel")
    assert await client.receive_frame() == (8, (4409).to_bytes(2, "big"))
    await client.send(client.frame(b"late"))
    await trio.testing.wait_all_tasks_blocked()
    assert received == []
    await client.stream.aclose()
    await served.wait_all_ended()
    assert received == [{"type": "websocket.disconnect", "code": 1000}]


async def test_nothing_is_pushed_behind_a_close_frame_that_waits_its_turn(start):
    """
    A close frame queued behind a backlog is the last frame all the same.
    """
    outlets, leave = [], trio.Event()

    async def watch(scope, receive, send):
        await accept(receive, send)
        outlets.append(scope["extensions"]["greenroom.outlet"])
        await leave.wait()
        await send({"type": "websocket.close", "code": 1001})

    served = await start({"/watch": watch})
    client = await served.connect(receive_buffer=4096)
    await client.upgrade("/watch")
    await trio.testing.wait_all_tasks_blocked()
    while not outlets[0].pending:
        assert outlets[0].push(b"\x82\x7e\x03\xe8" + bytes(1000))
    leave.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not outlets[0].push(b"\x81\x04late")
    assert outlets[0].pending > 0
    assert await client.receive_close() == 1001
    await client.stream.aclose()
    await served.wait_all_ended()


async def test_the_close_frame_arrives_though_the_client_is_still_sending(start, logs):
    """
    Bytes that nobody will read must not turn the close into a reset that overtakes its frame.
    """

    async def expel(scope, receive, send):
        await accept(receive, send)
        await receive()
        await send({"type": "websocket.close", "code": 4429})

    served = await start({"/expel": expel})
    client = await served.connect()
    await client.upgrade("/expel", then=client.frame(b"x" * 1000) * 200)
    for _ in range(20):
        await client.send(client.frame(b"x" * 1000) * 20)
    assert await client.receive_close() == 4429
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_flood_to_an_application_that_does_not_receive_leaves_nothing_behind(start, logs):
    """
    The reader waits for room in a full inbox; when the application returns, the connection ends.
    """
    flooded = trio.Event()

    async def deaf(scope, receive, send):
        await accept(receive, send)
        await flooded.wait()

    served = await start({"/deaf": deaf})
    client = await served.connect()
    await client.upgrade("/deaf")
    await client.send(client.frame(b"x") * 1000)
    await trio.testing.wait_all_tasks_blocked()
    flooded.set()
    assert await client.receive_close() == 1011
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


@pytest.mark.parametrize("fragments", [1, 40])
async def test_a_message_over_the_limit_closes_with_1009(start, logs, fragments):
    """
    The limit holds for the message, not the frame, and what follows it is not collected either.
    """
    codes = []

    async def note(scope, receive, send):
        await accept(receive, send)
        message = await receive()
        codes.append((message["type"], message["code"]))

    served = await start({"/note": note}, max_message=1000)
    client = await served.connect()
    await client.upgrade("/note")
    part = b"x" * (4000 // fragments)
    await client.send(client.frame(part, 2, fin=fragments == 1))
    for _ in range(fragments - 1):
        await client.send(client.frame(part, 0, fin=False))
    assert await client.receive_close() == 1009
    await client.stream.aclose()
    await served.wait_all_ended()
    assert codes == [("websocket.disconnect", 1006)]
    await served.assert_unharmed()
    assert logs.tracebacks() == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x81\x05naked",
        b"\xf1\x80\0\0\0\0",
        b"\x81\x82\0\0\0\0\xff\xff",
        b"\x89\xfe\x01\x00\0\0\0\0",
        b"\x83\x80",
    ],
    ids=["unmasked", "reserved bits", "not UTF-8", "long ping", "unknown opcode"],
)
async def test_what_is_not_a_websocket_frame_closes_with_1002(start, logs, garbage):
    """
    The client is told that it broke the protocol.
    """
    served = await start()
    client = await served.connect()
    await client.upgrade("/echo")
    await client.send(garbage)
    assert await client.receive_close() == 1002
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


@pytest.mark.parametrize("leave", ["close frame", "half-close", "reset"])
async def test_a_client_that_goes_is_told_to_the_application(start, logs, leave):
    """
    However it goes, `websocket.disconnect` comes and nothing of the connection stays.
    """
    last = []

    async def listen_on(scope, receive, send):
        await accept(receive, send)
        last.append((await receive())["type"])

    served = await start({"/listen": listen_on})
    client = await served.connect()
    await client.upgrade("/listen")
    if leave == "close frame":
        await client.send(client.frame((1000).to_bytes(2, "big"), 8))
        assert await client.receive_close() == 1000
        await client.stream.aclose()
    elif leave == "half-close":
        await client.stream.send_eof()
    else:
        client.reset()
    await served.wait_all_ended()
    assert last == ["websocket.disconnect"]
    await served.assert_unharmed()
    assert logs.tracebacks() == []


# HTTP


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /" + b"x" * 200_000, 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 200_000, 431),
    ],
    ids=["TLS hello", "two hosts", "no host", "negative length", "endless target", "endless header"],
)
async def test_what_is_no_request_is_refused_and_closed(start, logs, sent, status):
    """
    Garbage gets 400, a header over the limit 431; then the connection ends.
    """
    served = await start(max_header=8192)
    client = await served.connect()
    await client.send(sent)
    assert await client.receive_response() == (status, b"")
    assert await client.receive_rest() == b""
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_pipelined_requests_are_answered_in_turn_and_garbage_after_them_refused(start, logs):
    """
    What is good in a segment is served; the rest gets 400 and the end.
    """
    served = await start()
    client = await served.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 2 + b"\0garbage\r\n\r\n")
    assert await client.receive_response() == (200, b"hello")
    assert await client.receive_response() == (200, b"hello")
    assert await client.receive_response() == (400, b"")
    assert await client.receive_rest() == b""
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_client_that_vanishes_with_requests_queued_leaves_nothing_behind(start, logs):
    """
    The reader waits for the first answer before it looks at the second request: the end must wake it.
    """
    answering = trio.Event()

    async def late(scope, receive, send):
        await answering.wait()
        await respond(send, 200, b"x" * 1_000_000)

    served = await start({"/late": late})
    client = await served.connect()
    await client.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
    await trio.testing.wait_all_tasks_blocked()
    client.reset()
    answering.set()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_an_upgrade_to_http2_without_tls_is_ignored(start, logs):
    """
    The request is served as HTTP/1.1; its HTTP2-Settings are never looked at.
    """
    served = await start()
    client = await served.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nHTTP2-Settings: ???\r\n\r\n")
    assert await client.receive_response() == (200, b"hello")
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_header_that_trickles_is_cut_off_at_its_deadline(start, logs):
    """
    Slowloris: each byte comes in time, the header does not. Bytes do not move the deadline.
    """
    served = await start(header_timeout=0.2)
    client = await served.connect()
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(SOON):
        while True:
            await client.send(b"GET / HTTP/1.1\r\n" if not client.buffer else b"X: y\r\n")
            client.buffer += b"."
            await trio.sleep(0.02)
    assert 0.2 <= trio.current_time() - began < 1 + LINGER
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


@pytest.mark.parametrize("sent", [b"", b"G"], ids=["nothing", "one byte"])
async def test_a_client_that_never_asks_is_closed_at_the_header_deadline(start, logs, sent):
    """
    Half-open connections do not pile up.
    """
    served = await start(header_timeout=0.1)
    client = await served.connect()
    await client.send(sent)
    assert await client.receive_rest() == b""
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_an_idle_connection_is_kept_alive_for_its_time_and_no_longer(start, logs):
    """
    A second request on the same connection is served; then silence ends it, at `keep_alive`.
    """
    served = await start(keep_alive=0.2)
    client = await served.connect()
    assert await client.get() == (200, b"hello")
    assert await client.get() == (200, b"hello")
    began = trio.current_time()
    assert await client.receive_rest() == b""
    assert 0.15 <= trio.current_time() - began < 1
    await client.stream.aclose()
    await served.wait_all_ended()
    assert logs.tracebacks() == []


async def test_a_second_header_that_trickles_has_a_deadline_too(start):
    """
    A generous keep-alive does not lend its time to a header once begun.
    """
    served = await start(header_timeout=0.1, keep_alive=60)
    client = await served.connect()
    assert await client.get() == (200, b"hello")
    await client.send(b"G")
    assert await client.receive_rest() == b""


async def test_an_early_refusal_ends_a_body_that_trickles(start, logs):
    """
    The answer says `Connection: close`, and the connection closes although the body never ends.
    """
    served = await start({"/upload": refuse_unread})
    client = await served.connect()
    await client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nfirst")
    head = await client.receive_head()
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await client.receive(9) == b"too large"
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(LINGER + SOON):
        while True:
            await client.send(b"x")
            await trio.sleep(0.02)
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_an_early_refusal_reaches_a_client_that_sends_its_whole_body_first(start, logs):
    """
    Far more than the inbox holds is sent before the answer is read: it is there, whole, and nothing stays.
    """
    served = await start({"/upload": refuse_unread})
    client = await served.connect()
    await client.send(
        b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000)
    )
    assert await client.receive_response() == (413, b"too large")
    assert await client.receive_rest() == b""
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_body_nobody_reads_does_not_outlive_a_crash_of_the_application(start, logs):
    """
    500 arrives and the connection ends, though its inbox is full.
    """

    async def buggy(scope, receive, send):
        await trio.testing.wait_all_tasks_blocked()
        raise RuntimeError("a bug")

    served = await start({"/buggy": buggy})
    client = await served.connect()
    await client.send(
        b"POST /buggy HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n" + bytes(2_000_000)
    )
    assert await client.receive_response() == (500, b"")
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert len(logs.tracebacks()) == 1


async def test_a_reader_that_stalls_is_closed_at_the_write_deadline(start, logs):
    """
    A response that the client does not take does not occupy the server for ever.
    """

    async def big(scope, receive, send):
        await respond(send, 200, bytes(20_000_000))

    served = await start({"/big": big}, write_timeout=0.1)
    client = await served.connect(receive_buffer=4096)
    await client.send(b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n")
    await served.wait_all_ended()
    assert len(await client.receive_rest()) < 20_000_000
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_viewer_that_stalls_gets_4413_and_the_others_wait_for_nothing(start, logs):
    """
    The outlet under `serve()`: too slow is a close code of its own, after whole frames only.
    """
    outlets = []

    async def watch(scope, receive, send):
        await accept(receive, send)
        outlets.append(scope["extensions"]["greenroom.outlet"])
        await receive()

    served = await start({"/watch": watch}, outlet_backlog=100_000)
    client = await served.connect(receive_buffer=4096)
    await client.upgrade("/watch")
    await trio.testing.wait_all_tasks_blocked()
    frame = b"\x82\x7e\x03\xe8" + bytes(1000)
    while outlets[0].push(frame):
        pass
    await served.assert_unharmed()
    assert await client.receive_close() == 4413
    await client.stream.aclose()
    await served.wait_all_ended()
    assert logs.tracebacks() == []


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
    original = Http1.handle

    async def handle(self, event):
        if b"trigger" in getattr(event, "data", b""):
            raise RuntimeError("defect")
        await original(self, event)

    monkeypatch.setattr(Http1, "handle", handle)
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
        with trio.fail_after(SOON):
            while not logs.entries:  # noqa: ASYNC110 (a log line wakes nobody)
                await trio.sleep(0.01)
        await trio.sleep(0.25)
        assert logs.events() == ["cannot accept connections"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    stream = trio.SocketStream(sock)
    with trio.fail_after(SOON):
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


# Shutdown


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
    with trio.fail_after(SOON):
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
    with trio.fail_after(SOON):
        await served.ended.wait()


async def test_the_grace_ends_for_everybody_however_they_stall(start, logs):
    """
    A reader that stalls amid a response, one amid events, a request and a WebSocket without end: `serve()`
    returns within the grace, and who still listens is told 1001.
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
    began = trio.current_time()
    served.shutdown.set()
    assert await served.bystander.receive_close() == 1001
    with trio.fail_after(SOON):
        await served.ended.wait()
    assert trio.current_time() - began < 0.6
    assert logs.tracebacks() == []


async def test_an_application_that_refuses_to_start_is_a_startup_error(make_limits):
    """
    The node says why, and nothing listens any more.
    """

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    sockets = listen("127.0.0.1", 0, 1)
    with pytest.raises(StartupError, match="no database"), trio.fail_after(SOON):
        await serve(app, sockets, make_limits(), shutdown=trio.Event())
    assert sockets[0].fileno() == -1


# Listening


def test_a_port_in_use_is_named():
    """
    The operator learns which port on which address, and what to do.
    """
    (taken,) = listen("127.0.0.1", 0, 1)
    port = taken.getsockname()[1]
    with taken, pytest.raises(StartupError, match=f"port {port} on 127.0.0.1 is in use: "):
        listen("127.0.0.1", port, 1)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no-such-host.invalid", "no such host: 'no-such-host.invalid'"),
        ("192.0.2.1", "cannot bind port 8000 on 192.0.2.1"),
    ],
)
def test_a_host_that_is_not_ours_is_named(host, message):
    """
    Whether the name is unknown or the address another machine's.
    """
    with pytest.raises(StartupError, match=message):
        listen(host, 8000, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_families_are_listened_on(host):
    """
    An address of either family is taken as it is.
    """
    try:
        (sock,) = listen(host, 0, 1)
    except StartupError:
        assert host == "::1" and not has_ipv6(), "this machine has the address"
        pytest.skip("no IPv6 on this machine")
    with sock, socket.create_connection((host, sock.getsockname()[1]), SOON):
        pass


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_name_with_two_addresses_gets_one_port(monkeypatch):
    """
    Port 0 means any free port, the same on every address of the name.
    """
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", 0)) for n in (1, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    first, second = listen("both", 0, 1)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

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
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


async def test_http2_over_tls_is_served_and_contained(start, logs, certificate):
    """
    A request is answered; a frame that must not be ends that connection only.
    """
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    server_tls.set_alpn_protocols(["h2"])
    served = await start(tls=server_tls)
    client_tls = ssl.create_default_context(cafile=str(certificate))
    client_tls.set_alpn_protocols(["h2"])
    client = await served.connect()
    client.stream = trio.SSLStream(
        client.stream, client_tls, server_hostname="localhost", https_compatible=True
    )
    http2 = h2.connection.H2Connection()
    http2.initiate_connection()
    fields = {":method": "GET", ":path": "/", ":scheme": "https", ":authority": "localhost"}
    http2.send_headers(1, list(fields.items()), end_stream=True)
    await client.send(http2.data_to_send())
    body = b""
    with trio.fail_after(SOON):
        while not body:
            events = http2.receive_data(await client.stream.receive_some())
            body = b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))
    assert body == b"hello"
    await client.send(bytes(9))  # DATA on stream 0
    await client.receive_rest()
    await client.stream.aclose()
    await served.wait_all_ended()
    assert not served.ended.is_set()
    assert logs.tracebacks() == []


async def test_over_tls_everything_works_except_that_there_is_no_outlet(start, logs, certificate):
    """
    HTTP, WebSocket and close codes are the same; the application falls back to `send`.
    """
    extensions = []

    async def watch(scope, receive, send):
        extensions.append(scope["extensions"])
        await accept(receive, send)
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close", "code": 4401})

    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    served = await start({"/watch": watch}, tls=server_tls)
    client_tls = ssl.create_default_context(cafile=str(certificate))

    async def connect():
        client = await served.connect()
        client.stream = trio.SSLStream(
            client.stream, client_tls, server_hostname="localhost", https_compatible=True
        )
        return client

    naked = await served.connect()
    await naked.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await naked.receive_rest()
    assert await (await connect()).get() == (200, b"hello")
    viewer = await connect()
    await viewer.upgrade("/watch")
    assert await viewer.receive_frame() == (1, b"hello")
    assert await viewer.receive_close() == 4401
    assert "greenroom.outlet" not in extensions[0]
    assert not served.ended.is_set()
    assert logs.entries == [] and logs.tracebacks() == []
