"""HTTP/1.1 without TLS: requests as the parser makes them, answers as they go over the wire."""

import itertools

import httptools
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.http1 import Http1
from gateway.http.response import Head
from gateway.http.wire import RECEIVE, Wire
from tests.gateway.applications import respond

STREAM = (
    b"POST /one?x=%20 HTTP/1.1\r\nHost: test\r\nX-Long:  "
    + b"v" * 50
    + b" \r\nContent-Length: 11\r\n\r\nhello world"
    b"\r\nGET /two HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    b"PUT /three HTTP/1.1\r\nhost: test\r\ntransfer-encoding: Chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n006\r\n world\r\n0\r\nTrailer: dropped\r\n\r\n"
    b"GET /four HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    b"GET /five HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
)


class NoLimits:
    """
    As much of a server as the parser asks for.
    """

    class limits:  # noqa: N801
        max_header = 65536


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))
def test_requests_are_the_same_however_the_network_cuts_them(cuts):
    """
    Wherever a segment ends: the same heads and bodies, and none more.
    """
    connection = Http1(NoLimits, None)
    connection._parser = httptools.HttpRequestParser(connection)
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        if start < end:
            connection._feed(STREAM[start:end])
    requests = connection._requests
    assert [(request.method, request.target) for request in requests] == [
        (b"POST", b"/one?x=%20"),
        (b"GET", b"/two"),
        (b"PUT", b"/three"),
        (b"GET", b"/four"),
        (b"GET", b"/five"),
    ]
    bodies = [request.take_body() for request in requests]
    assert bodies == [b"hello world", b"", b"hello world", b"", b""]
    assert [request.keeps_alive for request in requests] == [True, True, True, True, False]
    assert all(request.is_complete and not request.refusal(65536) for request in requests)
    assert requests[0].headers[1] == (b"x-long", b"v" * 50)
    assert requests[2].headers == [(b"host", b"test"), (b"transfer-encoding", b"Chunked")]
    assert connection._bad == 0


async def test_pipelined_requests_are_answered_in_order_however_long_each_takes(start):
    """
    One at a time: the second does not begin before the first is answered.
    """
    order, release = [], trio.Event()

    async def slow(scope, receive, send):
        order.append("slow")
        await release.wait()
        order.append("answered")
        await respond(send, 200, b"slow")

    async def quick(scope, receive, send):
        order.append("quick")
        await respond(send, 200, b"quick")

    served = await start({"/slow": slow, "/quick": quick})
    client = await served.connect()
    for path in "/slow", "/quick":
        await client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked()
    release.set()
    assert await client.receive_response() == (200, b"slow")
    assert await client.receive_response() == (200, b"quick")
    assert order == ["slow", "answered", "quick"]


async def test_pipelining_without_end_is_not_read_ahead_without_end(start, logs, nursery, monkeypatch):
    """
    While an answer takes its time, later requests wait in the kernel, not in our memory.
    """
    release, read = trio.Event(), []
    original = Wire.read_nowait

    def read_nowait(self):
        data = original(self)
        read.append(len(data or b""))
        return data

    async def slow(scope, receive, send):
        async with trio.open_nursery() as listening:
            listening.start_soon(listen, receive)
            await release.wait()
            await respond(send, 200, b"slow")
            listening.cancel_scope.cancel()

    async def listen(receive):
        while (await receive())["type"] == "http.request":
            pass

    monkeypatch.setattr(Wire, "read_nowait", read_nowait)
    served = await start({"/slow": slow})
    client = await served.connect()
    await client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    read.clear()
    nursery.start_soon(client.stream.send_all, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 10_000)
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert RECEIVE < sum(read) <= 2 * RECEIVE
    release.set()
    assert await client.receive_response() == (200, b"slow")
    for _ in range(10_000):
        assert await client.receive_response() == (200, b"hello")
    client.reset()
    await served.wait_all_ended()
    assert logs.tracebacks() == []


async def test_a_small_answer_is_one_write(start, monkeypatch):
    """
    Head and body go out together, though the application gives the body and its end separately.
    """
    writes = []
    original = Wire.write

    async def write(self, data):
        writes.append(data)
        return await original(self, data)

    async def halves(scope, receive, send):
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    monkeypatch.setattr(Wire, "write", write)
    served = await start({"/halves": halves})
    client = await served.connect()
    writes.clear()
    assert await client.get("/halves") == (200, b"hello")
    assert len(writes) == 1


async def test_the_head_is_what_the_application_said_and_no_more(start):
    """
    Names as they are given, framing and date ours, no word about the software.
    """

    async def talk(scope, receive, send):
        headers = [
            (b"X-Custom", b"\xc3\xbc\t1"),
            (b"transfer-encoding", b"gzip"),
            (b"connection", b"upgrade"),
        ]
        await send({"type": "http.response.start", "status": 299, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

    served = await start({"/talk": talk})
    client = await served.connect()
    await client.send(b"GET /talk HTTP/1.1\r\nHost: test\r\n\r\n")
    lines = (await client.receive_head()).split(b"\r\n")
    assert lines[:2] == [b"HTTP/1.1 299 ", b"X-Custom: \xc3\xbc\t1"]
    assert lines[2].startswith(b"date: ") and lines[2].endswith(b" GMT")
    assert lines[3:] == [b"content-length: 5", b"", b""]
    assert await client.receive(5) == b"hello"


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nSet-Cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x\r\ny", b"a"),
        (b"x: y\r\nz", b"a"),
        (b"x y", b"a"),
        (b"", b"a"),
        (b"content-length", b"+5"),
        (b"content-length", b"5\r\nx: y"),
    ],
)
async def test_a_header_that_would_be_two_is_refused(start, logs, header):
    """
    What an application lets into its headers cannot become headers of its own: 500, and a line in the log.
    """

    async def careless(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        await send({"type": "http.response.body", "body": b""})

    served = await start({"/careless": careless})
    client = await served.connect()
    assert await client.get("/careless") == (500, b"")
    assert [type(entry["exc_info"]) for entry in logs.tracebacks()] == [ValueError]


@pytest.mark.parametrize("subprotocol", ["other", "bearer\r\nx: y"])
async def test_a_handshake_answer_that_would_be_wrong_is_refused(start, logs, subprotocol):
    """
    A subprotocol that nobody offered, or that has a line end in it.
    """

    async def careless(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": subprotocol})

    served = await start({"/careless": careless})
    client = await served.connect()
    head = await client.upgrade("/careless", more="Sec-WebSocket-Protocol: bearer\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert len(logs.tracebacks()) == 1


@pytest.mark.parametrize("parts", [(b"four", b"fours"), (b"12345678", b""), (b"123",)])
async def test_a_body_that_belies_its_length_ends_the_connection(start, logs, parts):
    """
    Nothing beyond the length goes out, and nobody takes the next answer for its rest.
    """

    async def wrong(scope, receive, send):
        headers = [(b"content-length", b"7")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": parts[-1]})

    served = await start({"/wrong": wrong})
    client = await served.connect()
    await client.send(b"GET /wrong HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
    answer = await client.receive_rest()
    assert answer.count(b"HTTP/1.1") == 1
    assert len(answer.partition(b"\r\n\r\n")[2]) < 7
    assert [type(entry["exc_info"]) for entry in logs.tracebacks()] == [RuntimeError]


@pytest.mark.parametrize("length", [b"0", b"5"])
async def test_no_content_has_no_length(start, length):
    """
    204 says all there is to say (RFC 9110, section 8.6).
    """

    async def nothing(scope, receive, send):
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    served = await start({"/nothing": nothing})
    client = await served.connect()
    await client.send(b"GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b"content-length" not in (await client.receive_head()).lower()
    assert await client.get() == (200, b"hello")


async def test_an_old_client_that_asks_for_it_is_kept(start):
    """
    HTTP/1.0 with `Connection: keep-alive`: answered in kind, and the next request served.
    """
    served = await start()
    client = await served.connect()
    for _ in range(2):
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = await client.receive_head()
        assert b"\r\nconnection: keep-alive\r\n" in head
        assert await client.receive(5) == b"hello"


async def test_a_small_body_that_nobody_wanted_does_not_cost_the_connection(start):
    """
    It is read and dropped when it has come by the time of the answer.
    """

    go = trio.Event()

    async def ignore(scope, receive, send):
        await go.wait()
        await respond(send, 403, b"no")

    served = await start({"/ignore": ignore})
    client = await served.connect()
    await client.send(b"POST /ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await client.send(b"hello")
    go.set()
    assert await client.receive_response() == (403, b"no")
    assert await client.get() == (200, b"hello")


async def test_a_continue_that_nobody_asks_for_is_not_sent(start):
    """
    Who is refused at once is not told to go on; nor is an old client, nor one whose body is there.
    """
    served = await start()
    for request in [
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    ]:
        client = await served.connect()
        await client.send(request)
        assert await client.receive_response() == (200, b"hello")


async def test_a_continue_does_not_come_amid_an_answer(start):
    """
    An application that answers before it receives gets the body, and the client no second head.
    """

    async def eager(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await send({"type": "http.response.body", "body": (await receive())["body"]})

    served = await start({"/eager": eager})
    client = await served.connect()
    await client.send(
        b"POST /eager HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await client.receive_head()).startswith(b"HTTP/1.1 200 ")
    assert await client.receive(10) == b"5\r\nbegun\r\n"
    await client.send(b"hello")
    assert await client.receive_rest() == b"5\r\nhello\r\n0\r\n\r\n"


def test_a_head_may_say_all_that_is_allowed():
    """
    Every token as a name, every visible byte, tab and byte beyond ASCII as a value.
    """
    value = bytes(byte for byte in range(256) if byte >= 32 and byte != 127) + b"\t"
    name = b"!#$%&'*+-.^_`|~09azAZ"
    assert Head.of(200, [(name, value)]).fields == name + b": " + value + b"\r\n"
