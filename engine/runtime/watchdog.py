"""Watchdog: a thread that sees who keeps the event loop to itself, and where. It interrupts nobody."""

import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import structlog

from engine.runtime.loop_guard import LoopGuard, Step

log = structlog.get_logger(__name__)

# Looks within the time that a step may take: it is seen before the guard interrupts it.
LOOKS = 4
# Seconds between two looks at least.
SHORTEST = 0.01
# What a log line shows of the stack: its innermost frames.
FRAMES = 20


@attrs.define(eq=False)
class Watchdog:
    """
    Own the thread, and how often whose code was caught.

    Code that the guard cannot interrupt, because it is C and does not return, is named all the same, unless
    it also keeps Python's own lock: then no thread runs.
    """

    guard: LoopGuard
    # By owner.
    caught: Counter[str] = attrs.field(factory=Counter, init=False)
    _last: Step | None = attrs.field(default=None, init=False)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """
        Watch the thread that calls this, for the time of the block.
        """
        stop, watched = threading.Event(), threading.get_ident()
        thread = threading.Thread(target=self._watch, args=(stop, watched), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(1.0)

    def _watch(self, stop: threading.Event, watched: int) -> None:
        while not stop.wait(max(SHORTEST, self.guard.limit / LOOKS)):
            step = self.guard.step
            # Each step is told once.
            if step is None or step is self._last:
                continue
            lasted = time.monotonic() - step.began
            if lasted >= self.guard.limit * (LOOKS - 2) / LOOKS:
                self._last = step
                self._tell(step, lasted, watched)

    def _tell(self, step: Step, lasted: float, watched: int) -> None:
        self.caught[step.owner] += 1
        frame = sys._current_frames().get(watched)
        stack = [] if frame is None else traceback.format_stack(frame)[-FRAMES:]
        log.error(
            "a plugin keeps the event loop to itself",
            plugin=step.owner,
            hook=step.name,
            seconds=round(lasted, 3),
            stack="".join(stack),
        )
