"""A crowd of viewers that leaves one episode at once: gone, but not all in one turn of the loop."""

import attrs
import trio

from engine.actors import episode as module
from tests.contract.test_presence_at_scale import GRACE, TICK, Crowd, now

CROWD = 100


@attrs.define(eq=False)
class Totals(trio.abc.Instrument):
    """
    How many viewers there were after each step of any task, and the most that one step took away.
    """

    crowd: Crowd
    before: int = CROWD
    most: int = 0

    def after_task_step(self, task):
        total = self.crowd.actor.presence.total
        self.most = max(self.most, self.before - total)
        self.before = total


async def test_those_who_left_at_once_are_forgotten_a_few_at_a_time(autojump_clock, nursery, monkeypatch):
    """
    Their grace ends in the same moment; who came back within it stays.
    """
    monkeypatch.setattr(module, "utc_now", now)
    monkeypatch.setattr(module, "TURN", 7)
    crowd = Crowd(nursery=nursery)
    await crowd.start()
    screens = [crowd.join(f"user-{number}") for number in range(CROWD)]
    await trio.sleep(2 * TICK)
    totals = Totals(crowd)
    trio.lowlevel.add_instrument(totals)
    for screen in screens:
        crowd.leave(screen)
    await trio.sleep(GRACE / 2)
    # The first to leave: the others are due before the one that would be due first.
    back = crowd.join("user-0")
    await trio.sleep(GRACE + 2 * TICK)
    trio.lowlevel.remove_instrument(totals)
    assert crowd.actor.presence.total == 1
    assert 0 < totals.most <= 7
    assert back.total == 1
    nursery.cancel_scope.cancel()
