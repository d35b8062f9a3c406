"""Answers that are cut off: whoever asked is told so, whenever it happens."""

import trio

from engine.hookspecs import Refused, hookimpl
from engine.testing import simulate


class Slow:
    """
    Answers after a while.
    """

    def __init__(self):
        self.asked = 0

    @hookimpl
    async def call(self, name, args):
        self.asked += 1
        await trio.sleep(1)
        return args


def test_an_answer_that_is_stopped_is_told_to_who_waits_for_it():
    """
    Amid the plugin's work, or before it has begun; neither counts as under way any more.
    """
    slow = Slow()
    options = {"plugins.slow.answers_at_once": 1, "plugins.slow.answer_budget": "5s"}

    async def scenario(engine):
        bob = engine.client("bob@example.com")
        for number, pause in enumerate((0, 0.5)):
            said = []

            async def ask(said=said):
                with trio.fail_after(60):
                    said.append(await bob.call("slow.echo", 1))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                answers = engine.node.plugin_tasks.answers
                while not answers.supervisor.children():
                    await trio.lowlevel.checkpoint()
                if pause:
                    await engine.advance(pause)
                assert await engine.restart(f"slow/call/{number}")
            assert said == [Refused("try_later", "plugin slow was stopped")]
            assert slow.asked == number
        assert await bob.call("slow.echo", 2) == 2

    for seed in range(5):
        slow.asked = 0
        simulate(scenario, plugins={"slow": slow}, options=options, seed=seed)
