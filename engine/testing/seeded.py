"""Runs Trio on a virtual clock and with a seeded scheduler: the same seed makes the same run."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

import trio
import trio.testing
from trio._core import _run as trio_run

from engine.domain.world import simulated

T = TypeVar("T")

# When every simulation begins.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def _seeded_scheduler(seed: str) -> Iterator[None]:
    """
    Make Trio's own choices from a seed: which of the runnable tasks is first.

    Trio does this itself for Hypothesis (`_hypothesis_plugin_setup`): the flag sorts the runnable tasks by
    their age, which does not depend on memory addresses, before its private generator `_r` shuffles them.
    """
    internals: Any = trio_run
    before = internals._ALLOW_DETERMINISTIC_SCHEDULING, internals._r.getstate()
    internals._ALLOW_DETERMINISTIC_SCHEDULING = True
    internals._r.seed(seed)
    try:
        yield
    finally:
        internals._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        internals._r.setstate(before[1])


def run_seeded(main: Callable[[Random], Awaitable[T]], *, seed: int) -> T:
    """
    Run `main` to its end in virtual time: whenever every task waits, the clock jumps to the next deadline.

    `main` is given a random generator of the seed's. No thread, socket or process may take part.
    """
    chance = Random(_part(seed, "chance"))  # noqa: S311 -- chosen, not secret

    async def begin() -> T:
        zero = trio.current_time()

        def clock() -> datetime:
            return EPOCH + timedelta(seconds=trio.current_time() - zero)

        with simulated(clock, Random(_part(seed, "ids"))):  # noqa: S311
            return await main(chance)

    with _seeded_scheduler(_part(seed, "scheduler")):
        return trio.run(
            begin, clock=trio.testing.MockClock(autojump_threshold=0), strict_exception_groups=True
        )


def _part(seed: int, name: str) -> str:
    return hashlib.sha256(f"{name}:{seed}".encode()).hexdigest()
