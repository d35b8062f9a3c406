"""Instruments of measurement: a histogram, and the length of the event loop's turns. Know no metric."""

import time
from bisect import bisect_left

import attrs
import trio

# Seconds, from what a local fan-out takes to what somebody complains about.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@attrs.define(eq=False)
class Histogram:
    """
    Seconds, counted by upper bounds; one more count is for what is beyond the last.
    """

    bounds: tuple[float, ...] = BOUNDS
    counts: list[int] = attrs.field(init=False)
    total: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """
        Count one.
        """
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


@attrs.define(eq=False)
class Turns(trio.abc.Instrument):
    """
    How long the event loop was busy at most without looking for what is ready: so late anything may be.
    """

    longest: float = attrs.field(default=0.0, init=False)
    _began: float | None = attrs.field(default=None, init=False)

    def after_io_wait(self, timeout: float) -> None:
        """
        A turn begins.
        """
        self._began = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        """
        A turn ends.
        """
        if self._began is not None:
            length = time.perf_counter() - self._began
            if length > self.longest:
                self.longest = length

    def take(self) -> float:
        """
        The longest turn since this was asked last, in seconds.
        """
        longest, self.longest = self.longest, 0.0
        return longest
