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


def test_who_has_heard_less_is_before() -> None:
    """
    By the place, and at the same place by what was heard beyond it; however long the runs are.
    """

    def at(offset: str) -> CatalogPosition:
        position = CatalogPosition.parsed(offset, Epoch("epoch"))
        assert position is not None
        return position

    assert at("814-57").is_before(at("814-58"))
    assert not at("815-57+1").is_before(at("814-58+9"))
    assert at("814-57+59").is_before(at("814-57+59,61-9999999999999999"))
    assert not at("814-57+59-70").is_before(at("814-57+61-62"))
    assert not at("814-57").is_before(at("814-57"))


def test_no_position_of_ours_has_so_many_runs() -> None:
    """
    What clients send is not worked through for long.
    """
    runs = ",".join(str(number) for number in range(1, 200, 2))
    assert CatalogPosition.parsed(f"814-57+{runs}", Epoch("epoch")) is None
