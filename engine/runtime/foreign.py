"""Runs other people's functions: on the loop under a guard, or in a thread. Knows nothing of plugins."""

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


# What is no failure of the function's, but comes from who runs it.
_PASSED_ON = (trio.Cancelled, KeyboardInterrupt, GeneratorExit)


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
        except (Exception, trio.Cancelled, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, BaseExceptionGroup) and error.subgroup(_PASSED_ON) is not None:
                raise
            told = " ".join(f"{type(error).__name__} {error}".split())
            raise ForeignExitError(f"{function.name} must not end the node: {told}") from error

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
