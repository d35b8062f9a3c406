"""Python's cyclic garbage collector, kept to short pauses: what has survived is left alone for a while."""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

_OLDEST = 2
# What comes is looked at for the last time when it is some 4,000 objects: a millisecond. As each object is
# looked at three times in its life, whatever these numbers are, smaller ones cost nothing more in all.
_THRESHOLDS = (700, 2, 1)


@attrs.frozen(kw_only=True)
class Patience:
    """
    When to look at everything once more. Times in seconds, memory in blocks of Python's allocator.
    """

    # As long as nothing special happens: cycles among survivors are garbage until then.
    interval: float = 600.0
    # Sooner, when memory has grown by this factor and number since the last time, and not only for a moment:
    # a crowd that comes is no garbage.
    growth: float = 2.0
    least: int = 500_000
    settle: float = 30.0


@attrs.define(eq=False, kw_only=True)
class _Survivors:
    """
    Own what is known of the memory that is left alone: since when, and how much it was then.
    """

    patience: Patience
    clock: Callable[[], float]
    blocks: Callable[[], int]
    _looked: float = attrs.field(init=False)
    # None until the look is over.
    _least: float | None = attrs.field(default=None, init=False)
    _grown_since: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._looked = self.clock()

    def looks_due(self) -> bool:
        """
        Whether the next full collection must look at everything. Asked after each.
        """
        now, blocks = self.clock(), self.blocks()
        if self._least is None:
            self._least = max(blocks * self.patience.growth, blocks + self.patience.least)
        if blocks < self._least:
            self._grown_since = None
        elif self._grown_since is None:
            self._grown_since = now
        has_grown = self._grown_since is not None and now - self._grown_since >= self.patience.settle
        if not has_grown and now - self._looked < self.patience.interval:
            return False
        self._looked, self._least, self._grown_since = now, None, None
        return True


@contextmanager
def short_pauses(
    patience: Patience | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    blocks: Callable[[], int] = sys.getallocatedblocks,
) -> Iterator[None]:
    """
    Let a full collection look only at what came since the last one; at everything when patience is over.

    Python itself looks at everything whenever that has grown by a quarter. With thousands of sessions that
    takes a third of a second each time, in which nothing else runs, and finds next to nothing: a connection
    leaves hardly any cycles behind.
    """
    survivors = _Survivors(patience=patience or Patience(), clock=clock, blocks=blocks)

    def collected(phase: str, info: Mapping[str, Any]) -> None:
        if phase != "stop" or info["generation"] != _OLDEST:
            return
        if survivors.looks_due():
            # The next full collection, not this one: it cannot be begun from here.
            gc.unfreeze()
        else:
            gc.freeze()

    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    gc.callbacks.append(collected)
    gc.collect()
    # Once more, for Python's notion of how many survivors there are: a quarter of them delays the next.
    gc.collect()
    try:
        yield
    finally:
        gc.callbacks.remove(collected)
        gc.set_threshold(*before)
        gc.unfreeze()
