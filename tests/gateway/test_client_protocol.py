"""The Python client and nodes that are of another version, in trouble, or broken."""

import random
from typing import Any

import pytest
import trio

from engine.runtime.backoff import Backoff
from gateway.client import ClosedError, Gap, Options, Position, State, connect
from tests.gateway.node_fixture import until
from tests.gateway.scripted_node import ScriptedNode, scripted
from tests.patience import patience

QUICK = Backoff(first=0.01, cap=0.05, jitter=1.0)
TOPIC = "episode:e"


def client_of(node: ScriptedNode, **options: Any) -> Any:
    return connect(
        node.url, token="t", options=Options(**{"backoff": QUICK, "chance": random.Random(1), **options})
    )


def frame(offset: int, topic: str = TOPIC, epoch: str = "a", id: str = "") -> dict[str, Any]:
    return {
        "event": "episode_updated",
        "data": {},
        "id": id or f"{topic}-{offset}",
        "topic": topic,
        "offset": offset,
        "epoch": epoch,
    }


def subscribed(offset: Any, topic: str = TOPIC, *, recovered: bool = False, epoch: str = "a") -> Any:
    position = None if offset is None else {"offset": offset, "epoch": epoch}
    return {"type": "subscribed", "topic": topic, "recovered": recovered, "position": position}


async def take(subscription: Any, count: int) -> list[Any]:
    with patience():
        return [await anext(subscription) for _ in range(count)]


async def test_what_is_not_known_is_ignored() -> None:
    """
    Additions to the protocol do not disturb a client of today.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [{"type": "weather", "topic": 3}, subscribed(1)]
        subscription = await client.subscribe(TOPIC)
        await node.send({"type": "position", "topic": "elsewhere", "position": None}, {}, {"type": None})
        await node.send({"type": "ok", "ref": "nobody's"}, {**frame(2), "more": "fields"})
        [event] = await take(subscription, 1)
        assert event.position == Position(2, "a")


@pytest.mark.parametrize("garbage", ["no JSON", "[]", '{"event": "alone"}', '{"type": "presence"}'])
async def test_a_node_that_talks_nonsense_is_left_and_tried_again(garbage: str) -> None:
    """
    Nothing of it reaches the user; what was missed is asked for again.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [subscribed(1)]
        subscription = await client.subscribe(TOPIC)
        node.answers["subscribe"] = [subscribed(2, recovered=True), frame(2)]
        await node.send(garbage)
        [event] = await take(subscription, 1)
        assert event.position.offset == 2
        assert node.count == 2


async def test_a_hole_is_noticed_while_the_connection_stands() -> None:
    """
    An episode's log has no holes: one that shows is recovered at once, before anything after it is told.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [subscribed(1)]
        subscription = await client.subscribe(TOPIC)
        node.answers["subscribe"] = [subscribed(4, recovered=True), frame(2), frame(3), frame(4)]
        await node.send(frame(3), frame(4))
        assert [event.position.offset for event in await take(subscription, 3)] == [2, 3, 4]
        assert (await node.wait_received("subscribe", 2))[1]["since"] == {"offset": 1, "epoch": "a"}
        await node.send(frame(4), frame(5))
        assert [event.position.offset for event in await take(subscription, 1)] == [5]
        assert node.count == 1


async def test_a_position_ahead_of_what_was_told_is_a_hole_too() -> None:
    """
    Also what never came is noticed, as soon as the node says how far it is.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [subscribed(1)]
        subscription = await client.subscribe(TOPIC)
        node.answers["subscribe"] = [subscribed(2, recovered=True), frame(2)]
        await node.send({"type": "position", "topic": TOPIC, "position": {"offset": 2, "epoch": "a"}})
        assert [event.position.offset for event in await take(subscription, 1)] == [2]


async def test_the_catalog_goes_on_from_its_own_position_and_tells_nothing_twice() -> None:
    """
    Its position is opaque, and moves only when the node says so; what is told again is known by its id.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [subscribed("10-1", "catalog")]
        catalog = await client.subscribe("catalog")
        moved = {"type": "position", "topic": "catalog", "position": {"offset": "20-5", "epoch": "a"}}
        await node.send(frame(1, "episode:x"), moved, frame(2, "episode:x"), frame(1, "episode:y"))
        await until(lambda: len(catalog._inbox) == 3)
        assert catalog.position == Position("10-1", "a")
        await take(catalog, 1)
        assert catalog.position == Position("20-5", "a")
        node.answers["subscribe"] = [
            subscribed("30-1", "catalog", recovered=True),
            *(frame(1, "episode:y"), frame(2, "episode:x"), frame(1, "episode:z")),
        ]
        await node.close(1001)
        assert [event.id for event in await take(catalog, 3)] == ["episode:x-2", "episode:y-1", "episode:z-1"]
        assert (await node.wait_received("subscribe", 2))[1]["since"] == {"offset": "20-5", "epoch": "a"}
        await client.ping()
        assert catalog.position == Position("30-1", "a")


async def test_a_catalog_without_positions_has_a_gap_after_each_reconnect() -> None:
    """
    A node that cannot say where the catalog stands cannot recover it, and that is told.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [subscribed(None, "catalog")]
        catalog = await client.subscribe("catalog")
        await node.send(frame(1, "episode:x"))
        await take(catalog, 1)
        await node.close(1001)
        assert await take(catalog, 1) == [Gap(topic="catalog", snapshot=None, position=None)]
        assert "since" not in (await node.wait_received("subscribe", 2))[1]


async def test_somebody_s_inbox_is_not_part_of_the_catalog() -> None:
    """
    What comes late after its subscription's end is dropped; other topics, of plugins, are the catalog's.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [subscribed("1-1", "catalog")]
        catalog = await client.subscribe("catalog")
        await node.send(frame(1, "user:bob"), frame(1, "plugin:x"))
        [event] = await take(catalog, 1)
        assert event.topic == "plugin:x"


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4409])
async def test_after_a_final_code_the_client_stays_away(code: int) -> None:
    """
    What was heard can still be taken; then whoever iterates is told why there is no more.
    """
    async with scripted() as node, client_of(node) as client:
        node.answers["subscribe"] = [subscribed(1)]
        subscription = await client.subscribe(TOPIC)
        await node.send(frame(2))
        await node.close(code, reconnect_after=0, resume=True)
        [event] = await take(subscription, 1)
        assert event.position.offset == 2
        for iterator in (subscription, client.events()):
            with pytest.raises(ClosedError, match="because") as closed, patience():
                await anext(iterator)
            assert closed.value.code == code
        with pytest.raises(ClosedError):
            await client.wait_state(State.LIVE)
        assert node.count == 1


async def test_a_goodbye_for_good_is_final_whatever_its_code() -> None:
    """
    `resume: false` says so.
    """
    async with scripted() as node, client_of(node) as client:
        await node.close(4499, reconnect_after=0, resume=False)
        with pytest.raises(ClosedError) as closed, patience():
            await client.wait_state(State.STALE)
        assert closed.value.code == 4499


@pytest.mark.parametrize("code", [1001, 1011, 4408, 4413, 4429, 4503, 1000])
async def test_after_any_other_code_it_comes_back(code: int) -> None:
    """
    With a bye or without one.
    """
    async with scripted() as node, client_of(node):
        await node.close(code)
        await until(lambda: node.count == 2)
        await node.close(code, reconnect_after=0.01, resume=True)
        await until(lambda: node.count == 3)


async def test_waits_grow_while_connections_break_soon_and_jitter_is_full() -> None:
    """
    Each is drawn between nothing and a bound that doubles; what the node asks for comes on top.
    """
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await trio.lowlevel.checkpoint()

    backoff = Backoff(first=1.0, cap=4.0, jitter=1.0)
    async with scripted() as node, client_of(node, backoff=backoff, sleep=sleep):
        for number in range(1, 6):
            await node.close(4503, reconnect_after=10, resume=True)
            await until(lambda number=number: node.count == number + 1)
    same = random.Random(1)
    assert waits == [10 + bound * (1 - same.random()) for bound in (1, 2, 4, 4, 4)]


async def test_try_later_is_tried_later_on_the_same_connection() -> None:
    """
    A topic whose actor is just being restarted does not cost the subscription.
    """
    async with scripted() as node, client_of(node) as client:
        node.refusals["subscribe"] = ["try_later", "try_later"]
        node.answers["subscribe"] = [subscribed(1)]
        with patience():
            await client.subscribe(TOPIC)
        assert len(await node.wait_received("subscribe", 3)) == 3
        assert node.count == 1


async def test_wishes_after_a_reconnect_do_not_exceed_what_a_node_takes_at_once() -> None:
    """
    A session's burst of messages is bounded (limits.message_burst): more are spread out.
    """
    async with scripted() as node, client_of(node) as client:
        for number in range(60):
            node.answers["subscribe"] = [subscribed(1, f"episode:{number}")]
            await client.subscribe(f"episode:{number}")
        node.received.clear()
        began = trio.current_time()
        await node.close(1001)
        await node.wait_received("subscribe", 60)
        assert trio.current_time() - began >= 9 * 0.04


async def test_closing_just_when_the_connection_breaks_does_not_bring_the_client_back() -> None:
    """
    Its user wants it closed, whatever else it was about to do.
    """
    async with scripted() as node, client_of(node) as client:
        connection = client.line._connection
        assert connection is not None

        async def close_at_the_last_moment() -> None:
            while connection.ending is None:  # noqa: ASYNC110 (the moment has no event)
                await trio.lowlevel.checkpoint()
            assert client.line._connection is connection
            await client.aclose()

        with patience():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(close_at_the_last_moment)
                await node.close(1001)
        assert client.state is State.CLOSED
        assert node.count == 1
