"""Socket.IO clients that come back: told what they missed, once, or told that they are not."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from engine.actors.catalog import CatalogActor
from engine.errors import StoreUnavailableError
from engine.store.socket_rooms import SocketRooms
from tests.gateway.engine_line import Probe
from tests.gateway.node_fixture import RunningNode, until
from tests.gateway.test_socketio_real_time import ask, event_of, line_to

Start = Callable[..., Awaitable[RunningNode]]


@attrs.define(eq=False)
class Visitor:
    """
    What the official library does about recovery: keeps the pid, and the last argument that was a text.
    """

    user: str = "bob@example.com"
    pid: str | None = None
    offset: str | None = None
    sid: str | None = None
    recovered: bool = False
    probe: Probe = attrs.field(init=False)
    titles: list[str] = attrs.field(factory=list)

    async def come(self, greenroom: RunningNode) -> bool:
        """
        Connect, with what was kept; whether it was recovered.
        """
        self.probe = await line_to(greenroom).opened()
        kept = {"pid": self.pid, "offset": self.offset} if self.offset else {"pid": self.pid}
        auth = {"token": greenroom.token(self.user), **(kept if self.pid else {})}
        await self.probe.send("40/real-time," + json.dumps(auth))
        answer = await self.probe.receive()
        assert isinstance(answer, str) and answer.startswith("40/real-time,{"), answer
        welcome = json.loads(answer.removeprefix("40/real-time,"))
        self.recovered = welcome["pid"] == self.pid
        self.pid, self.sid = welcome["pid"], welcome["sid"]
        return self.recovered

    async def hear(self, count: int = 1) -> None:
        """
        Wait for so many events.
        """
        while count:
            _, *args = event_of(await self.probe.receive())
            if isinstance(args[-1], str):
                self.offset = args[-1]
                self.titles.append(args[0]["episode"]["title"])
                count -= 1

    async def vanish(self) -> None:
        await trio.aclose_forcefully(self.probe.raw.stream)


async def test_whoever_comes_back_hears_what_was_missed_and_nothing_twice(greenroom: RunningNode) -> None:
    """
    By the same public id; what comes next follows without a gap.
    """
    visitor = Visitor()
    assert not await visitor.come(greenroom)
    sid = visitor.sid
    await greenroom.create("One")
    await visitor.hear()
    await visitor.vanish()
    for title in ("Two", "Three"):
        await greenroom.create(title)
    assert await visitor.come(greenroom)
    assert visitor.sid == sid
    await greenroom.create("Four")
    await visitor.hear(3)
    assert visitor.titles == ["One", "Two", "Three", "Four"]


async def test_whoever_heard_nothing_yet_comes_back_to_where_they_began(greenroom: RunningNode) -> None:
    """
    The library sends no offset then.
    """
    await greenroom.create("Before")
    visitor = Visitor()
    await visitor.come(greenroom)
    await visitor.vanish()
    await greenroom.create("Meanwhile")
    assert await visitor.come(greenroom)
    await visitor.hear()
    assert visitor.titles == ["Meanwhile"]


async def test_a_restart_of_the_node_is_an_interruption_like_any_other(start_greenroom: Start) -> None:
    """
    Events and rooms are in the database: present again, nothing missed, nothing twice.
    """
    greenroom = await start_greenroom()
    episode = (await greenroom.create("One"))["id"]
    visitor = Visitor()
    await visitor.come(greenroom)
    room = {"resourceType": "episode", "resourceId": episode, "userName": "Bob", "state": "editing"}
    assert await ask(visitor.probe, "presence:join", room) == {"ok": True}
    await greenroom.create("Two")
    await visitor.hear()
    await greenroom.stop()
    other = await start_greenroom()
    await other.create("Three")
    assert await visitor.come(other)
    await visitor.hear()
    assert visitor.titles == ["Two", "Three"]
    page = await ask(visitor.probe, "presence:viewers", {"resourceType": "episode", "resourceId": episode})
    assert [(viewer["userName"], viewer["state"]) for viewer in page["viewers"]] == [("Bob", "editing")]


async def test_rooms_that_were_left_are_not_entered_again(greenroom: RunningNode) -> None:
    """
    Only those whose leaving was not acknowledged.
    """
    episode = (await greenroom.create("One"))["id"]
    visitor = Visitor()
    await visitor.come(greenroom)
    room = {"resourceType": "episode", "resourceId": episode}
    assert await ask(visitor.probe, "presence:join", room) == {"ok": True}
    assert await ask(visitor.probe, "presence:leave", room) == {"ok": True}
    await visitor.vanish()
    assert await visitor.come(greenroom)
    assert (await ask(visitor.probe, "presence:viewers", room))["code"] == "not_present"


async def test_a_line_that_was_replaced_ends(greenroom: RunningNode) -> None:
    """
    The node may learn of a broken line later than the client.
    """
    visitor = Visitor()
    await visitor.come(greenroom)
    broken = visitor.probe
    assert await visitor.come(greenroom)
    assert await broken.closed() == 1000
    await greenroom.create("One")
    await visitor.hear()
    await until(lambda: greenroom.application.streams.sessions.count == 1)


async def test_another_user_recovers_nothing(greenroom: RunningNode) -> None:
    """
    Whoever knows the secret, the rooms are those of the user who entered them.
    """
    visitor = Visitor()
    await visitor.come(greenroom)
    await visitor.vanish()
    visitor.user = "eve@example.com"
    await greenroom.create("One")
    assert not await visitor.come(greenroom)
    await greenroom.create("Two")
    await visitor.hear()
    assert visitor.titles == ["Two"]


async def test_who_has_left_for_good_comes_back_as_somebody_new(greenroom: RunningNode) -> None:
    """
    As with Socket.IO's own server.
    """
    visitor = Visitor()
    await visitor.come(greenroom)
    pid = visitor.pid
    await visitor.probe.send("41/real-time,")
    await until(lambda: greenroom.rows("select 1 from socket_rooms where rooms is null"))
    await visitor.vanish()
    assert not await visitor.come(greenroom)
    assert visitor.pid != pid


async def test_a_position_that_is_none_of_ours_recovers_nothing(greenroom: RunningNode) -> None:
    """
    It is told so by another pid, and let in.
    """
    visitor = Visitor()
    await visitor.come(greenroom)
    pid = visitor.pid
    assert pid is not None
    parts = pid.split(".")
    for bad in (
        "x",
        "",
        pid + "x",
        ".".join([*parts[:3], "1-1+9-3"]),
        ".".join([*parts[:2], "0" * 36, "1-1"]),
    ):
        visitor.pid = bad or "y"
        assert not await visitor.come(greenroom)
    for offset in ("x", "-", "1-1+", "1-1+3-2", "1-1+" + "9" * 3000, "999999999999999999-1"):
        visitor.pid, visitor.offset = pid, offset
        assert not await visitor.come(greenroom)


async def test_whoever_missed_too_much_is_told_so(start_greenroom: Start) -> None:
    """
    And hears what comes from now on.
    """
    greenroom = await start_greenroom({"realtime.replay_limit": 2, "realtime.replay_ring": 1})
    visitor = Visitor()
    await visitor.come(greenroom)
    await visitor.vanish()
    for title in ("One", "Two", "Three"):
        await greenroom.create(title)
    await greenroom.effects()
    assert not await visitor.come(greenroom)
    await greenroom.create("Four")
    await visitor.hear()
    assert visitor.titles == ["Four"]


async def test_an_offset_of_an_earlier_time_does_not_count(start_greenroom: Start) -> None:
    """
    The library keeps it when it could not recover, until it hears something: nothing from before comes back.
    """
    greenroom = await start_greenroom({"realtime.replay_limit": 2, "realtime.replay_ring": 1})
    visitor = Visitor()
    await visitor.come(greenroom)
    await greenroom.create("Zero")
    await visitor.hear()
    await visitor.vanish()
    for title in ("One", "Two", "Three"):
        await greenroom.create(title)
    await greenroom.effects()
    assert not await visitor.come(greenroom)
    await visitor.vanish()
    await greenroom.create("Four")
    assert await visitor.come(greenroom)
    await visitor.hear()
    assert visitor.titles == ["Zero", "Four"]


async def test_what_a_crash_of_the_catalog_kept_from_clients_they_come_back_for(
    greenroom: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Their lines end before they hear anything later, which would claim that they had heard the rest.
    """
    visitor = Visitor()
    await visitor.come(greenroom)
    await greenroom.create("One")
    await visitor.hear()
    publish = CatalogActor._publish

    async def crash(actor: CatalogActor, events: Any) -> None:
        if events:
            monkeypatch.setattr(CatalogActor, "_publish", publish)
            raise RuntimeError("a bug")

    greenroom.may_log_tracebacks = True
    monkeypatch.setattr(CatalogActor, "_publish", crash)
    for title in ("Two", "Three"):
        await greenroom.create(title)
    assert await visitor.probe.closed() == 1000
    assert await visitor.come(greenroom)
    await greenroom.create("Four")
    await visitor.hear(3)
    assert sorted(visitor.titles) == sorted(["One", "Two", "Three", "Four"])


async def test_without_recovery_events_have_one_argument(start_greenroom: Start) -> None:
    """
    And the library is given nothing to come back with.
    """
    greenroom = await start_greenroom({"socketio.recovery": False})
    probe = await line_to(greenroom).opened()
    await probe.send("40/real-time," + json.dumps({"token": greenroom.token()}))
    welcome: Any = json.loads(str(await probe.receive()).removeprefix("40/real-time,"))
    assert list(welcome) == ["sid"]
    await greenroom.create("One")
    assert len(event_of(await probe.receive())) == 2


async def test_whoever_could_not_leave_a_room_for_good_can_try_again(
    greenroom: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The database is away when that is to be kept; told to try later, the client does, and is not there again.
    """
    episode = (await greenroom.create("One"))["id"]
    visitor = Visitor()
    await visitor.come(greenroom)
    room = {"resourceType": "episode", "resourceId": episode}
    assert await ask(visitor.probe, "presence:join", room) == {"ok": True}

    async def away(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailableError("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(SocketRooms, "keep", away)
        assert (await ask(visitor.probe, "presence:leave", room))["code"] == "try_later"
    assert await ask(visitor.probe, "presence:leave", room) == {"ok": True}
    assert (await ask(visitor.probe, "presence:leave", room))["code"] == "not_present"
    await visitor.vanish()
    await visitor.come(greenroom)
    assert (await ask(visitor.probe, "presence:viewers", room))["code"] == "not_present"
