"""TLS and HTTP/2, which are Hypercorn's: served and contained like the rest."""

import ssl

import h2.connection
import h2.events
import pytest
import trio

from tests.gateway.applications import accept
from tests.patience import patience


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
    with patience():
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


@pytest.mark.parametrize("opened", ["websocket", "request"])
async def test_over_http2_a_client_that_is_silent_is_pinged_and_then_ended(start, certificate, opened):
    """
    Whatever it has open, a half-open connection is found.
    """
    ended = trio.Event()

    async def wait(scope, receive, send):
        while (await receive())["type"] not in ("websocket.disconnect", "http.disconnect"):
            if scope["type"] == "websocket":
                await send({"type": "websocket.accept"})
        ended.set()

    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    server_tls.set_alpn_protocols(["h2"])
    served = await start({"/wait": wait}, tls=server_tls, ping_interval=0.1)
    client_tls = ssl.create_default_context(cafile=str(certificate))
    client_tls.set_alpn_protocols(["h2"])
    client = await served.connect()
    stream = trio.SSLStream(client.stream, client_tls, server_hostname="localhost", https_compatible=True)
    http2 = h2.connection.H2Connection()
    http2.initiate_connection()
    fields = {":method": "GET", ":path": "/wait", ":scheme": "https", ":authority": "localhost"}
    if opened == "websocket":
        fields |= {":method": "CONNECT", ":protocol": "websocket", "sec-websocket-version": "13"}
    http2.send_headers(1, list(fields.items()))
    if opened == "request":
        http2.end_stream(1)
    await stream.send_all(http2.data_to_send())

    async def wait_pinged():
        while True:
            data = await stream.receive_some()
            events = http2.receive_data(data)
            if not data or any(isinstance(event, h2.events.PingReceived) for event in events):
                return bool(data)

    with patience():
        for number in range(3):
            assert await wait_pinged()
            if number == 2:
                served.limits.ping_timeout = 0.1  # for the next one
            # The answer, which is a sign of life.
            await stream.send_all(http2.data_to_send())
        assert not ended.is_set()
        while await wait_pinged():
            pass
        await ended.wait()
    await stream.aclose()
    await served.wait_all_ended()


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
