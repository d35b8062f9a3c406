"""Deadlines are kept by one task, and those that were cancelled take up no room for long."""

import trio
from trio.testing import MockClock

from gateway.engineio.timers import MANY, Timers


async def test_timers_that_were_cancelled_are_not_kept_until_they_would_be_due(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """
    A client that renews its token again and again leaves a timer each time, due when that token ends.
    """
    timers = Timers()
    done: list[str] = []
    year = trio.current_time() + 31_536_000
    for _ in range(20 * MANY):
        timers.at(year, lambda: done.append("late")).cancel()
    assert len(timers) <= 2 * MANY
    for number in range(2 * MANY):
        timers.at(trio.current_time() + number / MANY, lambda: done.append("in time"))
    nursery.start_soon(timers.run)
    await trio.sleep(5)
    assert done == ["in time"] * 2 * MANY
