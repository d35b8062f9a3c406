"""Whom the door lets through in one turn of the loop, in which order, and whom it refuses."""

from collections import Counter
from itertools import pairwise

import attrs
import pytest
import trio
import trio.testing

from gateway.http.door import ALONE, CLEARED, HEARD, SHARE, Door

CROWD = 60


@attrs.define(kw_only=True)
class Limits:
    """
    Limits that no test meets by accident.
    """

    handshake_queue: int = 1000
    handshake_timeout: float = 60.0


class Turns(trio.abc.Instrument):
    """
    Counts the turns of the loop.
    """

    def __init__(self):
        self.now = 0

    def before_io_wait(self, timeout):
        self.now += 1


@pytest.fixture
async def turns():
    counted = Turns()
    trio.lowlevel.add_instrument(counted)
    yield counted
    trio.lowlevel.remove_instrument(counted)


@pytest.fixture
def open_door(nursery):
    """
    A door with somebody who keeps it: `await open_door(limit=3)`.
    """

    async def opened(limit=1000, patience=60.0):
        door = Door(Limits(handshake_queue=limit, handshake_timeout=patience))
        nursery.start_soon(door.keep)
        await trio.testing.wait_all_tasks_blocked()
        return door

    return opened


class Crowd:
    """
    Tasks that wait for one thing, and when each had it.
    """

    def __init__(self, turns, wait):
        self.turns = turns
        self.wait = wait
        self.passed = []
        self.answers = {}

    async def come(self, number):
        self.answers[number] = await self.wait()
        self.passed.append((self.turns.now, number))

    async def line_up(self, nursery, door):
        """
        Come one after the other to a door that nobody keeps yet: the first passes, the others wait.
        """
        for number in range(CROWD):
            nursery.start_soon(self.come, number)
            await trio.testing.wait_all_tasks_blocked()
        assert door.waiting == CROWD - 1

    def most_in_a_turn(self):
        return max(Counter(turn for turn, _ in self.passed).values())


@pytest.mark.parametrize(
    ("what", "most"), [("wait_heard", HEARD), ("wait_begun", 1), ("wait_cleared", CLEARED)]
)
async def test_a_crowd_gets_through_a_few_in_each_turn(open_door, turns, what, most):
    """
    However many are there, a turn stays short; and nobody waits for ever.
    """
    crowd = Crowd(turns, getattr(await open_door(), what))
    async with trio.open_nursery() as nursery:
        for number in range(CROWD):
            nursery.start_soon(crowd.come, number)
    assert len(crowd.passed) == CROWD
    # Those of the first turn did not wait; the keeper's come on top of them at most once.
    assert crowd.most_in_a_turn() <= 2 * most
    assert crowd.passed[-1][0] - crowd.passed[0][0] >= CROWD / most - 2


@pytest.mark.parametrize("what", ["wait_heard", "wait_begun", "wait_cleared"])
async def test_without_a_crowd_nobody_waits(open_door, what):
    """
    A single newcomer pays with no turn of the loop for others' crowds.
    """
    door = await open_door()
    for _ in range(3):
        with trio.testing.assert_no_checkpoints():
            await getattr(door, what)()
        await trio.testing.wait_all_tasks_blocked()


async def test_who_came_first_begins_first(turns, nursery):
    """
    Nobody is overtaken.
    """
    door = Door(Limits())
    crowd = Crowd(turns, door.wait_begun)
    async with trio.open_nursery() as coming:
        await crowd.line_up(coming, door)
        nursery.start_soon(door.keep)
    assert [number for _, number in crowd.passed] == list(range(CROWD))


async def test_between_two_that_begin_the_others_have_a_short_turn(turns, nursery):
    """
    A request that needs some turns is not behind a beginning in each of them.
    """
    door = Door(Limits())
    crowd = Crowd(turns, door.wait_begun)
    async with trio.open_nursery() as coming:
        await crowd.line_up(coming, door)
        nursery.start_soon(door.keep)
    # The first did not wait.
    begun = [turn for turn, _ in crowd.passed[1:]]
    assert all(later - earlier >= ALONE for earlier, later in pairwise(begun))


async def test_newcomers_are_heard_before_websockets_begin(open_door, turns):
    """
    A request among a crowd of WebSockets is answered before they have all begun; and they do begin.
    """
    door = await open_door()
    websockets, requests = Crowd(turns, door.wait_begun), Crowd(turns, door.wait_heard)
    async with trio.open_nursery() as nursery:
        for crowd in (websockets, requests):
            for number in range(CROWD):
                nursery.start_soon(crowd.come, number)
    all_heard = requests.passed[-1][0]
    begun = sum(turn <= all_heard for turn, _ in websockets.passed)
    assert 0 < begun <= (all_heard - websockets.passed[0][0]) / SHARE + 3
    assert len(websockets.passed) == CROWD


async def test_no_more_wait_than_may(open_door, turns):
    """
    Who comes beyond them is told at once.
    """
    door = await open_door(limit=5)
    crowd = Crowd(turns, door.wait_begun)
    async with trio.open_nursery() as nursery:
        for number in range(CROWD):
            nursery.start_soon(crowd.come, number)
        await trio.lowlevel.checkpoint()
        assert door.waiting <= 5
    answers = Counter(crowd.answers.values())
    assert answers[True] >= 5
    assert answers[False] >= CROWD - 10
    assert await door.wait_begun()


async def test_who_has_waited_too_long_is_refused(turns, nursery, autojump_clock):
    """
    A client that has given up must not be served before one that has not.
    """
    door = Door(Limits(handshake_timeout=5.0))
    crowd = Crowd(turns, door.wait_begun)
    async with trio.open_nursery() as coming:
        await crowd.line_up(coming, door)
        await trio.sleep(6.0)
        coming.start_soon(crowd.come, CROWD)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(door.keep)
    # The first did not wait, and the last had not waited long.
    assert crowd.answers == {number: number in (0, CROWD) for number in range(CROWD + 1)}


async def test_who_gives_up_leaves_no_gap(open_door, turns):
    """
    A cancelled one is forgotten; the others have their turns.
    """
    door = await open_door()
    crowd = Crowd(turns, door.wait_begun)
    async with trio.open_nursery() as staying, trio.open_nursery() as giving_up:
        for number in range(CROWD):
            (giving_up if number % 2 else staying).start_soon(crowd.come, number)
        await trio.lowlevel.checkpoint()
        giving_up.cancel_scope.cancel()
    assert set(range(0, CROWD, 2)) <= set(crowd.answers)
    assert door.waiting == 0
