"""The loop guard, against coroutines that really block the main thread."""

import signal
import time

import pytest
import trio

from engine.runtime.loop_guard import LoopBlockedError, LoopGuard

LIMIT = 0.1


@pytest.fixture
def guard():
    guard = LoopGuard(LIMIT)
    with guard.installed():
        yield guard


async def test_a_coroutine_that_sleeps_in_the_kernel_is_interrupted(guard):
    """
    time.sleep in an async function blocks everybody, but only for the limit.
    """

    async def sleeper():
        time.sleep(30)

    began = time.monotonic()
    with pytest.raises(LoopBlockedError, match=r"0\.1 s"):
        await guard.watch(sleeper())
    assert time.monotonic() - began < 10


async def test_a_coroutine_that_computes_for_ever_is_interrupted(guard):
    """
    A loop in pure Python ends too.
    """

    async def computer():
        while True:
            pass

    with pytest.raises(LoopBlockedError):
        await guard.watch(computer())


async def test_a_coroutine_that_catches_the_interruption_and_goes_on_is_interrupted_again(guard):
    """
    Nobody escapes by `except Exception`.
    """
    caught = 0

    async def stubborn():
        nonlocal caught
        while caught < 3:
            try:
                time.sleep(30)
            except LoopBlockedError:
                caught += 1
        return "gave up"

    assert await guard.watch(stubborn()) == "gave up"
    assert caught == 3


async def test_a_coroutine_that_awaits_may_take_as_long_as_it_likes(guard):
    """
    Only a single step is measured; values, errors and cancellation pass through as by `await`.
    """

    async def patient():
        for _ in range(5):
            await trio.sleep(LIMIT / 2)
        with trio.move_on_after(0.01) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)
        return 42

    assert await guard.watch(patient()) == 42


async def test_an_error_of_the_coroutine_is_its_own(guard):
    """
    What it raises comes out unchanged.
    """

    async def broken():
        await trio.lowlevel.checkpoint()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await guard.watch(broken())


async def test_cancellation_reaches_the_coroutine(guard):
    """
    A budget's cancel scope works through the guard.
    """
    cancelled = False

    async def sleeper():
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled = True
            raise

    with trio.move_on_after(0.01):
        await guard.watch(sleeper())
    assert cancelled


async def test_blocking_outside_of_a_watched_step_is_nobodys_business(guard):
    """
    The timer runs only while a watched step does.
    """

    async def quick():
        return None

    await guard.watch(quick())
    time.sleep(LIMIT * 2)


def test_the_former_signal_handler_is_put_back():
    """
    The guard leaves the process as it was.
    """
    before = signal.getsignal(signal.SIGALRM)
    with LoopGuard(LIMIT).installed():
        assert signal.getsignal(signal.SIGALRM) != before
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
