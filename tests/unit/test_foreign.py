"""Foreign functions that raise what would end the process: their failure, unless the node is interrupted."""

import signal

import pytest
import trio

from engine.runtime.foreign import ForeignExitError, Function, OverBudgetError, Runner, said
from engine.runtime.loop_guard import LoopGuard

EXITS = [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException]


class MuteError(Exception):
    """
    An error whose text is not to be had.
    """

    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.fixture
def runner() -> Runner:
    return Runner(guard=LoopGuard(10))


def function(call, *, is_async=True) -> Function:
    return Function(owner="p", name="on_event", call=call, is_async=is_async)


@pytest.mark.parametrize("kind", EXITS)
@pytest.mark.parametrize("way", ["async", "thread", "nursery", "called at once"])
async def test_what_would_end_the_process_is_a_failure_of_who_raised_it(runner, kind, way):
    """
    On the loop, in a thread, in a nursery of the function's own, and where there are no threads.
    """

    error = kind("out")

    def plain():
        raise error

    async def alone():
        await trio.lowlevel.checkpoint()
        raise error

    async def among_others():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(alone)

    runner.in_threads = way != "called at once"
    call = {"async": alone, "nursery": among_others}.get(way, plain)
    told = f"on_event must not end the node: {kind.__name__} out"
    with pytest.raises(ForeignExitError) as caught:
        await runner.run(function(call, is_async=way in ("async", "nursery")))
    assert str(caught.value) == told
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("kind", EXITS)
async def test_an_exit_while_it_is_cancelled_is_a_failure_too(runner, kind):
    """
    Raised beside the cancellation, which ends at its own scope as ever.
    """

    async def leave():
        try:
            await trio.sleep_forever()
        finally:
            raise kind("out")

    async def among_others():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            nursery.start_soon(trio.sleep_forever)

    for call in (leave, among_others):
        with pytest.RaisesGroup(ForeignExitError, allow_unwrapped=True, flatten_subgroups=True):
            with trio.move_on_after(0):
                await runner.run(function(call))


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(runner):
    """
    One that was caught elsewhere and raised anew would be taken for the end of the node's own tasks.
    """

    async def raise_late():
        with trio.move_on_after(0):
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                kept = cancelled
                raise
        raise kept

    # Let through, it would end this test, and as if all were well.
    with pytest.raises((ForeignExitError, trio.Cancelled)) as caught:
        await runner.run(function(raise_late))
    assert str(caught.value).startswith("on_event must not end the node: Cancelled")
    # Asked for, it is one.
    with trio.CancelScope() as scope:
        scope.cancel()
        await runner.run(function(raise_late))
    assert scope.cancelled_caught


async def test_errors_beside_an_exit_are_told_with_it(runner):
    """
    A group loses none of what is no exit.
    """

    async def both():
        raise BaseExceptionGroup("both", [ValueError("a"), SystemExit(1), SystemExit(2)])

    with pytest.RaisesGroup(ValueError, ForeignExitError, flatten_subgroups=True) as caught:
        await runner.run(function(both))
    exit_error = caught.value.exceptions[1]
    assert str(exit_error) == "on_event must not end the node: SystemExit 1, SystemExit 2"


@pytest.mark.parametrize("is_async", [True, False])
def test_ctrl_c_while_foreign_code_runs_interrupts_the_node(runner, is_async):
    """
    It is whoever pressed it who is to be heard, not the function that happened to run.
    """

    async def press():
        signal.raise_signal(signal.SIGINT)

    def press_plainly():
        signal.raise_signal(signal.SIGINT)

    runner.in_threads = False
    with pytest.RaisesGroup(KeyboardInterrupt, allow_unwrapped=True, flatten_subgroups=True):
        trio.run(runner.run, function(press if is_async else press_plainly, is_async=is_async))


def test_ctrl_c_while_foreign_code_waits_interrupts_the_node(runner):
    """
    Trio delivers it where the main task waits.
    """

    async def wait():
        trio.lowlevel.spawn_system_task(press)
        await trio.sleep_forever()

    async def press():
        signal.raise_signal(signal.SIGINT)

    with pytest.RaisesGroup(KeyboardInterrupt, allow_unwrapped=True, flatten_subgroups=True):
        trio.run(runner.run, function(wait))


def test_a_run_that_is_thrown_away_ends_as_coroutines_do(runner):
    """
    Its GeneratorExit is nobody's failure.
    """
    trapped = []

    class Forever:
        def __await__(self):
            trapped.append("waits")
            yield "trap"

    async def wait():
        await Forever()

    run = runner.run(function(wait))
    assert run.send(None) == "trap"
    run.close()
    assert trapped == ["waits"]


async def test_a_function_over_its_budget_is_told_apart_from_one_that_exits(runner):
    """
    Both are failures; their texts say which.
    """

    async def leave():
        raise SystemExit

    with pytest.raises(OverBudgetError):
        await runner.run_within(0, function(trio.sleep_forever))
    with pytest.raises(ForeignExitError):
        await runner.run_within(10, function(leave))


def test_an_error_that_cannot_be_told_is_named():
    """
    Whatever its text raises, an exit included.
    """
    assert said(ValueError("plain")) == "plain"
    assert said(MuteError()) == "(its text cannot be told: SystemExit)"
