"""Runs other people's functions: on the loop under a guard, or in a thread. Knows nothing of plugins."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import attrs
import trio

from engine.errors import EngineError
from engine.runtime.loop_guard import LoopGuard


class OverBudgetError(EngineError):
    """
    Foreign code took longer than it may, and was cancelled. Count it as a failure of its owner.
    """


class ForeignExitError(EngineError):
    """
    Foreign code raised what would end the process. Count it as a failure of its owner.
    """


# What raises an interruption of the node: the event loop, because of a signal or the end of a task.
_OF_THE_LOOP = ("trio.", "engine.runtime.")


@attrs.frozen(kw_only=True)
class Function:
    """
    One function of somebody else's: whose it is, its name, and whether it is `async def`.
    """

    owner: str
    name: str
    call: Callable[..., Any]
    is_async: bool


@attrs.define(eq=False, kw_only=True)
class Runner:
    """
    Run functions: `async def` on the event loop, where a blocking one is interrupted; `def` in a thread.
    """

    guard: LoopGuard
    # False: plain functions run where they are called. For engines on a virtual clock, which have no threads.
    in_threads: bool = True

    async def run(
        self, function: Function, *given: object, limiter: trio.CapacityLimiter | None = None
    ) -> Any:
        """
        What the function answers, or raises. The caller owns the deadline; a thread is left behind by it.

        Raises ForeignExitError for what would end the process, such as SystemExit.
        """
        try:
            return await self._run(function, given, limiter)
        except Exception:
            raise
        except BaseException as error:
            if (failure := without_exits(error, function.name)) is error:
                raise
            raise failure from failure.__cause__

    async def _run(
        self, function: Function, given: Sequence[object], limiter: trio.CapacityLimiter | None
    ) -> Any:
        if function.is_async:
            return await self.guard.watch(
                cast(Awaitable[Any], function.call(*given)), function.owner, function.name
            )
        if self.in_threads:
            return await trio.to_thread.run_sync(
                function.call, *given, abandon_on_cancel=True, limiter=limiter
            )
        await trio.lowlevel.checkpoint()
        return function.call(*given)

    async def run_within(
        self, budget: float, function: Function, *given: object, limiter: trio.CapacityLimiter | None = None
    ) -> Any:
        """
        The same within `budget` seconds. Raises OverBudgetError.
        """
        with trio.move_on_after(budget):
            return await self.run(function, *given, limiter=limiter)
        raise OverBudgetError(f"{function.name} took longer than its budget of {budget:g} s")


def without_exits(error: BaseException, name: str) -> BaseException:
    """
    The error, with ForeignExitError in the place of what would end the process, if foreign code raised that.

    What interrupts the node is left: a cancellation that was asked for, Ctrl-C, the end of the task.
    """
    if not isinstance(error, BaseExceptionGroup):
        return _exit_error([error], name) if _is_exit(error) else error
    exits, rest = error.split(_is_exit)
    if exits is None:
        return error
    replaced = _exit_error(_leaves(exits), name)
    return replaced if rest is None else BaseExceptionGroup(error.message, [rest, replaced])


def told(error: BaseException) -> str:
    """
    An error's kind and text, for a log or a screen.
    """
    return f"{type(error).__name__}: {said(error)}"


def said(error: BaseException) -> str:
    """
    An error's text; somebody else's error may fail to tell it.
    """
    try:
        return str(error)
    except BaseException as failure:
        if isinstance(failure, Exception) or _is_exit(failure):
            return f"(its text cannot be told: {type(failure).__name__})"
        raise


def _exit_error(exits: Sequence[BaseException], name: str) -> ForeignExitError:
    texts = ", ".join(" ".join(f"{type(one).__name__} {said(one)}".split()) for one in exits)
    failure = ForeignExitError(f"{name} must not end the node: {texts}")
    failure.__cause__ = exits[0]
    return failure


def _is_exit(error: BaseException) -> bool:
    if isinstance(error, (Exception, BaseExceptionGroup)):
        return False
    if isinstance(error, trio.Cancelled):
        # An old one, kept from where it was meant for: let through, it would silently end who has called.
        return trio.current_effective_deadline() > -math.inf
    return not (isinstance(error, (KeyboardInterrupt, GeneratorExit)) and _is_of_the_loop(error))


def _is_of_the_loop(error: BaseException) -> bool:
    # Foreign code raises in its own.
    raised_in = error.__traceback__
    while raised_in is not None and raised_in.tb_next is not None:
        raised_in = raised_in.tb_next
    return raised_in is None or str(raised_in.tb_frame.f_globals.get("__name__", "")).startswith(_OF_THE_LOOP)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found
