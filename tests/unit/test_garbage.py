"""The collector's pauses: what they are spared, and that nothing is spared for ever."""

import gc
import weakref

import pytest

from engine.runtime.garbage import Patience, short_pauses


class Knot:
    """
    Refers to itself, so only the cyclic collector can free it.
    """

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def by_hand():
    """
    No collection but those that the test asks for.
    """
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def test_what_has_survived_is_not_looked_at_again():
    """
    However many sessions live, a full collection takes no longer than what came since the last one.
    """
    crowd = [Knot() for _ in range(1000)]
    with short_pauses():
        assert gc.get_freeze_count() > len(crowd)
        came = [Knot() for _ in range(100)]
        before = gc.get_freeze_count()
        gc.collect()
        assert before + len(came) <= gc.get_freeze_count() < before + 2 * len(crowd)
        assert not any(one is came[0] for one in gc.get_objects())
    assert gc.get_freeze_count() == 0


def test_what_came_since_and_is_garbage_is_freed_at_once():
    """
    The next full collection takes it, as ever.
    """
    with short_pauses():
        knot = Knot()
        gone = weakref.ref(knot)
        del knot
        gc.collect()
        assert gone() is None


def test_what_was_left_alone_and_became_garbage_is_freed_when_its_time_has_come():
    """
    Nothing leaks for longer than the interval.
    """
    knot = Knot()
    gone = weakref.ref(knot)
    with short_pauses(Patience(interval=3600)):
        del knot
        gc.collect()
        assert gone() is not None
    knot = Knot()
    gone = weakref.ref(knot)
    with short_pauses(Patience(interval=0)):
        gc.freeze()
        del knot
        gc.collect()  # does not see it, and lets the next one
        gc.collect()
        assert gone() is None


def test_garbage_that_makes_memory_grow_is_not_left_for_long():
    """
    Memory that has doubled and stays so is looked at before the interval is over; a moment of it is not.
    """
    now, blocks = 0.0, 1000
    patience = Patience(interval=3600, growth=2, least=100, settle=30)

    def collect_at(time, used):
        nonlocal now, blocks
        now, blocks = time, used
        gc.collect()

    with short_pauses(patience, clock=lambda: now, blocks=lambda: blocks):
        knot = Knot()
        gone = weakref.ref(knot)
        gc.freeze()
        del knot
        collect_at(1, 2000)
        collect_at(20, 1999)
        collect_at(40, 2000)
        collect_at(69, 5000)
        gc.collect()
        assert gone() is not None
        collect_at(70, 5000)
        gc.collect()
        assert gone() is None
        # From now on that is what there is.
        collect_at(200, 9999)
        knot = Knot()
        gone = weakref.ref(knot)
        gc.freeze()
        del knot
        collect_at(300, 9999)
        gc.collect()
        assert gone() is not None
