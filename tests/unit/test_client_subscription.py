"""A client's subscription hears each event once, in order, whatever happens to the connection."""

import random
from itertools import count
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.messages import Event, Gap, Position
from gateway.client.subscription import Subscription, Window


class Owner:
    """
    A client that only notes that it was asked to recover.
    """

    is_asked = False

    def __init__(self) -> None:
        self.arrivals = count()
        self.news = trio.lowlevel.ParkingLot()
        self.recoveries = 0

    def recover_soon(self, subscription: Subscription) -> None:
        self.recoveries += 1

    async def unsubscribe(self, subscription: Subscription) -> None: ...


def event(offset: int, topic: str = "episode:e", epoch: str = "a") -> Event:
    position = Position(offset, epoch)
    return Event(name="x", data={}, id=f"{topic}-{offset}", topic=topic, position=position, frame={})


def subscription_of(owner: Owner, topic: str = "episode:e", limit: int = 100) -> Subscription:
    return Subscription(topic=topic, wants_snapshot=False, limit=limit, owner=owner, position=None)


def taken(subscription: Subscription) -> list[Any]:
    items = []
    while (item := subscription.take_nowait()) is not None:
        items.append(item)
    return items


# What a connection does with the next frame of a log: tells it, tells it twice, loses it, or ends before it.
WEATHER = st.lists(st.sampled_from(["tell", "tell", "tell", "twice", "lose", "early", "cut", "take"]))


@given(weather=WEATHER, seed=st.integers(0, 1000))
def test_whatever_the_connection_does_the_log_is_heard_whole(weather: list[str], seed: int) -> None:
    """
    Lost, doubled and early frames and ended connections, against a node that recovers from positions.
    """

    async def live() -> list[Any]:
        owner, chance = Owner(), random.Random(seed)
        subscription = subscription_of(owner)
        subscription.begin(Position(0, "a"), recovered=False, snapshot=None)
        head, heard, recovered = 0, [], 0

        async def recover() -> None:
            since = subscription.asks_since()
            assert since is not None
            subscription.begin(Position(head, "a"), recovered=True, snapshot=None)
            for offset in range(int(since.offset) + 1, head + 1):
                await subscription.deliver(event(offset))
            subscription.caught_up()

        for what in [*weather, "tell", "cut"]:
            head += what not in ("cut", "take")
            match what:
                case "tell":
                    await subscription.deliver(event(head))
                case "twice":
                    await subscription.deliver(event(head))
                    await subscription.deliver(event(chance.randint(1, head)))
                case "early":
                    head += 1
                    await subscription.deliver(event(head))
                    await subscription.deliver(event(head - 1))
                case "cut":
                    subscription.lose()
                    await recover()
                case "take":
                    heard += taken(subscription)
            if owner.recoveries > recovered:
                recovered = owner.recoveries
                if chance.random() < 0.5:
                    await recover()
        heard += taken(subscription)
        assert [item.position.offset for item in heard] == list(range(1, head + 1))
        assert subscription.position == Position(head, "a")
        return heard

    trio.run(live)


async def test_gaps_that_nobody_takes_do_not_add_up() -> None:
    """
    They wait for no room, so the newest takes the place of the one before it.
    """
    subscription = subscription_of(Owner(), limit=2)
    subscription.begin(Position(1, "a"), recovered=False, snapshot=None)
    for epoch in range(10):
        subscription.lose()
        subscription.asks_since()
        subscription.begin(Position(5, str(epoch)), recovered=False, snapshot={"epoch": epoch})
    [gap] = taken(subscription)
    assert gap == Gap(topic="episode:e", snapshot={"epoch": 9}, position=Position(5, "9"))
    assert subscription.position == Position(5, "9")


async def test_an_event_of_another_order_is_not_put_into_this_one() -> None:
    """
    After the epoch has changed, offsets mean something else: recover first.
    """
    owner = Owner()
    subscription = subscription_of(owner)
    subscription.begin(Position(4, "a"), recovered=False, snapshot=None)
    await subscription.deliver(event(5, epoch="b"))
    assert owner.recoveries == 1
    assert taken(subscription) == []


async def test_a_reader_that_waits_for_room_goes_on_when_the_connection_ends(autojump_clock: Any) -> None:
    """
    What it holds comes again.
    """
    subscription = subscription_of(Owner(), limit=1)
    subscription.begin(Position(0, "a"), recovered=False, snapshot=None)
    await subscription.deliver(event(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscription.deliver, event(2))
        await trio.testing.wait_all_tasks_blocked()
        assert subscription.is_blocked
        subscription.lose()
    assert [item.position.offset for item in taken(subscription)] == [1]
    assert subscription.asks_since() == Position(1, "a")


@pytest.mark.parametrize("size", [1, 3])
def test_a_window_forgets_the_oldest(size: int) -> None:
    """
    It knows as many ids as it may, and no more.
    """
    window = Window(size)
    assert all(window.add(str(number)) for number in range(10))
    assert not window.add("9")
    assert len(window._ids) == size
    assert window.add(str(9 - size))
