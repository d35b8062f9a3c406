"""The Python client comes back by itself: nothing missed, nothing twice, or it says so."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

from engine.runtime.backoff import Backoff
from gateway.client import (
    ClosedError,
    Event,
    Gap,
    Options,
    Position,
    RefusedError,
    State,
    UnreachableError,
    connect,
)
from tests.gateway.chaos_proxy import ChaosProxy, chaos
from tests.gateway.node_fixture import RunningNode, until
from tests.patience import patience, undisturbed

QUICK = Backoff(first=0.01, cap=0.05, jitter=1.0)
Start = Callable[..., Awaitable[RunningNode]]


def ahead(seconds: float) -> Callable[[], float]:
    """
    A clock that is fast.
    """
    return lambda: time.time() + seconds


def quick(**options: Any) -> Options:
    return Options(**{"backoff": QUICK, "chance": random.Random(7), **options})


@pytest.fixture
async def proxy(greenroom: RunningNode) -> AsyncIterator[ChaosProxy]:
    async with chaos(greenroom.port) as running:
        yield running


async def take(subscription: Any, count: int) -> list[Any]:
    with patience():
        return [await anext(subscription) for _ in range(count)]


async def rename(greenroom: RunningNode, episode: str, titles: list[str]) -> None:
    for title in titles:
        answer = await greenroom.request("PATCH", f"episodes/{episode}", {"title": title})
        assert answer.status == 200


def offsets_of(items: list[Any]) -> list[Any]:
    assert all(isinstance(item, Event) for item in items), items
    return [item.position.offset for item in items]


async def wait_state(client: Any, *states: State) -> None:
    with patience():
        await client.wait_state(*states)


async def test_after_a_cut_comes_exactly_what_was_missed(greenroom: RunningNode, proxy: ChaosProxy) -> None:
    """
    In order, without a double, by the same iteration; and the state says what is to be trusted.
    """
    episode = (await greenroom.create())["id"]
    async with connect(proxy.url, token=greenroom.token(), options=quick()) as client:
        subscription = await client.subscribe(f"episode:{episode}")
        await rename(greenroom, episode, ["B"])
        assert offsets_of(await take(subscription, 1)) == [2]
        proxy.refusing = True
        proxy.cut()
        await wait_state(client, State.STALE)
        assert client.trouble
        await rename(greenroom, episode, ["C", "D", "E"])
        proxy.refusing = False
        assert offsets_of(await take(subscription, 3)) == [3, 4, 5]
        await wait_state(client, State.LIVE)
        await rename(greenroom, episode, ["F"])
        assert offsets_of(await take(subscription, 1)) == [6]


async def test_a_connection_that_stalls_is_found_out_and_replaced(
    greenroom: RunningNode, proxy: ChaosProxy
) -> None:
    """
    Nobody hangs up, nothing comes: the client asks, and does not wait for ever.
    """
    episode = (await greenroom.create())["id"]
    options = quick(ping_interval=0.05, ping_timeout=0.2, connect_timeout=0.3)
    async with connect(proxy.url, token=greenroom.token(), options=options) as client:
        subscription = await client.subscribe(f"episode:{episode}")
        proxy.stall()
        await rename(greenroom, episode, ["B", "C"])
        await wait_state(client, State.STALE)
        assert "ping" in client.trouble
        proxy.cut()
        proxy.flow()
        assert offsets_of(await take(subscription, 2)) == [2, 3]


async def test_a_quiet_connection_is_not_given_up(greenroom: RunningNode, proxy: ChaosProxy) -> None:
    """
    Pings are answered: silence alone is no reason to leave. Nor is a reader that waits for its user.
    """
    options = quick(ping_interval=0.02, ping_timeout=0.2, buffer=1)

    async def be_quiet() -> None:
        episode, before = (await greenroom.create())["id"], proxy.accepted
        async with connect(proxy.url, token=greenroom.token(), options=options) as client:
            subscription = await client.subscribe(f"episode:{episode}")
            await trio.sleep(0.3)
            await rename(greenroom, episode, ["B", "C", "D"])
            await until(lambda: subscription.is_blocked)
            await trio.sleep(0.5)
            assert client.trouble == ""
            assert offsets_of(await take(subscription, 3)) == [2, 3, 4]
        assert proxy.accepted == before + 1

    await undisturbed(be_quiet)


async def test_what_cannot_be_recovered_is_a_gap_with_how_things_stand(start_greenroom: Start) -> None:
    """
    More was missed than the node tells again: no silent hole, and then everything that follows.
    """
    greenroom = await start_greenroom({"realtime.replay_limit": 2})
    episode = (await greenroom.create())["id"]
    async with (
        chaos(greenroom.port) as proxy,
        connect(proxy.url, token=greenroom.token(), options=quick()) as client,
    ):
        subscription = await client.subscribe(f"episode:{episode}")
        proxy.refusing = True
        proxy.cut()
        await wait_state(client, State.STALE)
        await rename(greenroom, episode, ["B", "C", "D"])
        proxy.refusing = False
        [gap] = await take(subscription, 1)
        assert isinstance(gap, Gap)
        assert gap.topic == f"episode:{episode}"
        assert gap.snapshot is not None
        assert gap.snapshot["episode"]["title"] == "D"
        assert gap.position == subscription.position == Position(4, subscription.position.epoch)
        await rename(greenroom, episode, ["E"])
        assert offsets_of(await take(subscription, 1)) == [5]


async def test_a_position_that_was_kept_goes_on_in_another_client(greenroom: RunningNode) -> None:
    """
    What was taken is not told again, what was heard and not taken is; a position of another order is a gap.
    """
    episode = (await greenroom.create())["id"]
    topic, url = f"episode:{episode}", f"http://127.0.0.1:{greenroom.port}"
    async with connect(url, token=greenroom.token()) as client:
        subscription = await client.subscribe(topic)
        await rename(greenroom, episode, ["B", "C", "D"])
        await take(subscription, 1)
        await until(lambda: len(subscription._inbox) == 2)
        kept = str(subscription.position)
    async with connect(url, token=greenroom.token()) as client:
        subscription = await client.subscribe(topic, since=Position.parse(kept))
        assert offsets_of(await take(subscription, 2)) == [3, 4]
        await subscription.aclose()
        subscription = await client.subscribe(topic, since=Position(2, "another"))
        [gap] = await take(subscription, 1)
        assert isinstance(gap, Gap)


@pytest.mark.parametrize("seed", range(3))
async def test_in_a_storm_of_cuts_every_event_comes_once(
    greenroom: RunningNode, proxy: ChaosProxy, seed: int
) -> None:
    """
    Writers go on, connections are cut at any moment: each topic is heard whole, an episode's in its order.
    """
    chance = random.Random(seed)
    topics = ["catalog", *[f"episode:{(await greenroom.create())['id']}" for _ in range(3)]]
    heard: dict[str, list[Any]] = {}

    async def listen(topic: str) -> None:
        async with connect(
            proxy.url, token=greenroom.token(), options=quick(chance=chance, buffer=4)
        ) as client:
            subscription = await client.subscribe(topic)
            begun.append(topic)
            heard[topic] = await take(subscription, 45 if topic == "catalog" else 15)

    async def storm() -> None:
        while True:
            await trio.sleep(chance.uniform(0, 0.1))
            proxy.cut()

    begun: list[str] = []
    async with trio.open_nursery() as listeners:
        for topic in topics:
            listeners.start_soon(listen, topic)
        await until(lambda: len(begun) == 4)
        async with trio.open_nursery() as weather:
            weather.start_soon(storm)
            async with trio.open_nursery() as writers:
                for topic in topics[1:]:
                    titles = [f"Title {number}" for number in range(15)]
                    writers.start_soon(rename, greenroom, topic.removeprefix("episode:"), titles)
            weather.cancel_scope.cancel()
    for topic in topics[1:]:
        assert offsets_of(heard[topic]) == list(range(2, 17))
    everything = {event.id for topic in topics[1:] for event in heard[topic]}
    assert sorted(event.id for event in heard["catalog"]) == sorted(everything)
    assert proxy.accepted > 4


async def test_somebody_s_notifications_are_recovered_too(greenroom: RunningNode, proxy: ChaosProxy) -> None:
    """
    The topic of one's own inbox, like any other; nobody else's.
    """
    alice = "alice@example.com"
    async with connect(proxy.url, token=greenroom.token(alice), options=quick()) as client:
        subscription = await client.subscribe(f"user:{alice}")
        proxy.refusing = True
        proxy.cut()
        await wait_state(client, State.STALE)
        await greenroom.create("Missed")
        await greenroom.effects()
        proxy.refusing = False
        [event] = await take(subscription, 1)
        assert event.name == "notification_created"
        assert "Missed" in event.data["notification"]["message"]
        with pytest.raises(RefusedError):
            await client.subscribe("user:bob@example.com")


async def test_the_first_attempt_may_fail_only_for_those_who_insist(greenroom: RunningNode) -> None:
    """
    A person who mistyped a port is told; a service waits for its node.
    """
    async with chaos(greenroom.port) as proxy:
        proxy.refusing = True
        with pytest.raises(UnreachableError, match=f"127.0.0.1:{proxy.port}"):
            async with connect(proxy.url, token=greenroom.token(), insist=False, options=quick()):
                pass

        async def relent() -> None:
            await until(lambda: proxy.accepted >= 4)
            proxy.refusing = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(relent)
            with patience():
                async with connect(proxy.url, token=greenroom.token(), options=quick()) as client:
                    assert client.state is State.LIVE


async def test_a_port_where_nobody_listens_is_named() -> None:
    """
    One clear line for whoever has to act on it.
    """
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1/real-time: Connection refused"):
        async with connect("http://127.0.0.1:1", token="x", insist=False, options=quick()):
            pass


async def test_a_token_that_proves_nothing_ends_the_client_at_once(
    greenroom: RunningNode, proxy: ChaosProxy
) -> None:
    """
    4401 is final: coming back with the same token would be refused again.
    """
    with pytest.raises(ClosedError, match="cannot be verified") as closed:
        async with connect(proxy.url, token="nonsense", options=quick()):
            pass
    assert closed.value.code == 4401
    assert proxy.accepted == 1


async def test_an_expired_token_ends_the_iterations_with_the_reason(
    greenroom: RunningNode, put_clock_forward: Callable[[float], None]
) -> None:
    """
    Without a way to get a new token there is no coming back, and nobody waits for ever.
    """
    url = f"http://127.0.0.1:{greenroom.port}"
    async with connect(url, token=greenroom.token(ttl=600), options=quick()) as client:
        subscription = await client.subscribe("catalog")
        put_clock_forward(599.8)
        await client.ping()
        with pytest.raises(ClosedError) as closed, patience():
            await anext(subscription)
        assert closed.value.code == 4440
        assert client.state is State.CLOSED
        with pytest.raises(ClosedError):
            await client.ping()


async def test_a_token_is_replaced_before_it_expires(
    greenroom: RunningNode, proxy: ChaosProxy, put_clock_forward: Callable[[float], None]
) -> None:
    """
    The session goes on beyond the first token's end, on the same connection.
    """
    lives = iter([600.0, 1800.0])
    given: list[float] = []

    async def get_token() -> str:
        given.append(next(lives))
        return greenroom.token(ttl=given[-1])

    # The client takes the first one's last second for now, the node has the whole of it before it.
    async with connect(proxy.url, get_token=get_token, options=quick(now=ahead(599))) as client:
        subscription = await client.subscribe("catalog")
        await until(lambda: len(given) == 2)
        await client.ping()
        put_clock_forward(700)
        await client.ping()
        await greenroom.create("Later")
        [event] = await take(subscription, 1)
        assert event.data["episode"]["title"] == "Later"
    assert proxy.accepted == 1


async def test_a_new_token_that_is_refused_leads_to_a_new_connection(
    greenroom: RunningNode, proxy: ChaosProxy
) -> None:
    """
    A session is one person's: with another's token the client begins anew, and goes on hearing.
    """
    tokens = iter([greenroom.token(), greenroom.token("carol@example.com"), greenroom.token(ttl=1800)])

    async def get_token() -> str:
        return next(tokens)

    async with connect(proxy.url, get_token=get_token, options=quick(now=ahead(599))) as client:
        subscription = await client.subscribe("catalog")
        await wait_state(client, State.STALE)
        assert "carol" in client.trouble
        await wait_state(client, State.LIVE)
        await greenroom.create("Later")
        while isinstance(item := (await take(subscription, 1))[0], Gap):
            pass
        assert item.data["episode"]["title"] == "Later"
    assert proxy.accepted == 2


async def test_no_token_for_now_is_no_reason_to_give_up(greenroom: RunningNode) -> None:
    """
    Whoever issues tokens may be away for a moment, too.
    """
    failures = iter([OSError("away"), OSError("still away")])

    async def get_token() -> str:
        for error in failures:
            raise error
        return greenroom.token()

    with patience():
        async with connect(
            f"http://127.0.0.1:{greenroom.port}", get_token=get_token, options=quick()
        ) as client:
            assert client.state is State.LIVE


async def test_a_node_that_stops_says_when_to_come_back(start_greenroom: Start) -> None:
    """
    The client waits for that long, and jitter on top, before it knocks again.
    """
    greenroom = await start_greenroom({"server.reconnect_after": "7s", "server.reconnect_window": "1s"})
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await trio.sleep_forever()

    async with connect(
        f"http://127.0.0.1:{greenroom.port}", token=greenroom.token(), options=quick(sleep=sleep)
    ) as client:
        await client.subscribe("catalog")
        await greenroom.stop()
        await wait_state(client, State.STALE)
        assert "stops" in client.trouble
        await until(lambda: waits)
    [wait] = waits
    assert 7 <= wait <= 8 + QUICK.first
