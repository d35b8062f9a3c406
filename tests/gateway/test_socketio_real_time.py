"""The namespace /real-time as Socket.IO clients see it, packet by packet."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.gateway.engine_line import Line, Probe
from tests.gateway.node_fixture import RunningNode, until
from tests.gateway.raw_client import RawClient
from tests.patience import patience

Start = Callable[..., Awaitable[RunningNode]]


def line_to(greenroom: RunningNode) -> Line:
    async def connect() -> RawClient:
        with patience():
            return RawClient(await trio.open_tcp_stream("127.0.0.1", greenroom.port))

    return Line(connect=connect, path="/socket.io/")


def event_of(packet: str | bytes) -> list[Any]:
    """
    The event in a packet of the namespace: its name and its arguments.
    """
    assert isinstance(packet, str) and packet.startswith("42/real-time,"), packet
    event: list[Any] = json.loads(packet.removeprefix("42/real-time,"))
    return event


async def entered(greenroom: RunningNode, user: str = "bob@example.com", **auth: Any) -> Probe:
    """
    A client in the namespace, over WebSocket.
    """
    probe = await line_to(greenroom).opened()
    given = {"token": greenroom.token(user), **auth}
    await probe.send("40/real-time," + json.dumps(given))
    answer = await probe.receive()
    assert isinstance(answer, str) and answer.startswith("40/real-time,{"), answer
    return probe


async def ask(probe: Probe, name: str, *args: Any) -> Any:
    """
    The ack of an event; what comes before it is dropped.
    """
    await probe.send(f"42/real-time,7{json.dumps([name, *args])}")
    while not str(packet := await probe.receive()).startswith("43/real-time,7"):
        pass
    assert isinstance(packet, str)
    [answer] = json.loads(packet.removeprefix("43/real-time,7"))
    return answer


async def test_an_event_comes_under_its_name_with_its_data(greenroom: RunningNode) -> None:
    """
    The same data that a WebSocket's frame has.
    """
    frontend = await greenroom.connect("carol@example.com")
    probe = await entered(greenroom)
    await greenroom.create("Pilot")
    frame = await frontend.receive()
    assert event_of(await probe.receive())[:2] == ["episode_created", frame["data"]]


async def test_events_come_over_polling_too(greenroom: RunningNode) -> None:
    """
    All that happened between two polls comes with the second.
    """
    line = line_to(greenroom)
    sid = await line.open()
    await line.post(sid, "40/real-time," + json.dumps({"token": greenroom.token()}))
    assert (await line.poll(sid)).text.startswith("40/real-time,{")
    titles = ["One", "Twö", "Three"]
    for title in titles:
        await greenroom.create(title)
    found: list[str] = []
    while len(found) < len(titles):
        for packet in (await line.poll(sid)).text.split("\x1e"):
            found.append(event_of(packet)[1]["episode"]["title"])
    assert found == titles


@pytest.mark.parametrize("auth", [None, {}, {"token": "bad"}, {"token": 7}])
async def test_who_proves_nothing_is_refused(greenroom: RunningNode, auth: Any) -> None:
    """
    By connect_error, with a message for people and a code for programs; the line goes on.
    """
    probe = await line_to(greenroom).opened()
    await probe.send("40/real-time," + ("" if auth is None else json.dumps(auth)))
    packet = await probe.receive()
    assert isinstance(packet, str) and packet.startswith("44/real-time,")
    error = json.loads(packet.removeprefix("44/real-time,"))
    assert error["data"] == {"code": 4401}
    assert error["message"]
    await probe.send("40/real-time," + json.dumps({"token": greenroom.token()}))
    assert str(await probe.receive()).startswith("40/real-time,{")


async def test_limits_of_sessions_hold_for_all_kinds_of_them(start_greenroom: Any) -> None:
    """
    A session over WebSocket counts; one that has gone does not.
    """
    greenroom: RunningNode = await start_greenroom({"limits.sessions_per_user": 1})
    frontend = await greenroom.connect("bob@example.com")
    probe = await line_to(greenroom).opened()
    wish = "40/real-time," + json.dumps({"token": greenroom.token("bob@example.com")})
    await probe.send(wish)
    packet = str(await probe.receive())
    assert json.loads(packet.removeprefix("44/real-time,"))["data"] == {"code": 4429}
    await frontend.vanish()
    await until(lambda: greenroom.node.hub.statistics().sessions == 0)
    await probe.send(wish)
    assert str(await probe.receive()).startswith("40/real-time,{")


async def test_viewers_see_each_other_come_and_go(greenroom: RunningNode) -> None:
    """
    Whoever is in the episode's room is told, whatever protocol the others speak.
    """
    episode = (await greenroom.create())["id"]
    frontend = await greenroom.connect("carol@example.com")
    await frontend.ask(type="presence", resourceType="episode", resourceId=episode)
    probe = await entered(greenroom)
    room = {"resourceType": "episode", "resourceId": episode, "userName": "Bob"}
    assert await ask(probe, "presence:join", room) == {"ok": True}
    while (message := await frontend.receive()).get("total") != 2:
        pass
    assert [viewer["userName"] for viewer in message["joined"]] == ["Bob"]
    await frontend.ask(type="leave", resourceType="episode", resourceId=episode)
    name, update = "", {"total": 0}
    while update["total"] != 1 or not update.get("left"):
        name, update = event_of(await probe.receive())
    assert name == "presence:update"
    assert (update["resourceId"], update["left"][0]["userId"]) == (episode, "carol@example.com")
    assert (await ask(probe, "presence:viewers", {"resourceType": "episode", "resourceId": episode}))[
        "total"
    ] == 1
    assert await ask(probe, "presence:leave", room) == {"ok": True}
    assert (await ask(probe, "presence:leave", room))["code"] == "not_present"


async def test_a_client_that_breaks_off_is_missed_at_once(greenroom: RunningNode) -> None:
    """
    Nothing of it is left in the hub, and its place among the sessions is free.
    """
    episode = (await greenroom.create())["id"]
    probe = await entered(greenroom)
    await ask(probe, "presence:join", {"resourceType": "episode", "resourceId": episode})
    await trio.aclose_forcefully(probe.raw.stream)
    await until(lambda: greenroom.node.hub.statistics().sessions == 0)
    await until(lambda: greenroom.application.streams.sessions.count == 0)


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [
        ("presence:join", [], "bad_message"),
        ("presence:join", [7], "bad_message"),
        ("presence:join", [{"resourceType": "episode"}], "bad_message"),
        ("presence:join", [{"resourceType": "episode", "resourceId": "x"}], "unknown_resource"),
        ("presence:leave", [{"resourceType": "episode", "resourceId": "x"}], "not_present"),
        ("refresh", [{"token": "bad"}], "bad_token"),
        ("no such event", [], "unknown_event"),
    ],
)
async def test_what_cannot_be_done_is_told_in_the_ack(
    greenroom: RunningNode, name: str, args: list[Any], code: str
) -> None:
    """
    With the codes of the WebSocket's protocol; the session goes on.
    """
    probe = await entered(greenroom)
    answer = await ask(probe, name, *args)
    assert (answer["ok"], answer["code"]) == (False, code)
    assert answer["message"]
    assert await ask(probe, "ping") == {"ok": True}


async def test_the_end_of_a_token_ends_the_line(start_greenroom: Start) -> None:
    """
    After a bye; a refreshed one lasts longer.
    """
    greenroom = await start_greenroom({"socketio.ping_interval": "1h"})
    probe, kept = await entered(greenroom), await entered(greenroom)
    assert (await ask(kept, "refresh", {"token": greenroom.token("bob@example.com", ttl=1200)}))["ok"] is True
    let_pass(greenroom, 900)
    name, bye = event_of(await probe.receive())
    assert (name, bye["code"], bye["resume"]) == ("bye", 4440, True)
    assert await probe.closed() == 1000
    assert await ask(kept, "ping") == {"ok": True}
    let_pass(greenroom, 1300)
    assert event_of(await kept.receive())[1]["code"] == 4440
    assert await kept.closed() == 1000


def let_pass(greenroom: RunningNode, seconds: float) -> None:
    """
    Do what is due within that time to the lines, as if it were now.
    """
    until = trio.current_time() + seconds
    for when, _, timer in sorted(greenroom.application.socket_io.server.engine.timers._heap):
        if when <= until:
            timer.fire()


async def test_a_node_that_stops_says_goodbye(greenroom: RunningNode) -> None:
    """
    Over WebSocket and over polling.
    """
    line = line_to(greenroom)
    probe = await entered(greenroom)
    sid = await line.open()
    await line.post(sid, "40/real-time," + json.dumps({"token": greenroom.token()}))
    await line.poll(sid)
    waiting = await line.connect()
    await line.send(waiting, "GET", f"EIO=4&transport=polling&sid={sid}")
    await until(lambda: greenroom.application.socket_io.server.engine.sessions[sid].is_polled)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(greenroom.stop)
        name, bye = event_of(await probe.receive())
        assert (name, bye["code"]) == ("bye", 1001)
        assert await probe.closed() == 1000
        # Without the end of the session: together with that the library would not hear it.
        name, bye = event_of((await line.reply(waiting)).text)
        assert (name, bye["code"]) == ("bye", 1001)
