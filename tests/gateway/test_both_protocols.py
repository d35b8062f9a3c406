"""What the application sees is the same with and without TLS: our HTTP/1.1 and Hypercorn's, one suite."""

import pytest
import trio
import trio.testing

from tests.gateway.applications import accept, respond
from tests.patience import patience


async def whole_body(receive):
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo_body(scope, receive, send):
    await respond(send, 200, await whole_body(receive))


async def test_the_scope_of_a_request_has_everything(start_either):
    """
    Path decoded and raw, query, headers in lower case and in order, both addresses.
    """
    scopes = []

    async def note(scope, receive, send):
        scopes.append(scope)
        await respond(send, 200, b"")

    served = await start_either({"/a b": note})
    client = await served.connect()
    await client.send(b"PUT /a%20b?q=1&r=%20 HTTP/1.1\r\nHost: test\r\nX-Two: 1\r\nx-two:  2 \r\n\r\n")
    assert await client.receive_response() == (200, b"")
    (scope,) = scopes
    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    assert (scope["method"], scope["http_version"]) == ("PUT", "1.1")
    assert scope["scheme"] == ("http" if served.tls is None else "https")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"q=1&r=%20")
    assert scope["root_path"] == ""
    assert list(scope["headers"]) == [(b"host", b"test"), (b"x-two", b"1"), (b"x-two", b"2")]
    assert scope["server"] == ("127.0.0.1", served.port)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["extensions"] == {}
    assert scope["state"] == {}


async def test_the_scope_of_a_websocket_has_everything(start_either):
    """
    Subprotocols in order, the extension to refuse with a whole response.
    """
    scopes = []

    async def note(scope, receive, send):
        scopes.append({**scope})
        await accept(receive, send)

    served = await start_either({"/note": note})
    client = await served.connect()
    await client.upgrade("/note?q", more="Sec-WebSocket-Protocol: bearer, token\r\n")
    (scope,) = scopes
    assert (scope["type"], scope["path"], scope["query_string"]) == ("websocket", "/note", b"q")
    assert scope["scheme"] == ("ws" if served.tls is None else "wss")
    assert scope["subprotocols"] == ["bearer", "token"]
    assert "method" not in scope
    assert "websocket.http.response" in scope["extensions"]


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_a_body_arrives_as_it_was_sent(start_either, size):
    """
    By its length or in chunks, in one segment or many.
    """
    served = await start_either({"/echo": echo_body})
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    client = await served.connect()
    await client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size + body)
    assert await client.receive_response() == (200, body)
    await client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, size, 30_000):
        piece = body[start : start + 30_000]
        await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    await client.send(b"0\r\n\r\n")
    assert await client.receive_response() == (200, body)


async def test_a_client_that_asks_whether_to_go_on_is_told(start_either):
    """
    `Expect: 100-continue` is answered when the application wants the body.
    """
    served = await start_either({"/echo": echo_body})
    client = await served.connect()
    head = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    await client.send(head)
    assert (await client.receive_head()).startswith(b"HTTP/1.1 100 ")
    await client.send(b"body")
    assert await client.receive_response() == (200, b"body")


async def test_a_response_without_a_length_is_sent_in_chunks(start_either):
    """
    And the connection serves the next request.
    """

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in b"one", b"", b"three":
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    served = await start_either({"/stream": stream})
    client = await served.connect()
    await client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b"\r\ntransfer-encoding: chunked\r\n" in (await client.receive_head()).lower()
    assert await client.receive(21) == b"3\r\none\r\n5\r\nthree\r\n0\r\n"
    assert await client.receive(2) == b"\r\n"
    assert await client.get() == (200, b"hello")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_what_has_no_body_is_sent_without(start_either, method, status):
    """
    Whatever the application gives; the next answer follows right behind the head.
    """

    async def talk(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"" if status == 204 else b"text"})

    served = await start_either({"/talk": talk})
    client = await served.connect()
    await client.send(f"{method} /talk HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    assert b" %d " % status in await client.receive_head()
    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (await client.receive_head()).startswith(b"HTTP/1.1 200 ")


async def test_an_old_client_gets_its_answer_up_to_the_end(start_either):
    """
    HTTP/1.0 knows neither chunks nor, unless it asks, a second request.
    """

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    served = await start_either({"/stream": stream})
    client = await served.connect()
    await client.send(b"GET /stream HTTP/1.0\r\n\r\n")
    head = await client.receive_head()
    assert b"transfer-encoding" not in head.lower()
    assert await client.receive_rest() == b"onetwo"


@pytest.mark.parametrize("leave", ["end", "reset"])
async def test_who_waits_for_a_disconnect_hears_of_it(start_either, leave):
    """
    A long poll, or a stream of events, ends when its client goes.
    """
    waiting, heard = trio.Event(), trio.Event()

    async def poll(scope, receive, send):
        assert await whole_body(receive) == b""
        waiting.set()
        assert (await receive()) == {"type": "http.disconnect"}
        heard.set()

    served = await start_either({"/poll": poll})
    client = await served.connect()
    await client.send(b"GET /poll HTTP/1.1\r\nHost: test\r\n\r\n")
    with patience():
        await waiting.wait()
        if leave == "end" or served.tls is not None:
            await client.stream.aclose()
        else:
            client.reset()
        await heard.wait()


async def test_who_receives_after_the_answer_is_told_that_it_is_over(start_either):
    """
    Also a task that was waiting while another one answered.
    """
    heard = []

    async def poll(scope, receive, send):
        async def listen():
            heard.append((await receive())["type"])

        assert await whole_body(receive) == b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            await respond(send, 200, b"done")
        heard.append((await receive())["type"])

    served = await start_either({"/poll": poll})
    client = await served.connect()
    with patience():
        assert await client.get("/poll") == (200, b"done")
        await trio.testing.wait_all_tasks_blocked()
        assert heard == ["http.disconnect"] * 2
        assert await client.get() == (200, b"hello")


async def test_a_body_that_stops_coming_is_answered_with_408(start_either):
    """
    The application that waits for it is told of a disconnect; nothing stays.
    """
    heard = []

    async def patient(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            heard.append(message["body"])
        heard.append(message["type"])

    served = await start_either({"/patient": patient}, body_timeout=0.1)
    client = await served.connect()
    await client.send(b"POST /patient HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst")
    head = await client.receive_head()
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in head.lower()
    await client.receive_rest()
    await client.stream.aclose()
    await served.wait_all_ended()
    assert [part for part in heard if part] == [b"first", "http.disconnect"]


@pytest.mark.parametrize("when", ["before", "amid"])
async def test_a_crash_of_the_application_is_a_500_or_a_cut(start_either, logs, when):
    """
    Before the answer it is a 500; amid the answer the client must not take the half for the whole.
    """

    async def buggy(scope, receive, send):
        if when == "amid":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("a bug")

    served = await start_either({"/buggy": buggy})
    client = await served.connect()
    await client.send(b"GET /buggy HTTP/1.1\r\nHost: test\r\n\r\n")
    if when == "before":
        assert await client.receive_response() == (500, b"")
    else:
        assert (await client.receive_head()).startswith(b"HTTP/1.1 200 ")
        assert await client.receive_rest() == b"4\r\nhalf\r\n"
    assert [entry["exc_info"].args for entry in logs.tracebacks()] == [("a bug",)]
    await served.assert_unharmed()


async def test_messages_arrive_as_they_were_sent(start_either):
    """
    Text, binary and nothing at all, both ways; fragments as one message; a ping in between is answered.
    """
    served = await start_either()
    client = await served.connect()
    await client.upgrade("/echo")
    frame = client.frame
    for opcode, payload in [(1, "ü".encode()), (2, b"\xff"), (2, b""), (1, b""), (2, bytes(60_000))]:
        await client.send(frame(payload, opcode))
        assert await client.receive_frame() == (opcode, payload)
    await client.send(frame(b"one", 1, fin=False) + frame(b"?", 9) + frame(b"two", 0))
    assert await client.receive_frame() == (10, b"?")
    assert await client.receive_frame() == (1, b"onetwo")


async def test_a_handshake_may_be_refused_with_a_whole_response(start_either):
    """
    As the extension `websocket.http.response` says; then the connection ends.
    """

    async def refuse(scope, receive, send):
        await receive()
        headers = [(b"content-length", b"4"), (b"x-why", b"not you")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"pe"})

    served = await start_either({"/refuse": refuse})
    client = await served.connect()
    head = await client.upgrade("/refuse")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nx-why: not you\r\n" in head
    assert await client.receive(4) == b"nope"


async def test_an_accepted_handshake_carries_what_the_application_adds(start_either):
    """
    The subprotocol that it chose, and its headers.
    """

    async def choose(scope, receive, send):
        await receive()
        headers = [(b"x-session", b"7")]
        await send({"type": "websocket.accept", "subprotocol": "bearer", "headers": headers})

    served = await start_either({"/choose": choose})
    client = await served.connect()
    head = await client.upgrade("/choose", more="Sec-WebSocket-Protocol: other, bearer\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    # RFC 6455, section 1.3.
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()
    assert b"\r\nsec-websocket-protocol: bearer\r\n" in head.lower()
    assert b"\r\nx-session: 7\r\n" in head


async def test_a_client_that_is_silent_is_pinged_and_then_closed_with_4408(start_either):
    """
    Any byte is a sign of life; without one, a half-open connection is found.
    """
    served = await start_either(ping_interval=0.1)
    client = await served.connect()
    await client.upgrade("/echo")
    assert await client.receive_frame() == (9, b"")
    await client.send(client.frame(b"", 10))
    assert await client.receive_frame() == (9, b"")
    # For the next ping; the client has had as long as it liked for these.
    served.limits.ping_timeout = 0.1
    await client.send(client.frame(b"still here", 1))
    assert await client.receive_frame() == (1, b"still here")
    assert await client.receive_frame() == (9, b"")
    opcode, payload = await client.receive_frame()
    assert (opcode, payload) == (8, (4408).to_bytes(2, "big") + b"no pong")
    await client.stream.aclose()
