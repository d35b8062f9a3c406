"""Nothing that two parsers could read in two ways gets through: each is refused, and the connection ends."""

import pytest

HOST = b"Host: test\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# What a smuggler hopes to have answered.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n"

LINES = {
    "line ends without CR": b"GET / HTTP/1.1\nHost: test\n\n",
    "header ends without CR": b"GET / HTTP/1.1\r\nHost: test\nX: y\r\n\r\n",
    "head ends without CR": b"GET / HTTP/1.1\r\nHost: test\r\n\n",
    "CR amid a value": GET + b"X: a\rb\r\n\r\n",
    "folded header": GET + b"X: a\r\n b\r\n\r\n",
    "folded by a tab": GET + b"X: a\r\n\tb\r\n\r\n",
    "space before the first header": b"GET / HTTP/1.1\r\n Host: test\r\n\r\n",
    "space before the colon": GET + b"Content-Length : 5\r\n\r\nhello",
    "tab before the colon": GET + b"X\t: y\r\n\r\n",
    "no colon": GET + b"X\r\n\r\n",
    "no name": GET + b": y\r\n\r\n",
    "no token": GET + b"X@Y: z\r\n\r\n",
    "NUL in a name": GET + b"X\0: y\r\n\r\n",
    "NUL in a value": GET + b"X: a\0b\r\n\r\n",
    "control byte in a value": GET + b"X: a\x01b\r\n\r\n",
    "DEL in a value": GET + b"X: a\x7fb\r\n\r\n",
    "space after the version": b"GET / HTTP/1.1 \r\nHost: test\r\n\r\n",
    "tab in the request line": b"GET /\tHTTP/1.1\r\nHost: test\r\n\r\n",
    "method in small letters": b"get / HTTP/1.1 \r\nHost: test\r\n\r\n",
}
LENGTHS = {
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "lengths in a list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "plus": POST + b"Content-Length: +5\r\n\r\nhello",
    "minus": POST + b"Content-Length: -5\r\n\r\nhello",
    "hexadecimal": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "underscore": POST + b"Content-Length: 5_0\r\n\r\nhello",
    "two numbers": POST + b"Content-Length: 5 5\r\n\r\nhello",
    "empty": POST + b"Content-Length:\r\n\r\nhello",
    "beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "length, then coding": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding, then length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "nearly chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "no coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "chunks from HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "body of a handshake": GET
    + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n\r\nhello",
}
CHUNKS = {
    "lines without CR": b"1\nx\n0\n\n",
    "size without CR": b"1\nx\r\n0\r\n\r\n",
    "extension without CR": b"1;a\nx\r\n0\r\n\r\n",
    "data without CR": b"1\r\nx\n0\r\n\r\n",
    "end without CR": b"0\r\n\n",
    "trailer without CR": b"0\r\nT: a\n\r\n",
    "space after the size": b"1 \r\nx\r\n0\r\n\r\n",
    "space before the size": b" 1\r\nx\r\n0\r\n\r\n",
    "0x": b"0x1\r\nx\r\n0\r\n\r\n",
    "plus": b"+1\r\nx\r\n0\r\n\r\n",
    "minus": b"-1\r\nx\r\n0\r\n\r\n",
    "underscore": b"1_0\r\nx\r\n0\r\n\r\n",
    "no digit": b"g\r\nx\r\n0\r\n\r\n",
    "no size": b"\r\nx\r\n0\r\n\r\n",
    "beyond 64 bits": b"fffffffffffffffff\r\nx\r\n0\r\n\r\n",
    "more than its size": b"1\r\nxx\r\n0\r\n\r\n",
    "no end of data": b"1\r\nx0\r\n\r\n",
    "control byte in an extension": b"1;\x01\r\nx\r\n0\r\n\r\n",
    "line end in a quoted extension": b'1;a="\r\n"\r\nx\r\n0\r\n\r\n',
    "length in a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
}
TARGETS = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + HOST + b"\r\n", 400),
    "two hosts of an old client": (b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", 400),
    "a path in the host": (b"GET / HTTP/1.1\r\nHost: test/x\r\n\r\n", 400),
    "a user in the host": (b"GET / HTTP/1.1\r\nHost: a@test\r\n\r\n", 400),
    "a space in the host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "another host's URL": (b"GET http://other/ HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a user in the URL": (b"GET http://a@test/ HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "another scheme": (b"GET ftp://test/ HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "no path": (b"GET test:80 HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a star for GET": (b"GET * HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a fragment": (b"GET /#x HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "bytes beyond ASCII": (b"GET /\xc3\xbc HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a control byte": (b"GET /\x01 HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a tunnel": (b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n", 501),
    "a method nobody knows": (b"BREW / HTTP/1.1\r\nHost: test\r\n\r\n", 501),
    "a method of others": (b"PROPFIND / HTTP/1.1\r\nHost: test\r\n\r\n", 501),
    "a coding nobody undoes": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a stream": (b"SOURCE / ICE/1.0\r\nHost: test\r\n\r\n", 501),
    "a newer version": (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
    "the oldest version": (b"GET /\r\n\r\n", 505),
    "a version in between": (b"GET / HTTP/1.2\r\nHost: test\r\n\r\n", 400),
    "HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
}
REFUSED = {
    **{f"line: {name}": (sent, 400) for name, sent in LINES.items()},
    **{f"length: {name}": (sent, 400) for name, sent in LENGTHS.items()},
    **{f"chunk: {name}": (CHUNKED + sent, 400) for name, sent in CHUNKS.items()},
    **{f"target: {name}": both for name, both in TARGETS.items()},
}
# A coding that is none of ours is "not implemented", whether llhttp or we see it first.
EITHER = {400, 501}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(start, logs, sent, status):
    """
    One answer, `Connection: close`, the end; what hides behind it is never served.
    """
    paths = []

    async def note(scope, receive, send):
        paths.append(scope["path"])
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    served = await start({"/": note, "/hidden": note})
    client = await served.connect()
    await client.send(sent + HIDDEN)
    head = await client.receive_head()
    answered = int(head.split()[1])
    assert answered == status or ("coding" in sent.decode("latin-1").lower() and answered in EITHER)
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await client.receive_rest() == b""
    assert "/hidden" not in paths
    # Only a body that goes wrong can have been begun.
    assert paths == [] or sent.startswith(CHUNKED)
    assert logs.tracebacks() == []


async def test_a_body_with_another_protocol_s_wish_is_read_as_a_body(start):
    """
    A wish for h2c is ignored, and the body's bytes are no request; the next request is.
    """
    bodies = []

    async def note(scope, receive, send):
        message = await receive()
        bodies.append(message["body"])
        assert not message["more_body"]
        assert b"upgrade" not in dict(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    served = await start({"/note": note})
    client = await served.connect()
    for framing, body in [
        (b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    ]:
        head = b"POST /note HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n"
        await client.send(head + framing + b"\r\n" + body)
        assert await client.receive_response() == (200, b"")
    assert await client.get() == (200, b"hello")
    assert bodies == [HIDDEN, HIDDEN]


async def test_whole_urls_stars_and_empty_lines_are_understood(start):
    """
    What RFC 9112 wants of a server, though clients rarely send it.
    """
    seen = []

    async def note(scope, receive, send):
        seen.append((scope["method"], scope["path"], scope["query_string"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    served = await start({"/a": note, "/": note, "*": note})
    client = await served.connect()
    await client.send(b"\r\nGET http://test/a?b HTTP/1.1\r\nHost: test\r\n\r\n")
    await client.send(b"GET HTTP://TEST HTTP/1.1\r\nHost: test\r\n\r\n")
    await client.send(b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n")
    for _ in range(3):
        assert await client.receive_response() == (200, b"")
    assert seen == [("GET", "/a", b"b"), ("GET", "/", b""), ("OPTIONS", "*", b"")]
