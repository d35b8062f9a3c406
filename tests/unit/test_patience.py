"""What a test says that has waited too long; and what is done again, because the machine paused."""

import time

import pytest
import trio

from tests.patience import ATTEMPTS, PAUSE, patience, undisturbed


async def test_who_has_waited_too_long_is_told_where_the_others_wait(autojump_clock, nursery):
    """
    By task, with the way there; else a hang in a build that is gone cannot be explained.
    """

    async def door():
        await trio.sleep_forever()

    async def guest():
        await door()

    nursery.start_soon(guest, name="a guest")
    with pytest.raises(trio.TooSlowError, match=r"not within 3 s") as told, patience(3):
        await trio.sleep_forever()
    [line] = [line for line in str(told.value).splitlines() if "a guest" in line]
    assert line.strip().startswith("a guest: test_patience.py:")
    assert line.endswith("door") and " guest > " in line


async def test_who_is_cancelled_by_somebody_else_has_not_waited_too_long():
    """
    Only the patience's own end is an error.
    """
    with trio.CancelScope() as scope, patience():
        scope.cancel()
        await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_what_fails_in_a_pause_is_done_again_and_nothing_else():
    """
    A test that is about a short deadline must not fail because its machine was not there; nor pass for that.
    """
    attempts = []

    async def late():
        attempts.append("late")
        if len(attempts) < 3:
            time.sleep(2 * PAUSE)
            raise AssertionError("too late")

    await undisturbed(late)
    assert len(attempts) == 3

    async def wrong():
        attempts.append("wrong")
        raise AssertionError("it is wrong")

    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="it is wrong")):
        await undisturbed(wrong)
    assert attempts.count("wrong") == 1

    async def always_late():
        attempts.append("always late")
        time.sleep(2 * PAUSE)
        raise AssertionError("too late")

    with pytest.RaisesGroup(AssertionError):
        await undisturbed(always_late)
    assert attempts.count("always late") == ATTEMPTS
