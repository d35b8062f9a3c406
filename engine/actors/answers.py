"""Plugins' answers to clients: each in a supervised child of its own, under a budget, errors as values."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Protocol

import attrs
import structlog
import trio

from engine.errors import ActorStoppedError
from engine.hookspecs import HttpRequest, Identity
from engine.plugin_host.handle import PluginEngine
from engine.plugin_host.host import PluginHost
from engine.runtime.child import ChildEvent, ChildSpec, RestartPolicy, SupervisorEvent
from engine.runtime.foreign import Function, OverBudgetError, Runner
from engine.runtime.mailbox import Reply
from engine.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)


class AnswerLimits(Protocol):
    """
    What a plugin may take for one answer, in seconds, how many it may be at, how often it may fail in a row.
    """

    @property
    def answer_budget(self) -> float: ...

    @property
    def answers_at_once(self) -> int: ...

    @property
    def failures_to_quarantine(self) -> int: ...


@attrs.frozen
class NoAnswer:
    """
    Why a plugin gave no answer: `code` is unknown_call, try_later, too_slow or failed.
    """

    code: str
    message: str


Done = Callable[[Any], None]


@attrs.define(eq=False, kw_only=True)
class Answers:
    """
    Own the answers under way. A crash of one loses that one, and its client is told so.
    """

    plugins: PluginHost
    runner: Runner
    supervisor: Supervisor
    policy: RestartPolicy
    limits: Callable[[str], AnswerLimits]
    prepared: Mapping[str, trio.Event]
    # Seconds that a plugin which fails too often is not asked.
    rest: float
    answered: Counter[str] = attrs.field(factory=Counter, init=False)
    failed: Counter[str] = attrs.field(factory=Counter, init=False)
    _under_way: Counter[str] = attrs.field(factory=Counter, init=False)
    _failures: Counter[str] = attrs.field(factory=Counter, init=False)
    _resting_until: dict[str, float] = attrs.field(factory=dict, init=False)
    _numbers: "count[int]" = attrs.field(factory=count, init=False)

    def call(self, identity: Identity, name: str, args: Any, done: Done) -> None:
        """
        Let a plugin answer a client's call `<plugin>.<name>`; `done` is told the answer, or NoAnswer.
        """
        plugin, _, inner = name.rpartition(".")
        function = self.plugins.function(plugin, "call") if plugin else None
        if function is None:
            done(NoAnswer("unknown_call", f"no plugin answers {name[:100]!r}; calls are <plugin>.<name>"))
            return
        self._begin(function, (identity, inner, args), done)

    async def http(self, plugin: str, request: HttpRequest) -> Any:
        """
        Let a plugin answer a request; None when there is no such plugin, NoAnswer when it gave none.
        """
        function = self.plugins.function(plugin, "http")
        if function is None:
            return None
        reply: Reply[Any] = Reply()
        self._begin(function, (request,), reply.set)
        return await reply.wait()

    def _begin(self, function: Function, given: tuple[object, ...], done: Done) -> None:
        plugin = function.owner
        if (wait := self._resting_until.get(plugin, 0.0) - trio.current_time()) > 0:
            done(NoAnswer("try_later", f"plugin {plugin} fails too often; it is asked again in {wait:.0f} s"))
            return
        if self._under_way[plugin] >= (most := self.limits(plugin).answers_at_once):
            done(NoAnswer("try_later", f"plugin {plugin} is busy with {most} answers; try again"))
            return

        stopped = NoAnswer("try_later", f"plugin {plugin} was stopped")
        has_begun = False

        def tell(said: Any) -> None:
            self._under_way[plugin] -= 1
            done(said)

        async def answer(task_status: trio.TaskStatus[None]) -> None:
            nonlocal has_begun
            has_begun = True
            task_status.started()
            said: Any = stopped
            try:
                said = await self._ask(function, self.plugins.engines[plugin], given)
            finally:
                tell(said)

        def heard(event: SupervisorEvent) -> None:
            # It was stopped first; whoever asked waits all the same.
            if event.what is ChildEvent.GONE and not has_begun:
                tell(stopped)

        name = f"{plugin}/{function.name}/{next(self._numbers)}"
        spec = ChildSpec(name=name, kind="answer", run=answer, policy=self.policy, park=False, on_event=heard)
        try:
            self.supervisor.start_child_nowait(spec)
        except ActorStoppedError:
            done(NoAnswer("try_later", "the node stops"))
        else:
            self._under_way[plugin] += 1

    async def _ask(self, function: Function, engine: PluginEngine, given: tuple[object, ...]) -> Any:
        plugin, limits = function.owner, self.limits(function.owner)
        try:
            with trio.move_on_after(limits.answer_budget) as waiting:
                await self.prepared[plugin].wait()
            if waiting.cancelled_caught:
                return NoAnswer("try_later", f"plugin {plugin} has not prepared itself yet; try again")
            said = await self.runner.run_within(limits.answer_budget, function, engine, *given)
        except OverBudgetError as error:
            self._count_failure(plugin)
            return NoAnswer("too_slow", f"plugin {plugin}: {error}")
        except Exception:
            self._count_failure(plugin)
            log.exception("a plugin failed to answer", plugin=plugin, hook=function.name)
            return NoAnswer("failed", f"plugin {plugin} failed to answer; the log says why")
        self._failures[plugin] = 0
        self.answered[plugin] += 1
        return said

    def _count_failure(self, plugin: str) -> None:
        self.failed[plugin] += 1
        self._failures[plugin] += 1
        if self._failures[plugin] >= self.limits(plugin).failures_to_quarantine:
            self._failures[plugin] = 0
            self._resting_until[plugin] = trio.current_time() + self.rest
            log.error("a plugin fails too often to be asked", plugin=plugin, rest=self.rest)
