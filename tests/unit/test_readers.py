"""Who waits for sockets to be readable: woken a few in each turn, or told that nothing came."""

import itertools
import socket
from contextlib import closing

import pytest
import trio
import trio.testing

from gateway.http import readers as module
from gateway.http.readers import Readers
from tests.patience import patience


@pytest.fixture
async def readers(nursery):
    readers = Readers()
    nursery.start_soon(readers.keep)
    with closing(readers):
        yield readers
        nursery.cancel_scope.cancel()


@pytest.fixture
def pairs():
    """
    Connected sockets: ours, theirs.
    """
    pairs = [socket.socketpair() for _ in range(20)]
    for ours, _ in pairs:
        ours.setblocking(False)
    yield pairs
    for pair in pairs:
        for each in pair:
            each.close()


async def test_a_crowd_is_woken_a_few_in_each_turn(readers, pairs, nursery, monkeypatch):
    """
    All of them, and none twice; others run between.
    """
    monkeypatch.setattr(module, "WOKEN", 4)
    woken = []

    async def wait(number):
        assert await readers.wait_readable(pairs[number][0])
        woken.append(number)

    for number in range(len(pairs)):
        nursery.start_soon(wait, number)
    await trio.testing.wait_all_tasks_blocked()
    for _, theirs in pairs:
        theirs.send(b"x")
    seen = [0]
    with patience():
        while len(woken) < len(pairs):
            await trio.lowlevel.checkpoint()
            seen.append(len(woken))
    # Two turns at most, because tasks of one turn run in any order.
    assert max(later - before for before, later in itertools.pairwise(seen)) <= 8
    assert sorted(woken) == list(range(len(pairs)))


async def test_who_is_woken_without_a_reason_to_read_is_told_so(readers, pairs, nursery):
    """
    And waits again as if nothing had been.
    """
    ours, theirs = pairs[0]
    answers = []

    async def wait():
        for _ in range(3):
            answers.append(await readers.wait_readable(ours))
            if answers[-1]:
                ours.recv(10)

    nursery.start_soon(wait)
    for number in range(2):
        await trio.testing.wait_all_tasks_blocked()
        readers.wake(ours)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [False] * (number + 1)
    theirs.send(b"x")
    with patience():
        while len(answers) < 3:
            await trio.lowlevel.checkpoint()
    assert answers == [False, False, True]
    readers.wake(ours)  # nobody waits: nothing happens


async def test_who_gives_up_waits_anew_and_misses_nothing(readers, pairs):
    """
    What came between is readable at once.
    """
    ours, theirs = pairs[0]
    with trio.move_on_after(0) as scope:
        await readers.wait_readable(ours)
    assert scope.cancelled_caught
    theirs.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    with patience():
        assert await readers.wait_readable(ours)


async def test_a_socket_that_nobody_waits_for_costs_nothing(readers, pairs):
    """
    However much there is to read of it, and be it closed by the other side: the loop can be idle.
    """
    ours, theirs = pairs[0]
    theirs.send(b"xy")
    with patience():
        assert await readers.wait_readable(ours)
    assert ours.recv(1) == b"x"
    theirs.close()
    with patience():
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_the_number_of_a_socket_that_was_closed_may_be_another_s(readers, pairs):
    """
    The kernel gives the lowest that is free.
    """
    ours, theirs = pairs[0]
    theirs.send(b"x")
    with patience():
        assert await readers.wait_readable(ours)
    number = ours.fileno()
    readers.forget(ours)
    ours.close()
    again, other = socket.socketpair()
    with again, other:
        assert again.fileno() == number
        other.send(b"x")
        with patience():
            assert await readers.wait_readable(again)
        readers.forget(again)
