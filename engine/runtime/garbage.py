"""Python's cyclic garbage collector, kept to short pauses: what has survived is left alone for a while."""

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Seconds after which survivors are looked at again: cycles among them are garbage until then.
INTERVAL = 600.0
_OLDEST = 2
# What comes is looked at for the last time when it is about 20,000 objects: some milliseconds. Python's own
# thresholds let it be more, because each look is at the rest, too.
_THRESHOLDS = (700, 10, 3)


@contextmanager
def short_pauses(interval: float = INTERVAL) -> Iterator[None]:
    """
    Let a full collection look only at what came since the last one; at everything once in `interval` seconds.

    Python itself looks at everything whenever that has grown by a quarter. With thousands of sessions that
    takes a third of a second each time, in which nothing else runs, and finds next to nothing: a connection
    leaves hardly any cycles behind.
    """
    looked = time.monotonic()

    def collected(phase: str, info: Mapping[str, Any]) -> None:
        nonlocal looked
        if phase != "stop" or info["generation"] != _OLDEST:
            return
        if time.monotonic() - looked < interval:
            gc.freeze()
        else:
            # The next full collection, not this one: it cannot be begun from here.
            looked = time.monotonic()
            gc.unfreeze()

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
