"""The Python client and a node: what it is told, in which order, and within which bounds."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.client import ClosedError, Event, Options, Position, RefusedError, State, Subscription, connect
from tests.gateway.node_fixture import NOBODYS, RunningNode, until
from tests.patience import PATIENCE, patience


async def take(subscription: Any, count: int) -> list[Any]:
    with patience():
        return [await anext(subscription) for _ in range(count)]


async def rename(greenroom: RunningNode, episode: str, titles: list[str]) -> None:
    for title in titles:
        answer = await greenroom.request("PATCH", f"episodes/{episode}", {"title": title})
        assert answer.status == 200


def titles_of(items: list[Any]) -> list[str]:
    assert all(isinstance(item, Event) for item in items), items
    return [item.data["episode"]["title"] for item in items]


def client_of(greenroom: RunningNode, user: str = "bob@example.com", **options: Any) -> Any:
    url = f"http://127.0.0.1:{greenroom.port}"
    return connect(url, token=greenroom.token(user, "viewer"), options=Options(**options))


async def test_a_subscription_tells_what_happens_in_order_with_its_place(greenroom: RunningNode) -> None:
    """
    Typed events: name, data, id, topic, and the position after which they can be had again.
    """
    episode = (await greenroom.create())["id"]
    async with client_of(greenroom) as client:
        assert client.state is State.LIVE
        subscription = await client.subscribe(f"episode:{episode}")
        begun = subscription.position
        await rename(greenroom, episode, ["B", "C"])
        first, second = await take(subscription, 2)
    assert (first.name, first.topic) == ("episode_updated", f"episode:{episode}")
    assert titles_of([first, second]) == ["B", "C"]
    assert first.id != second.id
    assert first.data["updatedBy"] == "alice@example.com"
    assert begun == Position(1, first.position.epoch)
    assert (first.position.offset, second.position.offset) == (2, 3)
    assert subscription.position == second.position
    assert first.frame["namespace"] == "/real-time"


async def test_who_chooses_nothing_iterates_over_the_catalog(greenroom: RunningNode) -> None:
    """
    `client.events()` without any subscription hears of every episode.
    """
    async with client_of(greenroom) as client:
        events = client.events()
        with trio.move_on_after(0):
            await anext(events)
        heard: list[Any] = []

        async def listen() -> None:
            heard.extend(await take(events, 2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await until(lambda: "catalog" in client.subscriptions)
            await until(client.subscriptions["catalog"].answered.is_set)
            await greenroom.create("One")
            await greenroom.create("Two")
    assert titles_of(heard) == ["One", "Two"]


async def test_a_client_that_subscribes_to_nothing_is_told_nothing(greenroom: RunningNode) -> None:
    """
    It ends the catalog that the node begins by itself: presence alone must not cost every event.
    """
    async with client_of(greenroom) as client:
        await client.ping()
        assert greenroom.node.hub.subscribers("catalog") == 0  # type: ignore[arg-type]


async def test_each_event_comes_once_by_the_subscription_of_its_own_topic(greenroom: RunningNode) -> None:
    """
    The catalog's subscription has the other episodes' events; together they are told in their order.
    """
    mine = (await greenroom.create("Mine"))["id"]
    async with client_of(greenroom) as client:
        catalog = await client.subscribe("catalog")
        own = await client.subscribe(f"episode:{mine}")
        await rename(greenroom, mine, ["Mine 2"])
        other = (await greenroom.create("Other"))["id"]
        await rename(greenroom, mine, ["Mine 3"])
        assert titles_of(await take(own, 2)) == ["Mine 2", "Mine 3"]
        assert titles_of(await take(catalog, 1)) == ["Other"]
        await own.aclose()
        await rename(greenroom, mine, ["Mine 4"])
        assert titles_of(await take(catalog, 1)) == ["Mine 4"]

        again = await client.subscribe(f"episode:{mine}", since=Position(1, own.position.epoch))
        await rename(greenroom, other, ["Other 2"])
        told = titles_of(await take(client.events(), 4))
        assert told == ["Mine 2", "Mine 3", "Mine 4", "Other 2"]
        assert again.position is not None


async def test_a_snapshot_comes_with_the_beginning_if_wished(greenroom: RunningNode) -> None:
    """
    How things stand, and from then on every event.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    async with client_of(greenroom) as client:
        subscription = await client.subscribe(f"episode:{episode}", snapshot=True)
        assert subscription.snapshot["episode"]["title"] == "Pilot"
        await rename(greenroom, episode, ["B"])
        assert titles_of(await take(subscription, 1)) == ["B"]


@pytest.mark.parametrize(
    ("topic", "code"), [("nonsense", "unknown_topic"), (f"episode:{NOBODYS}", "not_found")]
)
async def test_a_refused_subscription_says_why_and_costs_nothing_else(
    greenroom: RunningNode, topic: str, code: str
) -> None:
    """
    RefusedError has the protocol's code; the client goes on, and may try the topic again.
    """
    async with client_of(greenroom) as client:
        for _ in range(2):
            with pytest.raises(RefusedError) as refused:
                await client.subscribe(topic)
            assert refused.value.code == code
        assert client.state is State.LIVE
        assert client.subscriptions == {}
        assert await client.ping() < PATIENCE


async def test_one_topic_has_one_subscription(greenroom: RunningNode) -> None:
    """
    A second one would take the first one's events; after the first has ended, it may begin.
    """
    async with client_of(greenroom) as client:
        async with await client.subscribe("catalog"):
            with pytest.raises(ValueError, match="already"):
                await client.subscribe("catalog")
        await client.subscribe("catalog")


async def test_an_ended_subscription_ends_its_iteration_and_the_node_s(greenroom: RunningNode) -> None:
    """
    Whoever waits for its next event is let go.
    """
    episode = (await greenroom.create())["id"]
    async with client_of(greenroom) as client:
        subscription = await client.subscribe(f"episode:{episode}")
        told: list[Any] = []

        async def listen() -> None:
            async for event in subscription:
                told.append(event)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            await subscription.aclose()
        assert told == []
        assert greenroom.node.hub.subscribers(f"episode:{episode}") == 0  # type: ignore[arg-type]


async def full(subscription: Subscription) -> None:
    """
    Wait until the reader waits for room.
    """
    await until(lambda: subscription.is_blocked)


async def test_who_does_not_take_events_stops_the_reader_and_misses_nothing(greenroom: RunningNode) -> None:
    """
    The client keeps no more than its buffer; the rest waits in the node, and comes when there is room.
    """
    episode = (await greenroom.create())["id"]
    titles = [f"Title {number}" for number in range(12)]
    async with client_of(greenroom, buffer=3) as client:
        subscription = await client.subscribe(f"episode:{episode}")
        await rename(greenroom, episode, titles)
        await full(subscription)
        assert len(subscription._inbox) == 3
        assert titles_of(await take(subscription, 12)) == titles
        assert client.state is State.LIVE


async def test_who_asks_while_its_buffer_is_full_is_answered_and_misses_nothing(
    greenroom: RunningNode,
) -> None:
    """
    The reply stands behind events that nobody takes: the client reads on, and has them told again.
    """
    episode = (await greenroom.create())["id"]
    titles = [f"Title {number}" for number in range(12)]
    async with client_of(greenroom, buffer=3) as client:
        subscription = await client.subscribe(f"episode:{episode}")
        await rename(greenroom, episode, titles)
        await full(subscription)
        with patience():
            await client.ping()
        assert len(subscription._inbox) == 3
        assert titles_of(await take(subscription, 12)) == titles
        await rename(greenroom, episode, ["At last"])
        assert titles_of(await take(subscription, 1)) == ["At last"]


async def test_cancelling_whoever_waits_loses_no_event(greenroom: RunningNode) -> None:
    """
    A deadline around the next event may pass at any moment.
    """
    episode = (await greenroom.create())["id"]
    titles = [f"Title {number}" for number in range(5)]
    async with client_of(greenroom) as client:
        subscription = await client.subscribe(f"episode:{episode}")
        told: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rename, greenroom, episode, titles)
            with patience():
                while len(told) < 5:
                    with trio.move_on_after(0.001):
                        told.append(await anext(subscription))
    assert titles_of(told) == titles


async def test_the_end_of_the_block_ends_the_connection_and_the_iterations(greenroom: RunningNode) -> None:
    """
    The node hears a close at once; what the block raises is raised as it is.
    """
    with pytest.raises(LookupError, match="mine"):
        async with client_of(greenroom) as client:
            subscription = await client.subscribe("catalog")
            raise LookupError("mine")
    await until(lambda: greenroom.node.hub.statistics().sessions == 0)

    async with client_of(greenroom) as client:
        subscription = await client.subscribe("catalog")
    assert client.state is State.CLOSED
    assert [item async for item in subscription] == []
    with pytest.raises(ClosedError):
        await client.subscribe("catalog")
