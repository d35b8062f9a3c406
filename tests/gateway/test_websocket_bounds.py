"""One WebSocket without TLS: what the application hears, what a flood costs, how silence ends."""

import select

import pytest
import trio
import trio.testing

from gateway.http import websocket as websocket_module
from gateway.http.wire import RECEIVE
from tests.gateway.applications import accept
from tests.gateway.raw_client import HANDSHAKE
from tests.patience import PATIENCE, patience


@pytest.fixture
def listener():
    """
    An application that notes what it receives up to the disconnect.
    """
    heard = []

    async def listen(scope, receive, send):
        await accept(receive, send)
        while True:
            heard.append(await receive())
            if heard[-1]["type"] == "websocket.disconnect":
                break

    listen.heard = heard
    return listen


@pytest.mark.parametrize(
    ("sent", "echoed", "code", "reason"),
    [
        (b"\x03\xe8bye", b"\x03\xe8bye", 1000, "bye"),
        (b"\x0f\xa0" + "é".encode(), b"\x0f\xa0" + "é".encode(), 4000, "é"),
        (b"", b"", 1005, ""),
    ],
)
async def test_the_application_hears_how_the_client_closed(start, listener, sent, echoed, code, reason):
    """
    Code and reason as they were sent; none is 1005. The echo is the server's last frame.
    """
    served = await start({"/listen": listener})
    client = await served.connect()
    await client.upgrade("/listen")
    await client.send(client.frame(sent, 8) + client.frame(b"after the close"))
    assert await client.receive_frame() == (8, echoed)
    assert await client.receive_rest() == b""
    await trio.testing.wait_all_tasks_blocked()
    assert listener.heard == [{"type": "websocket.disconnect", "code": code, "reason": reason}]


@pytest.mark.parametrize("leave", ["half-close", "reset"])
async def test_a_client_that_goes_without_a_close_frame_is_1006(start, listener, leave):
    """
    Whether it ends its stream in good order or vanishes.
    """
    served = await start({"/listen": listener})
    client = await served.connect()
    await client.upgrade("/listen")
    if leave == "reset":
        client.reset()
    else:
        await client.stream.send_eof()
    await served.wait_all_ended()
    assert listener.heard == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x00", 1002),
        (b"\x03\xe7", 1002),
        (b"\x03\xed", 1002),
        (b"\x03\xee", 1002),
        (b"\x03\xf7", 1002),
        (b"\x0b\xb7", 1002),
        (b"\x13\x88", 1002),
        (b"\x03\xe8\xff", 1007),
    ],
    ids=["one byte", "999", "1005", "1006", "1015", "2999", "5000", "not UTF-8"],
)
async def test_a_close_frame_that_must_not_be_is_a_mistake(start, listener, payload, code):
    """
    Its code is not echoed, and the application hears what it was closed with.
    """
    served = await start({"/listen": listener})
    client = await served.connect()
    await client.upgrade("/listen")
    await client.send(client.frame(payload, 8))
    assert await client.receive_close() == code
    await trio.testing.wait_all_tasks_blocked()
    assert [message["code"] for message in listener.heard] == [code]


async def test_text_that_goes_wrong_is_refused_before_it_ends(start, listener):
    """
    At the byte that cannot be UTF-8, amid a frame of which more was announced.
    """
    served = await start({"/listen": listener})
    client = await served.connect()
    await client.upgrade("/listen")
    await client.send(client.frame(b"x" * 1000)[:100] + b"\xff")
    assert await client.receive_close() == 1007


async def test_a_message_over_the_limit_is_refused_before_it_ends(start, listener):
    """
    Counted in bytes, while it is assembled: fragments, partial frames, characters of several bytes.
    """
    for first in [
        "é".encode() * 501,
        b"x" * 1001,
    ]:
        served = await start({"/listen": listener}, max_message=1000)
        client = await served.connect()
        await client.upgrade("/listen")
        await client.send(client.frame("é".encode() * 500) + client.frame(b"x" * 1000, 2))
        await client.send(client.frame(first + bytes(60_000))[: 8 + len(first)])
        assert await client.receive_close() == 1009
        await client.stream.aclose()
        await served.wait_all_ended()
    assert [message.get("code") for message in listener.heard] == [None, None, 1009] * 2
    assert listener.heard[0]["text"] == "é" * 500


async def test_pings_are_answered_in_order_and_before_what_follows_them(start):
    """
    Ten pings in one segment, a message among them: ten pongs, the echo in its place.
    """
    served = await start()
    client = await served.connect()
    await client.upgrade("/echo")
    pings = [client.frame(b"%d" % number, 9) for number in range(10)]
    await client.send(b"".join([*pings[:5], client.frame(b"echo"), *pings[5:], client.frame(b"unasked", 10)]))
    frames = [await client.receive_frame() for _ in range(11)]
    assert frames == [
        *[(10, b"%d" % number) for number in range(5)],
        (1, b"echo"),
        *[(10, b"%d" % number) for number in range(5, 10)],
    ]


@pytest.mark.parametrize("opcode", [9, 10, 0], ids=["pings", "pongs", "empty fragments"])
async def test_a_flood_of_small_frames_lets_others_run(start, monkeypatch, opcode):
    """
    A segment of thousands is looked at in turns.
    """
    turns = []
    original = websocket_module.WebSocket._next_message

    def next_message(self):
        turns.append(self)
        return original(self)

    monkeypatch.setattr(websocket_module.WebSocket, "_next_message", next_message)
    served = await start()
    client = await served.connect()
    await client.upgrade("/echo")
    turns.clear()
    begin = client.frame(b"", 1, fin=False) if opcode == 0 else b""
    await client.send(begin + client.frame(b"", opcode, fin=opcode != 0) * 5000)
    await trio.testing.wait_all_tasks_blocked()
    assert len(turns) >= 50
    await served.assert_unharmed()


async def test_a_client_that_pings_and_does_not_read_is_too_slow(start, logs, listener):
    """
    Pongs count against the outlet's limit like everything else.
    """
    served = await start({"/listen": listener}, outlet_backlog=50_000)
    client = await served.connect(receive_buffer=4096)
    await client.upgrade("/listen")
    with patience():
        while not listener.heard:
            with trio.move_on_after(0.2):
                await client.stream.send_all(client.frame(b"x" * 125, 9) * 400)
    assert listener.heard == [{"type": "websocket.disconnect", "code": 4413, "reason": "too slow"}]
    client.reset()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_frames_before_the_handshake_is_answered_have_a_bound(start, logs):
    """
    An application that takes its time about the handshake does not collect what comes meanwhile.
    """
    heard = []

    async def hesitate(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        heard.append(await receive())

    served = await start({"/hesitate": hesitate})
    client = await served.connect()
    await client.send(HANDSHAKE.format(path="/hesitate", more="").encode())
    with patience():
        for _ in range(20):
            try:
                await client.stream.send_all(client.frame(bytes(RECEIVE // 2 - 8), 2))
            except trio.BrokenResourceError:
                break
            await trio.testing.wait_all_tasks_blocked()
    assert [message["type"] for message in heard] == ["websocket.disconnect"]
    await client.stream.aclose()
    await served.wait_all_ended()
    assert logs.tracebacks() == []


async def test_frames_before_the_handshake_is_answered_are_messages_like_all_others(start):
    """
    They come after the 101, and do not count against the first message's size.
    """
    answer = trio.Event()

    async def hesitate(scope, receive, send):
        await receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await answer.wait()
            nursery.cancel_scope.cancel()
        await send({"type": "websocket.accept"})
        for _ in range(3):
            # Also what was read long ago is received with a turn for others in between.
            with trio.testing.assert_checkpoints():
                message = await receive()
            await send({"type": "websocket.send", "text": message["text"]})

    served = await start({"/hesitate": hesitate}, max_message=1000)
    client = await served.connect()
    await client.send(HANDSHAKE.format(path="/hesitate", more="").encode())
    await trio.testing.wait_all_tasks_blocked()
    await client.send(client.frame(b"x" * 900) + client.frame(b"two") + client.frame(b"three"))
    await trio.testing.wait_all_tasks_blocked()
    answer.set()
    assert b" 101 " in await client.receive_head()
    for text in b"x" * 900, b"two", b"three":
        assert await client.receive_frame() == (1, text)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426),
        ("Sec-WebSocket-Version: 13\r\n", 400),
        ("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n", 400),
        (
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            400,
        ),
    ],
    ids=["old version", "no key", "bad key", "two keys"],
)
async def test_a_handshake_that_is_none_is_refused(start, more, status):
    """
    A version that is not ours is told which one is.
    """
    served = await start()
    client = await served.connect()
    head = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    await client.send(f"{head}{more}\r\n".encode())
    answer = await client.receive_head()
    assert int(answer.split()[1]) == status
    assert (b"\r\nsec-websocket-version: 13\r\n" in answer.lower()) == (status == 426)
    assert await client.receive_rest() == b""


async def test_the_application_of_a_silent_client_hears_4408(start, logs, listener):
    """
    And nothing of the connection stays, though the client's end never comes.
    """
    served = await start({"/listen": listener}, ping_interval=0.1, ping_timeout=0.1)
    client = await served.connect()
    await client.upgrade("/listen")
    assert await client.receive_frame() == (9, b"")
    assert await client.receive_close() == 4408
    await served.wait_all_ended()
    assert listener.heard == [{"type": "websocket.disconnect", "code": 4408, "reason": "no pong"}]
    assert logs.tracebacks() == []


async def test_no_ping_is_sent_to_a_client_that_talks(start):
    """
    Any message is a sign of life.
    """
    served = await start(ping_interval=0.3)
    client = await served.connect()
    await client.upgrade("/echo")
    served.limits.ping_interval = 60
    await client.send(client.frame(b"here", 1))
    while (frame := await client.receive_frame()) == (9, b""):
        pass  # the message was late
    assert frame == (1, b"here")
    with trio.move_on_after(0.5):
        raise AssertionError(await client.receive_frame())


async def test_a_client_that_never_reads_is_reset_and_holds_nothing(start):
    """
    Not even the close frame is taken: what the kernel still holds for it is given up, too.
    """

    async def talk(scope, receive, send):
        await accept(receive, send)
        outlet = scope["extensions"]["greenroom.outlet"]
        while outlet.push(bytes(16384)):
            await trio.lowlevel.checkpoint()
        while (await receive())["type"] != "websocket.disconnect":
            pass

    served = await start({"/talk": talk}, outlet_backlog=100_000)
    client = await served.connect(receive_buffer=4096)
    await client.upgrade("/talk")
    await served.wait_all_ended()
    poll = select.poll()
    poll.register(client.stream.socket.fileno(), 0)
    assert poll.poll(PATIENCE * 1000) == [(client.stream.socket.fileno(), select.POLLERR | select.POLLHUP)]
    await client.stream.aclose()
    await served.assert_unharmed()
