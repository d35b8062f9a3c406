"""Loop guard: interrupts foreign code that keeps the event loop to itself; knows nothing of plugins."""

import signal
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType, coroutine
from typing import Any, TypeVar, cast

import attrs

from engine.errors import EngineError

T = TypeVar("T")

# Seconds until the next try, when a step was not where it may be interrupted, or went on all the same.
AGAIN = 0.05
# Code that an exception out of nowhere would leave in a state it cannot be in.
UNTOUCHABLE = ("trio.", "engine.", "psycopg", "outcome")


class LoopBlockedError(EngineError):
    """
    A coroutine ran for too long without letting others run, and was interrupted where it was.

    Its author must await instead, or block in a thread (`trio.to_thread.run_sync`).
    """


@attrs.frozen(eq=False)
class Step:
    """
    A watched step: whose code it is, what it is called, and when it began, by `time.monotonic`.
    """

    owner: str
    name: str
    began: float


@attrs.define(eq=False)
class LoopGuard:
    """
    Own the process's interval timer, and with it the right to interrupt the main thread.

    A coroutine that is awaited through `watch` may take `limit` seconds for one step, that is from one
    await to the next. One that takes longer gets LoopBlockedError raised where it is, even in
    `time.sleep`. On a platform without interval timers, or off the main thread, nothing is watched.
    """

    limit: float
    _active: bool = attrs.field(default=False, init=False)
    # The watched step that is under way, for the watchdog, too.
    step: Step | None = attrs.field(default=None, init=False)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """
        Watch from here on; for the time that the event loop runs.
        """
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, self._interrupt)
        self._active = True
        try:
            yield
        finally:
            self._active = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @coroutine
    def watch(self, awaitable: Awaitable[T], owner: str = "", name: str = "") -> Generator[Any, Any, T]:
        """
        Await it, one watched step after the other; `owner` and `name` say whose it is.
        """
        steps = awaitable.__await__()
        resume: Callable[[Any], Any] = steps.send
        given: Any = None
        while True:
            self._begin(owner, name)
            try:
                trap = resume(given)
            except StopIteration as end:
                return cast(T, end.value)
            finally:
                self._end()
            try:
                given = yield trap
                resume = steps.send
            except BaseException as error:  # noqa: ASYNC103 -- handed on, as `await` does
                given = error
                resume = steps.throw

    def _begin(self, owner: str, name: str) -> None:
        if self._active:
            self.step = Step(owner, name, time.monotonic())
            signal.setitimer(signal.ITIMER_REAL, self.limit, AGAIN)

    def _end(self) -> None:
        if self._active:
            self.step = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # The signal may be handled a little after the step has ended, or amid the event loop's own code.
        if self.step is not None and frame is not None and not _is_untouchable(frame):
            raise LoopBlockedError(
                f"it kept the event loop to itself for more than {self.limit:g} s; "
                "await instead, or block in a thread (trio.to_thread.run_sync)"
            )


def _is_untouchable(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(UNTOUCHABLE)
