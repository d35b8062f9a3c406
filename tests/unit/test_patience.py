"""What a test says that has waited too long."""

import pytest
import trio

from tests.patience import patience


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
