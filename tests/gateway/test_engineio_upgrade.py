"""Engine.IO's move from polling to WebSocket, who may do it from where, and what bounds a session."""

import json
from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.gateway.engine_line import Line, Probe
from tests.gateway.test_engineio import Echo, play
from tests.patience import patience, undisturbed

__all__ = ["play"]

Play = Callable[..., Awaitable[tuple[Line, Echo]]]


async def test_a_session_moves_to_websocket_and_loses_nothing(play: Play) -> None:
    """
    A poll that waits is released; what was sent meanwhile comes over the WebSocket, in order.
    """
    line, echo = await play()
    sid = await line.open()
    waiting = await line.connect()
    await line.send(waiting, "GET", f"EIO=4&transport=polling&sid={sid}")
    with patience():
        while not echo.sessions[sid].is_polled:  # noqa: ASYNC110
            await trio.sleep(0.005)
    probe = await line.websocket(f"EIO=4&transport=websocket&sid={sid}")
    assert isinstance(probe, Probe)
    await probe.send("2probe")
    assert await probe.receive() == "3probe"
    assert (await line.reply(waiting)).text == "6"
    # Between two polls, and amid the upgrade.
    echo.sessions[sid].send("one")
    echo.sessions[sid].send(b"two")
    await probe.send("5")
    assert [await probe.receive(), await probe.receive()] == ["4one", b"two"]
    await probe.send("4three")
    assert await probe.receive() == "4three"
    assert (await line.poll(sid)).status == 400
    assert (await line.post(sid, "4four")).status == 400
    assert echo.reasons == []


async def test_a_poll_amid_an_upgrade_ends_soon(play: Play) -> None:
    """
    The client upgrades when its poll has ended.
    """
    line, _ = await play()
    sid = await line.open()
    probe = await line.websocket(f"EIO=4&transport=websocket&sid={sid}")
    assert isinstance(probe, Probe)
    await probe.send("2probe")
    assert await probe.receive() == "3probe"
    reply = await line.poll(sid)
    assert (reply.status, reply.text) == (200, "6")
    await probe.send("5")
    await probe.send("4hello")
    assert await probe.receive() == "4hello"


async def test_a_session_has_one_websocket(play: Play) -> None:
    """
    Another one is accepted and closed; the first goes on.
    """
    line, echo = await play()
    sid = await line.open()
    probe = await line.upgraded(sid)
    await probe.send("4hello")
    assert await probe.receive() == "4hello"
    second = await line.websocket(f"EIO=4&transport=websocket&sid={sid}")
    assert isinstance(second, Probe)
    assert await second.closed() == 1000
    await probe.send("4still here")
    assert await probe.receive() == "4still here"
    assert echo.reasons == []


@pytest.mark.parametrize("packets", [["4hello"], ["2probe", "4hello"], ["2prob"], [b"2probe"]])
async def test_an_upgrade_that_goes_wrong_leaves_the_session_where_it_was(
    play: Play, packets: list[str | bytes]
) -> None:
    """
    The WebSocket is closed; polling goes on.
    """
    line, echo = await play()
    sid = await line.open()
    probe = await line.websocket(f"EIO=4&transport=websocket&sid={sid}")
    assert isinstance(probe, Probe)
    for packet in packets:
        await probe.send(packet)
    if len(packets) > 1:
        assert await probe.receive() == "3probe"
    assert await probe.closed() == 1000
    assert (await line.post(sid, "4hello")).status == 200
    assert (await line.poll(sid)).text == "4hello"
    assert echo.reasons == []


async def test_an_upgrade_that_is_not_finished_in_time_is_given_up(play: Play) -> None:
    """
    The session goes on polling.
    """
    line, _ = await play(upgrade_timeout=0.2)

    async def stop_half_way() -> None:
        sid = await line.open()
        probe = await line.websocket(f"EIO=4&transport=websocket&sid={sid}")
        assert isinstance(probe, Probe)
        await probe.send("2probe")
        assert await probe.receive() == "3probe"
        assert await probe.closed() == 1000
        assert (await line.post(sid, "4hello")).status == 200
        assert (await line.poll(sid)).text == "4hello"

    await undisturbed(stop_half_way)


async def test_a_websocket_that_breaks_off_ends_its_session(play: Play) -> None:
    """
    After an upgrade there is no way back.
    """
    line, echo = await play()
    sid = await line.open()
    probe = await line.upgraded(sid)
    await probe.send("4hello")
    assert await probe.receive() == "4hello"
    await trio.aclose_forcefully(probe.raw.stream)
    with patience():
        while not echo.reasons:  # noqa: ASYNC110
            await trio.sleep(0.005)
    assert echo.reasons == ["transport close"]
    reply = await line.poll(sid)
    assert (reply.status, reply.json["code"]) == (400, 1)


async def test_transports_that_are_not_allowed_are_refused(play: Play) -> None:
    """
    And not offered as an upgrade.
    """
    line, _ = await play(transports=("polling",))
    reply = await line.request("GET", "EIO=4&transport=polling")
    assert json.loads(reply.text[1:])["upgrades"] == []
    assert await line.websocket() == 400
    sid = json.loads(reply.text[1:])["sid"]
    assert await line.websocket(f"EIO=4&transport=websocket&sid={sid}") == 400


async def test_pages_of_an_allowed_origin_may_send_credentials(play: Play) -> None:
    """
    Preflight and answers name the origin; another one is refused, also by WebSocket.
    """
    line, echo = await play(origins=("https://studio.example.com",))
    query = "EIO=4&transport=polling"
    allowed = {"Origin": "https://studio.example.com"}
    preflight = await line.request(
        "OPTIONS",
        query,
        headers={
            **allowed,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-studio",
        },
    )
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-methods"] == "get, post"
    assert preflight.headers["access-control-allow-headers"] == "x-studio"
    for reply in (preflight, await line.request("GET", query, headers=allowed)):
        assert reply.headers["access-control-allow-origin"] == "https://studio.example.com"
        assert reply.headers["access-control-allow-credentials"] == "true"
        assert reply.headers["vary"] == "origin"
    other = await line.request("GET", query, headers={"Origin": "https://evil.example.com"})
    assert other.status == 403
    assert "access-control-allow-origin" not in other.headers
    assert await line.websocket(more="Origin: https://evil.example.com\r\n") == 403
    assert isinstance(await line.websocket(more="Origin: https://studio.example.com\r\n"), Probe)
    # The node's own pages, and what is no page.
    assert (await line.request("GET", query, headers={"Origin": "http://test"})).status == 200
    assert len(echo.sessions) == 3


async def test_pages_of_any_origin_may_connect_without_credentials(play: Play) -> None:
    """
    If that is what is wanted: the browser then keeps its cookies to itself.
    """
    line, _ = await play(origins=("*",))
    reply = await line.request(
        "GET", "EIO=4&transport=polling", headers={"Origin": "https://any.example.com"}
    )
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers


async def test_a_client_that_fetches_nothing_is_too_slow(play: Play) -> None:
    """
    What waits for it is bounded; then it is gone.
    """
    line, echo = await play(backlog=1000)
    sid = await line.open()
    session = echo.sessions[sid]
    # The first push, with nothing before it, does not count.
    for _ in range(3):
        assert session.send("x" * 600)
    assert not session.send("x")
    assert (await line.poll(sid)).status in (200, 400)
    assert echo.reasons == ["too slow"]
    assert (await line.poll(sid)).status == 400


async def test_there_are_at_most_so_many_sessions(play: Play) -> None:
    """
    One more is told to come later.
    """
    line, _ = await play(max_sessions=1)
    await line.open()
    assert (await line.request("GET", "EIO=4&transport=polling")).status == 503
    assert await line.websocket() == 503
