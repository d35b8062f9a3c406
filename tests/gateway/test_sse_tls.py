"""Event streams over TLS: the same as without, by Hypercorn's protocol."""

import ssl

import pytest
import trio

from tests.gateway.event_source import EventSource
from tests.gateway.node_fixture import until


@pytest.fixture
async def secure(start_greenroom, certificate):
    """
    A node that serves over TLS only.
    """
    return await start_greenroom(
        {
            "node.name": "secure",
            "server.tls_certificate": str(certificate),
            "server.tls_key": str(certificate),
        }
    )


async def listen(secure, certificate, last_id=""):
    tls = ssl.create_default_context(cafile=str(certificate))
    line = await trio.open_tcp_stream("127.0.0.1", secure.port)
    source = EventSource(trio.SSLStream(line, tls, server_hostname="localhost", https_compatible=True))
    headers = {"Authorization": f"Bearer {secure.token('bob@example.com', 'viewer')}"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    await source.open("/api/v1/stream", headers)
    return source


async def test_a_stream_over_tls_tells_what_happens_and_what_was_missed(greenroom, secure, certificate):
    """
    Live, from another node's commits too; and after a break what came meanwhile.
    """
    source = await listen(secure, certificate)
    assert (source.status, source.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (await source.receive()).event == "subscribed"
    await greenroom.create("Pilot")
    pilot = await source.receive()
    assert pilot.data["data"]["episode"]["title"] == "Pilot"
    kept = source.last_id
    await trio.aclose_forcefully(source.stream)
    await until(lambda: secure.application.streams.sessions.count == 0)
    for title in ("Second", "Third"):
        await greenroom.create(title)
    source = await listen(secure, certificate, kept)
    assert (await source.receive()).data["recovered"]
    missed = [await source.receive()]
    # Of the catalog's events a few may come again: their ids tell.
    if missed[0].data["id"] == pilot.data["id"]:
        missed.clear()
    missed += await source.take(2 - len(missed))
    assert [block.data["data"]["episode"]["title"] for block in missed] == ["Second", "Third"]
    await trio.aclose_forcefully(source.stream)


async def test_a_stream_over_tls_ends_in_good_order_when_the_node_stops(secure, certificate):
    """
    `bye` says when to come again, and the stream ends.
    """
    source = await listen(secure, certificate)
    assert (await source.receive()).event == "subscribed"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(secure.stop)
        [bye] = await source.rest()
        # Else the node waits for it to go.
        await trio.aclose_forcefully(source.stream)
    assert (bye.event, bye.data["code"]) == ("bye", 1001)
