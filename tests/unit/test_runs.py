"""Runs of numbers: a set, whatever the order of adding and removing; their text reads back."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.event import CatalogPosition, Epoch, LogPlace
from engine.domain.runs import Runs, read_runs, show_runs

NUMBERS = st.integers(1, 30)


@given(st.lists(st.tuples(st.booleans(), NUMBERS)))
def test_runs_are_a_set_of_numbers(changes: list[tuple[bool, int]]) -> None:
    """
    In as few runs as there can be.
    """
    runs, numbers = Runs(), set[int]()
    for adds, number in changes:
        (runs.add if adds else runs.discard)(number)
        (numbers.add if adds else numbers.discard)(number)
        assert {n for n in range(32) if n in runs} == numbers
    frozen = runs.frozen()
    assert [n for first, last in frozen for n in range(first, last + 1)] == sorted(numbers)
    assert all(first - before > 1 for (_, before), (first, _) in pairwise(frozen))
    if frozen:
        assert read_runs(show_runs(frozen)) == frozen


@pytest.mark.parametrize("text", ["", "x", "3-1", "1,1", "1,2", "5,3", "1-", "-1", "1,,3"])
def test_what_is_no_text_of_runs_is_refused(text: str) -> None:
    """
    It comes from clients.
    """
    with pytest.raises(ValueError, match=r".*"):
        read_runs(text)


@pytest.mark.parametrize("offset", ["814-57", "814-57+59", "814-57+59,61-70"])
def test_a_position_reads_back(offset: str) -> None:
    """
    With what was heard beyond it.
    """
    position = CatalogPosition.parsed(offset, Epoch("epoch"))
    assert position is not None
    assert position.place == LogPlace(814, 57)
    assert position.offset == offset
