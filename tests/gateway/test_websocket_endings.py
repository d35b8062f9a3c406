"""How a WebSocket ends: with the documented code, whatever the client or the application does."""

import pytest
import trio
import trio.testing

from tests.gateway.applications import accept, respond
from tests.patience import patience


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
    await client.stream.aclose()
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
    await client.stream.aclose()
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
    with patience():
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
    await client.stream.aclose()
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
    await client.stream.aclose()
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
    assert received == [{"type": "websocket.disconnect", "code": 4409, "reason": ""}]


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
    assert codes == [("websocket.disconnect", 1009)]
    await served.assert_unharmed()
    assert logs.tracebacks() == []


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"\x81\x05naked", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),
        (b"\x89\xfe\x01\x00\0\0\0\0", 1002),
        (b"\x83\x80", 1002),
    ],
    ids=["unmasked", "reserved bits", "not UTF-8", "long ping", "unknown opcode"],
)
async def test_what_is_not_a_websocket_frame_closes_with_the_protocol_s_code(start, logs, garbage, code):
    """
    The client is told that it broke the protocol, and how.
    """
    served = await start()
    client = await served.connect()
    await client.upgrade("/echo")
    await client.send(garbage)
    assert await client.receive_close() == code
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
