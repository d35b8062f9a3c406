"""Backoff: its bounds."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.backoff import Backoff


@given(
    attempt=st.integers(0, 10_000),
    first=st.floats(0, 10),
    cap=st.floats(0, 100),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_a_delay_is_never_above_the_cap_and_never_less_than_the_jitter_allows(
    attempt, first, cap, jitter, seed
):
    """
    However many attempts there were, and whatever the dice say.
    """
    delay = Backoff(first=first, cap=cap, jitter=jitter).delay(attempt, Random(seed))
    longest = min(cap, first * 2 ** min(attempt, 64))
    assert longest * (1 - jitter) * 0.999 <= delay <= longest
    unspread = Backoff(first=first, cap=cap, jitter=0)
    assert unspread.delay(attempt, Random(seed)) <= unspread.delay(attempt + 1, Random(seed))
