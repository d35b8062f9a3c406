"""Engine.IO alone, as an ASGI application with a plain handler: on raw sockets, with and without TLS."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from gateway.engineio.server import EngineOptions, EngineServer
from gateway.engineio.session import EngineSession
from tests.gateway.conftest import Served
from tests.gateway.engine_line import Line, Probe
from tests.gateway.node_fixture import until
from tests.patience import patience

Play = Callable[..., Awaitable[tuple[Line, "Echo"]]]


@attrs.define(eq=False)
class Echo:
    """
    Sends back what comes, and remembers how sessions ended.
    """

    reasons: list[str] = attrs.field(factory=list)
    sessions: dict[str, EngineSession] = attrs.field(factory=dict)
    pongs: int = 0

    def opened(self, session: EngineSession) -> None:
        self.sessions[session.sid] = session

    def received(self, session: EngineSession, data: str | bytes) -> None:
        if data == "fail":
            raise RuntimeError("a bug")
        session.send(data)
        if data == "goodbye":
            session.finish("over")

    def alive(self, session: EngineSession) -> None:
        self.pongs += 1

    def closed(self, session: EngineSession, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
async def play(start_either: Callable[..., Awaitable[Served]], nursery: trio.Nursery) -> Play:
    """
    Start an echo: `await play(ping_interval=0.3)`; the line to it, and what it has seen.
    """

    async def play(**options: Any) -> tuple[Line, Echo]:
        echo = Echo()
        server = EngineServer(echo, EngineOptions(**options))
        served = await start_either({"/engine.io/": server}, max_message=1_000_000)
        nursery.start_soon(server.run)
        return Line(connect=served.connect), echo

    return play


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_the_first_packet_has_exactly_what_the_protocol_lists(play: Play, transport: str) -> None:
    """
    Clients configure themselves by it; an id is long enough to be a secret.
    """
    line, _ = await play(ping_interval=0.3, ping_timeout=0.2, max_payload=1_000_000)
    if transport == "polling":
        reply = await line.request("GET", "EIO=4&transport=polling")
        assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        packet: str | bytes = reply.text
    else:
        probe = await line.websocket()
        assert isinstance(probe, Probe)
        packet = await probe.receive()
    assert isinstance(packet, str) and packet[0] == "0"
    opening = json.loads(packet[1:])
    assert len(opening.pop("sid")) == 20
    assert opening == {
        "upgrades": ["websocket"] if transport == "polling" else [],
        "pingInterval": 300,
        "pingTimeout": 200,
        "maxPayload": 1_000_000,
    }


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("GET", "EIO=4&transport=websocket", 0),
        ("POST", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=polling&sid=unknown", 1),
        ("POST", "EIO=4&transport=polling&sid=unknown", 1),
    ],
)
async def test_a_request_that_is_wrong_is_told_so(play: Play, method: str, query: str, code: int) -> None:
    """
    400 and the protocol's own code, and no session comes of it.
    """
    line, echo = await play()
    reply = await line.request(method, query)
    assert (reply.status, reply.json["code"]) == (400, code)
    assert echo.sessions == {}


@pytest.mark.parametrize(
    "query",
    ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=websocket&sid=x"],
)
async def test_a_websocket_that_is_wrong_is_refused(play: Play, query: str) -> None:
    """
    Before its handshake, as a request is.
    """
    line, echo = await play()
    assert await line.websocket(query) == 400
    assert echo.sessions == {}


async def test_messages_go_both_ways_over_polling(play: Play) -> None:
    """
    Several in one body, and binary ones as base64, in order.
    """
    line, _ = await play()
    sid = await line.open()
    for body in ("4hello", "4test1\x1e4test2\x1e4ünï", "4hello\x1ebAQIDBA=="):
        reply = await line.post(sid, body)
        assert (reply.status, reply.text) == (200, "ok")
        reply = await line.poll(sid)
        assert (reply.status, reply.text) == (200, body)


async def test_messages_go_both_ways_over_websocket(play: Play) -> None:
    """
    Text and binary, the empty one too.
    """
    line, _ = await play()
    probe = await line.opened()
    for packet in ("4hello", b"\x01\x02\x03\x04", b"", "4" + "x" * 100_000):
        await probe.send(packet) if len(packet) < 65536 else await _send_long(probe, packet)
        assert await probe.receive() == packet


async def _send_long(probe: Probe, packet: Any) -> None:
    data = packet.encode()
    await probe.raw.send(probe.raw.frame(data[:50_000], fin=False))
    await probe.raw.send(probe.raw.frame(data[50_000:], 0))


@pytest.mark.parametrize("body", ["abc", "", "9", "4a\x1eabc", "bnot base64!", b"\xff\xfe", "2", "5", "0{}"])
async def test_a_malformed_body_ends_the_session(play: Play, body: str | bytes) -> None:
    """
    It, and no other.
    """
    line, echo = await play()
    other, sid = await line.open(), await line.open()
    assert (await line.post(sid, body)).status == 400
    assert (await line.poll(sid)).status == 400
    assert echo.reasons == ["parse error"]
    assert (await line.post(other, "4still here")).status == 200
    assert (await line.poll(other)).text == "4still here"


@pytest.mark.parametrize("packet", ["abc", "", "9", "2", "5", "0{}"])
async def test_a_malformed_packet_ends_the_websocket(play: Play, packet: str) -> None:
    """
    The same over WebSocket.
    """
    line, echo = await play()
    probe = await line.opened()
    await probe.send(packet)
    assert await probe.closed() == 1000
    assert echo.reasons == ["parse error"]


async def test_a_bug_of_the_handler_ends_one_session(play: Play, logs: Any) -> None:
    """
    It is logged with its traceback; others go on.
    """
    line, echo = await play()
    probe, other = await line.opened(), await line.opened()
    await probe.send("4fail")
    assert await probe.closed() == 1000
    assert echo.reasons == ["server error"]
    assert logs.tracebacks()
    await other.send("4still here")
    assert await other.receive() == "4still here"


async def test_a_second_poll_ends_the_session(play: Play) -> None:
    """
    The first is answered with a close packet, the second with 400.
    """
    line, echo = await play()
    sid = await line.open()
    first = await line.connect()
    await line.send(first, "GET", f"EIO=4&transport=polling&sid={sid}")
    with patience():
        while not echo.sessions[sid].is_polled:  # noqa: ASYNC110
            await trio.sleep(0.005)
    assert (await line.poll(sid)).status == 400
    reply = await line.reply(first)
    assert (reply.status, reply.text) == (200, "1")
    assert (await line.poll(sid)).status == 400
    assert echo.reasons == ["overlap"]


async def test_an_aborted_poll_ends_the_session(play: Play) -> None:
    """
    Nobody knows what of the answer has arrived.
    """
    line, echo = await play()
    sid = await line.open()
    client = await line.connect()
    await line.send(client, "GET", f"EIO=4&transport=polling&sid={sid}")
    await trio.aclose_forcefully(client.stream)
    with patience():
        while not echo.reasons:  # noqa: ASYNC110
            await trio.sleep(0.005)
    assert echo.reasons == ["transport close"]
    assert (await line.poll(sid)).status == 400


async def test_what_is_longer_than_promised_ends_the_session(play: Play) -> None:
    """
    413 over polling, close code 1009 over WebSocket; the limit itself is allowed.
    """
    line, echo = await play(max_payload=1000)
    sid = await line.open()
    assert (await line.post(sid, "4" + "x" * 999)).status == 200
    assert (await line.post(sid, "4" + "x" * 1000)).status == 413
    assert (await line.poll(sid)).status == 400
    probe = await line.opened()
    await probe.send("4" + "x" * 999)
    await probe.receive()
    await probe.send("4" + "x" * 1000)
    assert await probe.closed() == 1009
    assert echo.reasons == ["payload too large"] * 2


async def test_a_body_that_is_announced_as_too_long_is_not_waited_for(play: Play) -> None:
    """
    Nor is anything of it kept.
    """
    line, echo = await play(max_payload=1000)
    sid = await line.open()
    client = await line.connect()
    await line.send(client, "POST", f"EIO=4&transport=polling&sid={sid}", b"4", {"Content-Length": "1001"})
    assert (await line.reply(client)).status == 413
    assert echo.reasons == ["payload too large"]


async def test_a_body_is_kept_no_longer_than_its_session(play: Play) -> None:
    """
    What trickles is not waited for to its end.
    """
    line, echo = await play(max_payload=1000)
    sid = await line.open()
    client = await line.connect()
    await line.send(client, "POST", f"EIO=4&transport=polling&sid={sid}", b"4", {"Content-Length": "900"})
    await until(lambda: echo.sessions[sid].is_posted)
    assert (await line.post(sid, "4second")).status == 400
    await client.send(b"hello")
    assert (await line.reply(client)).status == 400


async def test_pings_come_and_pongs_keep_the_session(play: Play) -> None:
    """
    Over both transports, with intervals below a second.
    """
    line, echo = await play(ping_interval=0.1, ping_timeout=10)
    sid = await line.open()
    probe = await line.opened()
    for _ in range(3):
        assert (await line.poll(sid)).text == "2"
        assert (await line.post(sid, "3")).status == 200
        assert await probe.raw.receive_frame() == (1, b"2")
        await probe.send("3")
    with patience():
        while echo.pongs < 6:  # noqa: ASYNC110
            await trio.sleep(0.005)
    assert echo.reasons == []


async def test_who_answers_no_ping_has_gone(play: Play) -> None:
    """
    By a deadline that counts from the opening, whatever happens meanwhile.
    """
    line, echo = await play(ping_interval=0.1, ping_timeout=0.1)
    sid = await line.open()
    began = trio.current_time()
    probe = await line.opened()
    await probe.send("4hello")
    assert await probe.receive() == "4hello"
    assert await probe.closed() == 1000
    await trio.sleep_until(began + 0.2)
    assert (await line.post(sid, "3")).status == 400
    assert echo.reasons == ["ping timeout"] * 2


async def test_last_words_are_heard(play: Play) -> None:
    """
    Whatever the transport, before the end.
    """
    line, echo = await play()
    moved = await line.upgraded(await line.open())
    for probe in (await line.opened(), moved):
        await probe.send("4goodbye")
        assert await probe.receive() == "4goodbye"
        assert await probe.closed() == 1000
    sid = await line.open()
    await line.post(sid, "4goodbye")
    assert (await line.poll(sid)).text == "4goodbye"
    assert (await line.poll(sid)).text == "1"
    assert echo.reasons == ["over"] * 3


async def test_a_client_may_close(play: Play) -> None:
    """
    A waiting poll ends with a noop, a WebSocket with a close frame.
    """
    line, echo = await play()
    sid = await line.open()
    waiting = await line.connect()
    await line.send(waiting, "GET", f"EIO=4&transport=polling&sid={sid}")
    assert (await line.post(sid, "1")).status == 200
    reply = await line.reply(waiting)
    assert (reply.status, reply.text) == (200, "6")
    assert (await line.poll(sid)).status == 400
    probe = await line.opened()
    await probe.send("1")
    assert await probe.closed() == 1000
    assert echo.reasons == ["transport close"] * 2


async def test_a_poll_that_its_client_s_goodbye_overtook_is_answered_too(play: Play) -> None:
    """
    The two come on connections of their own, in whatever order; what waited is wanted no more.
    """
    line, echo = await play()
    sid = await line.open()
    assert (await line.post(sid, "4hello\x1e1")).status == 200
    assert echo.reasons == ["transport close"]
    assert (await line.post(sid, "4more")).status == 400
    reply = await line.poll(sid)
    assert (reply.status, reply.text) == (200, "6")
    assert (await line.poll(sid)).status == 400
