"""A crowd that comes or goes at once: who is served meanwhile, what those hear for whom there is no room."""

import re
import socket
from collections import Counter

import attrs
import pytest
import trio
import trio.testing

from gateway import farewell
from gateway.http import readers, server
from tests.gateway.applications import accept
from tests.gateway.raw_client import HANDSHAKE, RawClient
from tests.patience import PATIENCE, patience

# Fewer than the listening socket holds.
CROWD = 100
UPGRADE = HANDSHAKE.format(path="/crowd", more="").encode()
STREAM = b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


def come(served, count=CROWD, request=UPGRADE):
    """
    Connect and send, all before the server has a turn.
    """
    lines = []
    for _ in range(count):
        line = socket.create_connection(("127.0.0.1", served.port), PATIENCE)
        line.sendall(request)
        line.setblocking(False)
        lines.append(RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(line))))
    return lines


async def go(lines):
    for line in lines:
        await line.stream.aclose()


def app(begun):
    async def crowd(scope, receive, send):
        await accept(receive, send)
        begun.append(scope)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return crowd


async def test_a_request_behind_a_crowd_of_websockets_is_answered_before_they_have_begun(start):
    """
    It stands behind all of them in the kernel's queue, and is not what takes long.
    """
    begun = []
    served = await start({"/crowd": app(begun)})
    lines = come(served)
    (request,) = come(served, 1, GET)
    assert await request.receive_response() == (200, b"hello")
    assert len(begun) < CROWD
    for line in lines:
        assert b" 101 " in await line.receive_head()
    assert len(begun) == CROWD
    await go([*lines, request])
    await served.wait_all_ended()
    await served.assert_unharmed()


async def test_websockets_beyond_those_that_may_wait_hear_when_to_come_again(start):
    """
    503 with Retry-After, and the connection's end; who comes later is let in.
    """
    served = await start({"/crowd": app([])}, handshake_queue=10, retry_after=7)
    lines = come(served)
    heads = [await line.receive_head() for line in lines]
    statuses = Counter(head.split()[1] for head in heads)
    assert set(statuses) == {b"101", b"503"}
    assert statuses[b"101"] >= 10
    for line, head in zip(lines, heads, strict=True):
        if b" 503 " in head:
            assert b"\r\nretry-after: 7\r\n" in head
            assert await line.receive_rest() == b""
    await go(lines)
    await served.wait_all_ended()
    await served.assert_unharmed()


async def test_a_websocket_that_has_waited_too_long_is_refused(start):
    """
    Whoever cannot begin in time is told so, instead of being left to its own patience.
    """
    served = await start({"/crowd": app([])}, handshake_timeout=1e-9)
    lines = come(served)
    statuses = Counter([(await line.receive_head()).split()[1] for line in lines])
    assert statuses[b"503"] > CROWD / 2
    await go(lines)
    await served.wait_all_ended()
    await served.assert_unharmed()


async def test_who_still_waits_when_the_server_stops_is_refused(start):
    """
    A drain has told everybody goodbye: nobody may begin after it.
    """
    begun = []
    served = await start({"/crowd": app(begun)}, shutdown_grace=2)
    lines = come(served)
    with patience():
        while len(begun) < 3:
            await trio.lowlevel.checkpoint()
    served.shutdown.set()
    had_begun = len(begun)
    with patience():
        await served.ended.wait()
    assert had_begun <= len(begun) <= had_begun + 3 < CROWD
    await go(lines)


async def test_a_crowd_that_goes_at_once_is_cleared_away_while_others_are_served(start):
    """
    Somebody else is answered in between, and nothing is left of them.
    """
    served = await start({"/crowd": app([])})
    lines = come(served)
    for line in lines:
        await line.receive_head()
    (request,) = come(served, 1, GET)
    assert await request.receive_response() == (200, b"hello")
    for line in lines:
        line.stream.socket.close()
    await request.send(GET)
    assert await request.receive_response() == (200, b"hello")
    await request.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()


@attrs.define(eq=False)
class Steps(trio.abc.Instrument):
    """
    The most steps that tasks of connections did in one turn of the loop.
    """

    most: int = 0
    now: int = 0

    def after_io_wait(self, timeout):
        self.now = 0

    def after_task_step(self, task):
        self.now += task.name == "connection"
        self.most = max(self.most, self.now)


async def stream(scope, receive, send):
    """
    An answer that goes on until its client has gone.
    """
    assert (await receive())["type"] == "http.request"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize("request_", [UPGRADE, STREAM], ids=["WebSockets", "streams"])
async def test_a_crowd_that_leaves_at_once_is_heard_of_a_few_at_a_time(start_either, monkeypatch, request_):
    """
    All of them are readable in the same moment; not all of them are woken in one turn of the loop.
    """
    monkeypatch.setattr(readers, "WOKEN", 5)
    served = await start_either({"/crowd": app([]), "/stream": stream})
    lines = [await served.connect() for _ in range(CROWD)]
    for line in lines:
        await line.send(request_)
        assert (await line.receive_head()).split()[1] in (b"101", b"200")
    await trio.testing.wait_all_tasks_blocked()
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    for line in lines:
        getattr(line.stream, "transport_stream", line.stream).socket.close()
    await served.wait_all_ended()
    trio.lowlevel.remove_instrument(steps)
    assert 0 < steps.most < CROWD / 2
    await served.assert_unharmed()


AUTHORIZED = "Authorization: Bearer {token}\r\n"
SENT_AWAY = {
    "WebSockets": HANDSHAKE.format(path="/real-time", more=AUTHORIZED),
    "streams": f"GET /api/v1/stream HTTP/1.1\r\nHost: test\r\n{AUTHORIZED}\r\n",
    "Socket.IO": HANDSHAKE.format(path="/socket.io/?EIO=4&transport=websocket", more=""),
    "idle connections": "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n",
}


@pytest.mark.parametrize("request_", SENT_AWAY.values(), ids=SENT_AWAY)
async def test_a_node_that_stops_sends_its_clients_away_a_few_at_a_time(
    start_greenroom, monkeypatch, request_
):
    """
    Whoever is still served meanwhile, and the heartbeats of the node itself, do not wait for all of them.
    """
    monkeypatch.setattr(farewell, "AT_ONCE", 3)
    monkeypatch.setattr(server, "ABORTS", 3)
    greenroom = await start_greenroom({"limits.sessions_per_user": CROWD})
    lines = come(greenroom, request=request_.format(token=greenroom.token()).encode())
    for line in lines:
        assert (await line.receive_head()).split()[1] in (b"101", b"200")
    await trio.testing.wait_all_tasks_blocked()
    steps = Steps()
    async with trio.open_nursery() as nursery:
        trio.lowlevel.add_instrument(steps)
        nursery.start_soon(greenroom.stop)
        for line in lines:
            await line.receive_rest()
            await line.stream.aclose()
    trio.lowlevel.remove_instrument(steps)
    assert 0 < steps.most < CROWD / 2


async def test_how_many_wait_to_begin_is_a_metric(greenroom):
    """
    While they wait: whoever asks behind them is answered first.
    """
    # Each is a client without a token, which is heard of at the WebSocket's beginning only.
    crowd = come(greenroom, request=HANDSHAKE.format(path="/real-time", more="").encode())
    (request,) = come(greenroom, 1, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
    assert 0 < _waiting(await request.receive_response()) <= CROWD
    for line in crowd:
        assert b" 101 " in await line.receive_head()
    await request.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
    assert _waiting(await request.receive_response()) == 0
    await go([*crowd, request])


def _waiting(answer):
    status, body = answer
    assert status == 200
    (value,) = re.findall(rb"^greenroom_handshakes_waiting (\S+)$", body, re.MULTILINE)
    return float(value)
