"""How /real-time says goodbye: `bye`, then the close code that is public API; whatever the client did."""

import time
from contextlib import suppress

import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.gateway.raw_client import HANDSHAKE, RawClient
from tests.patience import patience

BAD_MESSAGES = (
    "",
    "x",
    "{",
    "null",
    "[]",
    "{}",
    '"ping"',
    '{"type": "dance"}',
    '{"type": 1}',
    '{"type": "ping"} {"type": "ping"}',
    '{"type": "ping", "more": 1}',
    '{"type": "ping", "ref": []}',
    '{"type": "ping", "ref": 1.5}',
    '{"type": "ping", "ref": ' + "9" * 5000 + "}",
    '{"type": "ping", "ref": "\\ud800"}',
    '{"type": "subscribe"}',
    '{"type": "subscribe", "topic": 1}',
    '{"type": "subscribe", "topic": null}',
    '{"type": "subscribe", "topic": "catalog", "since": 1}',
    '{"type": "subscribe", "topic": "catalog", "since": {"offset": [1], "epoch": ""}}',
    '{"type": "subscribe", "topic": "catalog", "since": {"offset": 1}}',
    '{"type": "subscribe", "topic": "catalog", "since": {"offset": 1e999, "epoch": ""}}',
    '{"type": "presence", "resourceType": "episode"}',
    '{"type": "presence", "resource_type": "episode", "resource_id": "x"}',
    '{"type": "presence", "resourceType": "episode", "resourceId": 1}',
    '{"type": "refresh"}',
    '{"type": "connect", "token": 1}',
    '{"type": "call", "args": ' + "[" * 30_000 + "}",
)


async def test_a_message_that_is_none_closes_with_4400(greenroom):
    """
    Malformed, of no known type, with wrong, missing or unknown fields: bye says what was wrong, for good.
    """
    for text in BAD_MESSAGES:
        bob = await greenroom.connect()
        await bob.send_text(text)
        bye, code = await bob.bye()
        assert code == 4400, text
        assert bye["reason"].startswith("not a message of this protocol: ")
        assert (bye["type"], bye["code"], bye["resume"], bye["reconnect_after"]) == ("bye", 4400, False, 0)
        assert set(bye) == {"type", "code", "reason", "resume", "reconnect_after", "positions"}


async def test_a_bad_first_message_closes_with_4400_too(greenroom):
    """
    Before anybody is authenticated.
    """
    for text in ("x", '{"type": "connect"}', '{"type": "connect", "token": "x", "more": 1}', b"\x00"):
        frontend = await greenroom.open()
        await frontend.send_text(text)
        assert (await frontend.bye())[1] == 4400


async def test_a_binary_frame_closes_with_4400(greenroom):
    """
    Messages are JSON in text frames; an empty binary one is no exception.
    """
    for data in (b'{"type": "ping"}', b"\x00\xff", b""):
        bob = await greenroom.connect()
        await bob.send_text(data)
        bye, code = await bob.bye()
        assert (code, "binary" in bye["reason"]) == (4400, True)


async def test_who_does_not_connect_is_closed_with_4401(start_greenroom):
    """
    With another message first, or with none at all within the time there is for it.
    """
    greenroom = await start_greenroom({"auth.connect_timeout": "100ms"})
    for first in ({"type": "ping"}, {"type": "subscribe", "topic": "catalog"}):
        frontend = await greenroom.open()
        await frontend.send(**first)
        bye, code = await frontend.bye()
        assert (code, "connect" in bye["reason"], bye["resume"]) == (4401, True, False)
    silent = await greenroom.open()
    bye, code = await silent.bye()
    assert (code, bye["reason"]) == (4401, "no connect message within 0.1 s")


async def test_a_token_that_expires_meanwhile_closes_with_4440(greenroom, put_clock_forward):
    """
    The client gets a new token and comes back.
    """
    bob = await greenroom.connect(ttl=600)
    put_clock_forward(599.8)
    assert await bob.ask(type="ping") == {"type": "ok"}
    bye, code = await bob.bye()
    assert (code, bye["code"], bye["resume"]) == (4440, 4440, True)
    assert bye["reconnect_after"] > 0


async def test_a_refreshed_token_keeps_the_session(greenroom, put_clock_forward):
    """
    Subscriptions go on beyond the old token's end, and the new token's end holds.
    """
    episode = await greenroom.create()
    bob = await greenroom.connect(ttl=600)
    await bob.ask(type="subscribe", topic=f"episode:{episode['id']}")
    refreshed = await bob.ask(type="refresh", token=greenroom.token("bob@example.com", ttl=1200))
    assert refreshed["type"] == "ok"
    assert 1100 < refreshed["expires_at"] - time.time() <= 1200
    assert (await bob.receive())["type"] == "subscribed"
    put_clock_forward(900)
    assert await bob.pending() == []
    await greenroom.request("PATCH", f"episodes/{episode['id']}", {"title": "New"})
    assert (await bob.receive())["event"] == "episode_updated"
    put_clock_forward(300)
    assert await bob.ask(type="ping") == {"type": "ok"}
    assert (await bob.bye())[1] == 4440


async def test_too_many_sessions_of_one_user_are_closed_with_4429(start_greenroom):
    """
    Of that user only; when one ends there is room again.
    """
    greenroom = await start_greenroom({"limits.sessions_per_user": 2})
    one, _two = await greenroom.connect(), await greenroom.connect()
    for _ in range(2):
        third = await greenroom.open(
            headers=[("Authorization", f"Bearer {greenroom.token('bob@example.com')}")]
        )
        bye, code = await third.bye()
        assert (code, bye["resume"]) == (4429, True)
        assert "bob@example.com" in bye["reason"]
    await greenroom.connect("carol@example.com")
    await one.ws.aclose()
    with patience():
        while greenroom.application.real_time.sessions.count > 2:  # noqa: ASYNC110
            await trio.sleep(0.005)
    await greenroom.connect()


async def test_a_node_that_is_full_says_4503(start_greenroom):
    """
    Not the client's fault: it comes back later.
    """
    greenroom = await start_greenroom({"limits.sessions": 1})
    await greenroom.connect()
    late = await greenroom.open()
    await late.send(type="connect", token=greenroom.token("carol@example.com"))
    bye, code = await late.bye()
    assert (code, bye["code"], bye["resume"]) == (4503, 4503, True)
    assert bye["reconnect_after"] > 0


async def test_a_flood_of_messages_is_closed_with_4429(start_greenroom):
    """
    What the burst allows is answered first; the others do not notice.
    """
    greenroom = await start_greenroom({"limits.messages_per_second": 1, "limits.message_burst": 5})
    carol = await greenroom.connect("carol@example.com")
    bob = await greenroom.connect()
    with suppress(ConnectionClosed):  # the node need not hear all of them
        for _ in range(100):
            await bob.send(type="ping")
    told = []
    with pytest.raises(ConnectionClosed):
        while True:
            told.append(await bob.receive())
    assert {message["type"] for message in told[:-1]} == {"ok"}
    last = told[-1]
    assert (last["type"], last["code"], bob.ws.closed.code) == ("bye", 4429, 4429)
    assert await carol.pending() == []


async def test_an_oversized_message_is_closed_with_1009(start_greenroom):
    """
    Whether it comes as one frame or in parts; the largest that is allowed is read.
    """
    greenroom = await start_greenroom({"limits.max_message": "4KiB"})
    bob = await greenroom.connect()
    padding = 4096 - len('{"type":"ping","ref":""}')
    await bob.send_text('{"type":"ping","ref":"' + "r" * padding + '"}')
    assert len((await bob.receive())["ref"]) == padding
    await bob.send_text('{"type":"ping","ref":"' + "r" * 10_000 + '"}')
    while True:
        try:
            assert (await bob.receive())["type"] == "bye"
        except ConnectionClosed as closed:
            assert closed.reason.code == 1009
            break


async def test_only_real_time_speaks_websocket(greenroom):
    """
    Anywhere else the handshake is refused with 403, and nothing is left behind.
    """
    for path in ("/", "/real-time/", "/api/v1/episodes", "/socket"):
        async with await trio.open_tcp_stream("127.0.0.1", greenroom.port) as stream:
            assert (await RawClient(stream).upgrade(path)).startswith(b"HTTP/1.1 403 ")
    (await greenroom.request("GET", "/real-time")).problem(404)


async def test_a_draining_node_says_goodbye_to_everybody_and_ends_in_time(start_greenroom):
    """
    bye and 1001 for connected, watching, silent and half-connected clients; presence rows are gone after it.
    """
    greenroom = await start_greenroom({"server.reconnect_after": "3s", "server.reconnect_window": "0s"})
    episode = await greenroom.create()
    frontends = [await greenroom.connect(f"user{number}@example.com") for number in range(20)]
    for frontend in frontends[:10]:
        await frontend.ask(type="subscribe", topic=f"episode:{episode['id']}")
        await frontend.ask(type="presence", resourceType="episode", resourceId=episode["id"])
    frontends.append(await greenroom.open())
    byes = []

    async def listen(frontend):
        byes.append(await frontend.bye())

    async with trio.open_nursery() as nursery:
        for frontend in frontends:
            nursery.start_soon(listen, frontend)
        nursery.start_soon(greenroom.stop)
    assert len(byes) == 21
    for bye, code in byes:
        assert (code, bye["code"], bye["resume"], bye["reconnect_after"]) == (1001, 1001, True, 3)
    with pytest.raises(OSError, match=r"refused|all attempts"):
        await trio.open_tcp_stream("127.0.0.1", greenroom.port)


async def test_a_client_that_hears_nothing_does_not_hold_up_the_end(start_greenroom):
    """
    One that never reads, one that stopped in the middle of a request: the node ends within its grace.
    """
    greenroom = await start_greenroom({"node.shutdown_grace": "1s"})
    async with await trio.open_tcp_stream("127.0.0.1", greenroom.port) as deaf:
        more = f"Authorization: Bearer {greenroom.token()}\r\n"
        await deaf.send_all(HANDSHAKE.format(path="/real-time", more=more).encode())
        async with await trio.open_tcp_stream("127.0.0.1", greenroom.port) as slow:
            await slow.send_all(b"POST /api/v1/episodes HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            await greenroom.connect()
            with patience():
                await greenroom.stop()


async def test_the_session_of_a_closed_client_leaves_nothing_behind(greenroom):
    """
    Subscriptions, presence and its count are gone, however it ended.
    """
    episode = await greenroom.create()
    for end in ("close", "vanish", "bad message"):
        bob = await greenroom.subscriber(f"episode:{episode['id']}")
        await bob.ask(type="presence", resourceType="episode", resourceId=episode["id"])
        assert greenroom.node.hub.statistics().sessions == 1
        if end == "close":
            await bob.ws.aclose()
        elif end == "vanish":
            await bob.vanish()
        else:
            await bob.send_text("x")
            await bob.bye()
        with patience():
            while greenroom.node.hub.statistics().sessions:  # noqa: ASYNC110
                await trio.sleep(0.005)
        assert greenroom.application.real_time.sessions.count == 0
        presence = await greenroom.request("GET", f"episodes/{episode['id']}/presence")
        assert presence.json == {"data": [], "total": 0, "next_cursor": None}
