"""Exponential backoff with jitter; knows nothing of what is tried again."""

import random

import attrs


@attrs.frozen(kw_only=True)
class Backoff:
    """
    How long to wait before each attempt, in seconds: from `first`, doubled each time, never above `cap`.

    `jitter` is the random share of each delay: 1 is full jitter, 0.5 equal jitter, 0 none ("Exponential
    Backoff and Jitter", Marc Brooker, AWS Architecture Blog, 2015).
    """

    first: float
    cap: float
    jitter: float

    def delay(self, attempt: int, chance: random.Random) -> float:
        """
        Seconds to wait before the attempt of this number, counted from 0.
        """
        # The exponent is bounded because a float is not: 2.0**1024 raises.
        longest = min(self.cap, self.first * 2.0 ** min(attempt, 64))
        return longest * (1 - self.jitter * chance.random())
