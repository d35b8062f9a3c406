"""Ended WebSockets are counted by close code, whoever's the protocol is: ours, or Hypercorn's over TLS."""

import ssl

import h2.connection
import h2.events
import pytest
import trio

from tests.gateway.applications import accept
from tests.gateway.node_fixture import until
from tests.patience import patience


async def expel(scope, receive, send):
    await accept(receive, send)
    await send({"type": "websocket.close", "code": 4401, "reason": "not authenticated"})


async def crash(scope, receive, send):
    await accept(receive, send)
    raise RuntimeError("a bug")


async def refuse(scope, receive, send):
    await receive()
    await send({"type": "websocket.close"})


ROUTES = {"/expel": expel, "/crash": crash, "/refuse": refuse}


@pytest.mark.parametrize(
    ("path", "said", "code"),
    [
        ("/expel", None, 4401),
        ("/crash", None, 1011),
        ("/echo", (b"\x03\xe8", 8), 1000),
        ("/echo", (b"\x0f\xa0bye", 8), 4000),
        ("/echo", (b"", 8), 1005),
        ("/echo", (bytes(200), 2), 1009),
        ("/echo", (b"", 3), 1002),
        ("/echo", (b"\xff", 1), 1007),
        ("/echo", (b"\x03\xe8\xff", 8), 1007),
    ],
)
async def test_what_its_close_frame_says_is_counted_once(start_either, logs, path, said, code):
    """
    The application's code, the client's, and the protocol's own.
    """
    served = await start_either(ROUTES, max_message=100)
    client = await served.connect()
    await client.upgrade(path)
    if said is not None:
        await client.send(client.frame(*said))
    await client.receive_rest()
    await client.stream.aclose()
    await until(lambda: served.traffic.closes)
    assert served.traffic.closes == {code: 1}
    assert served.traffic.websockets == 1, "the bystander"
    await served.wait_all_ended()


async def test_one_that_goes_without_a_word_is_a_1006(start_either):
    """
    It is counted while it is there, too.
    """
    served = await start_either()
    client = await served.connect()
    await client.upgrade("/echo")
    await client.send(client.frame(b"here", 1))
    await client.receive_frame()
    assert served.traffic.websockets == 2
    await trio.aclose_forcefully(client.stream)
    await until(lambda: served.traffic.closes)
    assert served.traffic.closes == {1006: 1}
    assert served.traffic.websockets == 1
    await served.wait_all_ended()


async def test_a_silent_one_is_a_4408(start_either):
    """
    Its client is gone, or frozen; the code is what was sent to it.
    """
    served = await start_either(ping_interval=0.2, ping_timeout=0.2)
    client = await served.connect()
    await client.upgrade("/echo")
    # The bystander is as silent.
    for silent in (client, served.bystander):
        assert await silent.receive_frame() == (9, b"")
        assert await silent.receive_close() == 4408
        # Else the server waits for it to go.
        await silent.stream.aclose()
    await until(lambda: served.traffic.closes[4408] == 2)
    assert served.traffic.closes == {4408: 2}


async def test_a_refused_handshake_has_ended_well(start_either):
    """
    As a request that was answered.
    """
    served = await start_either(ROUTES)
    client = await served.connect()
    assert b" 403 " in await client.upgrade("/refuse")
    await client.stream.aclose()
    await until(lambda: served.traffic.closes)
    assert served.traffic.closes == {1000: 1}
    await served.wait_all_ended()


async def test_over_http2_each_stream_is_counted(start, certificate):
    """
    A connection has many; a body that begins like a close frame is none.
    """

    async def body(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"\x88\x02\x03\xe8"})

    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    server_tls.set_alpn_protocols(["h2"])
    served = await start({**ROUTES, "/body": body}, tls=server_tls)
    client_tls = ssl.create_default_context(cafile=str(certificate))
    client_tls.set_alpn_protocols(["h2"])
    client = await served.connect()
    stream = trio.SSLStream(client.stream, client_tls, server_hostname="localhost", https_compatible=True)
    http2 = h2.connection.H2Connection()
    http2.initiate_connection()
    fields = {":scheme": "https", ":authority": "localhost"}
    websocket = {":method": "CONNECT", ":protocol": "websocket", **fields}
    for number, path in enumerate(("/expel", "/echo", "/expel")):
        headers = {**websocket, ":path": path, "sec-websocket-version": "13"}
        http2.send_headers(2 * number + 1, list(headers.items()))
    http2.send_headers(7, list({":method": "GET", ":path": "/body", **fields}.items()), end_stream=True)
    await stream.send_all(http2.data_to_send())
    received = b""
    with patience():
        while served.traffic.closes[4401] < 2 or b"\x88\x02\x03\xe8" not in received:
            for event in http2.receive_data(await stream.receive_some()):
                if isinstance(event, h2.events.DataReceived):
                    received += event.data
    assert served.traffic.closes == {4401: 2}
    assert served.traffic.websockets == 1
    await trio.aclose_forcefully(stream)
    await until(lambda: served.traffic.closes[1006])
    assert served.traffic.closes == {4401: 2, 1006: 1}
    assert served.traffic.websockets == 0
