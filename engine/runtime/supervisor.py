"""Supervisors restart children that crash, with backoff and a limit; they do not know what children do."""

import enum
import math
from collections import Counter
from collections.abc import Callable
from random import Random

import attrs
import structlog
import trio

from engine.errors import ActorStoppedError, EngineError
from engine.runtime.child import (
    Child,
    ChildEvent,
    ChildInfo,
    ChildSpec,
    ChildState,
    Restart,
    RestartPolicy,
    SupervisorEvent,
    cause,
)

__all__ = [
    "ChildEvent",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "EscalationError",
    "Restart",
    "RestartPolicy",
    "Strategy",
    "Supervisor",
    "SupervisorEvent",
]

_log = structlog.get_logger(__name__)
_chance = Random()  # noqa: S311 (spreads restarts, keeps no secret)


class EscalationError(EngineError):
    """
    A child that cannot be parked crashed too often, and its supervisor ended. Let it pass.

    To the supervisor above it is the crash of a child; where there is none it ends the node.
    """


class Strategy(enum.StrEnum):
    """
    Who is restarted with a child that crashed: nobody; those started after it, because they build on it.
    """

    ONE_FOR_ONE = "one-for-one"
    REST_FOR_ONE = "rest-for-one"


@attrs.define(eq=False)
class Supervisor:
    """
    Own a set of children: start them, restart those that crash, stop them in reverse order.

    A supervisor runs once. Its `run` is a child's `run` too, so that supervisors make a tree. Cancelled,
    it stops its children as `stop` does. Nothing that a child raises reaches a sibling or the caller of
    `run`, except EscalationError and what is no Exception, KeyboardInterrupt for one.
    """

    name: str
    strategy: Strategy = attrs.field(kw_only=True, default=Strategy.ONE_FOR_ONE)
    # Spreads the restarts; a test that foretells them gives its own.
    _random: Random | None = attrs.field(kw_only=True, default=None, alias="random")
    on_event: Callable[[SupervisorEvent], None] | None = attrs.field(kw_only=True, default=None)
    # In the order of their start, which is the order that rest-for-one and stop go by.
    _children: dict[str, Child] = attrs.field(factory=dict, init=False)
    # Restarts and crashes so far by kind of child, also of those that are gone.
    restarted: Counter[str] = attrs.field(factory=Counter, init=False)
    crashed: Counter[str] = attrs.field(factory=Counter, init=False)
    # None before and after it runs.
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _stop_asked: trio.Event = attrs.field(factory=trio.Event, init=False)
    _all_stopped: trio.Event = attrs.field(factory=trio.Event, init=False)
    _escalation: EscalationError | None = attrs.field(default=None, init=False)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Supervise until `stop`. Raises EscalationError when a child that cannot be parked crashes too often.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._stop_asked.wait()
            finally:
                self._nursery = None
                # Bounded by the sum of the children's graces.
                with trio.CancelScope(shield=True):
                    for child in reversed(list(self._children.values())):
                        await self._end(child, again=False)
                self._all_stopped.set()
        if self._escalation is not None:
            raise self._escalation

    async def stop(self) -> None:
        """
        Stop the children, the last started first: each is cancelled and waited for during its grace.

        Trio cannot kill a task: `run` ends only when a child left behind after its grace ends too.
        """
        self._stop_asked.set()
        if self._nursery is not None or self._children:
            await self._all_stopped.wait()

    async def start_child(self, spec: ChildSpec) -> None:
        """
        Start a child and wait until it is ready.

        Raises what the child raised before that; it is not kept then. Raises ActorStoppedError when the
        supervisor does not run, ValueError when it has a child of that name.
        """
        child = self._add(spec, awaited=True)
        try:
            await child.settled.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._end(child, again=False)
            raise
        if not child.was_ready:
            raise child.last_error or ActorStoppedError(f"{spec.name} was stopped before it was ready")

    def start_child_nowait(self, spec: ChildSpec) -> None:
        """
        Start a child that is supervised at once: if its first start fails, that is a crash like any other.

        Raises as `start_child`, for the last two reasons.
        """
        self._add(spec, awaited=False)

    async def stop_child(self, name: str) -> None:
        """
        Cancel a child, wait for it during its grace and forget it. One that is already gone is no error.
        """
        if (child := self._children.get(name)) is not None:
            await self._end(child, again=False)

    def resume_child(self, name: str) -> bool:
        """
        Start a child that is parked or backing off now; False when there is none.
        """
        child = self._children.get(name)
        if child is None or child.state not in (ChildState.PARKED, ChildState.BACKING_OFF):
            return False
        child.held = False
        child.next_start = trio.current_time()
        # Its task has not heard of it yet; whoever asks for its state is told what it is about to do.
        child.state = ChildState.STARTING
        child.scope.cancel()
        return True

    async def restart_child(self, name: str) -> bool:
        """
        End a child's present life, waiting for it during its grace, and start the next; False when there is
        no such child. It counts as no crash.
        """
        if (child := self._children.get(name)) is None:
            return False
        if not self.resume_child(name):
            await self._end(child, again=True)
        return True

    async def park_child(self, name: str) -> bool:
        """
        End a child's present life, waiting for it during its grace, and start no other until it is resumed;
        False when there is no such child.
        """
        if (child := self._children.get(name)) is None:
            return False
        child.held = True
        if child.state in (ChildState.BACKING_OFF, ChildState.PARKED):
            child.scope.cancel()
        else:
            await self._end(child, again=True)
        return True

    def retune(self, policy: RestartPolicy, *, only: str | None = None) -> None:
        """
        Restart the children, or that child only, by another policy; a wait that has begun ends as it was.
        """
        for child in self._children.values():
            if only is None or child.spec.name == only:
                child.spec = attrs.evolve(child.spec, policy=policy)

    def children(self) -> list[ChildInfo]:
        """
        The children in the order of their start.
        """
        return [child.info() for child in self._children.values()]

    def _add(self, spec: ChildSpec, *, awaited: bool) -> Child:
        if self._nursery is None:
            raise ActorStoppedError(f"supervisor {self.name} does not run: it cannot start {spec.name}")
        if spec.name in self._children:
            raise ValueError(f"supervisor {self.name} already has a child {spec.name}; stop that one first")
        child = Child(
            spec=spec,
            supervisor=self.name,
            listener=self.on_event,
            awaited=awaited,
            next_start=trio.current_time(),
        )
        self._children[spec.name] = child
        self._nursery.start_soon(self._keep, child, name=f"{self.name}/{spec.name}")
        return child

    async def _keep(self, child: Child) -> None:
        """
        One life after the other. No checkpoint between the end of a life and the decision about the next.
        """
        try:
            while child.wanted:
                error = await self._live(child)
                if child.scope.cancel_called:
                    if error is not None:
                        self._report(child, error, then="it was being stopped")
                    child.state = ChildState.STARTING
                    if child.held and child.wanted:
                        self._hold(child)
                elif child.awaited:
                    child.last_error = error
                    child.wanted = False
                else:
                    self._judge(child, error)
                if child.wanted:
                    child.renew()
        finally:
            del self._children[child.spec.name]
            for event in (child.ended, child.ready, child.settled):
                event.set()
            child.emit(ChildEvent.GONE)

    async def _live(self, child: Child) -> Exception | None:
        try:
            with child.scope:
                await self._wait_turn(child)
                if child.born is not None:
                    child.restarts += 1
                    self.restarted[child.spec.kind] += 1
                child.born = trio.current_time()
                child.state = ChildState.STARTING
                await child.spec.run(child)
                if not child.ready.is_set():
                    raise RuntimeError(f"{child.spec.name} returned before it called task_status.started()")
        # Outside of the scope, which has taken the Cancelled out of a mixed group by now.
        except Exception as error:
            return error
        return None

    async def _wait_turn(self, child: Child) -> None:
        if child.stops_rest:
            for later in reversed(self._others(child, later=True)):
                await self._end(later, again=True)
            child.stops_rest = False
        if child.born is None and not child.held:
            # It is due at once, and of some kinds there are thousands a second.
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.sleep_until(child.next_start)
        if self.strategy is Strategy.REST_FOR_ONE:
            while unready := [c for c in self._others(child, later=False) if not c.ready.is_set()]:
                await unready[0].ready.wait()

    def _others(self, child: Child, *, later: bool) -> list[Child]:
        everyone = list(self._children.values())
        place = everyone.index(child)
        return everyone[place + 1 :] if later else everyone[:place]

    def _judge(self, child: Child, error: Exception | None) -> None:
        """
        Decide what follows a life that ended by itself.
        """
        policy = child.spec.policy
        now = trio.current_time()
        if error is None and policy.restart is not Restart.PERMANENT:
            child.wanted = False
            return
        if policy.restart is Restart.TEMPORARY:
            child.wanted = False
            self._report(child, error, then="not restarted")
            return
        if child.born is not None and now - child.born >= policy.within:
            child.attempts = 0
        child.failures.append(now)
        while child.failures[0] < now - policy.within:
            child.failures.popleft()
        child.stops_rest = self.strategy is Strategy.REST_FOR_ONE
        if len(child.failures) <= policy.max_restarts:
            delay = policy.backoff.delay(child.attempts, self._random or _chance)
            child.attempts += 1
            child.state = ChildState.BACKING_OFF
            child.next_start = now + delay
            self._report(child, error, then=f"restart in {delay:.2f} s")
        elif child.spec.park:
            child.failures.clear()
            child.attempts = 0
            child.state = ChildState.PARKED
            child.next_start = now + policy.cool_down
            self._report(child, error, then=f"parked for {policy.cool_down:.0f} s")
            child.emit(ChildEvent.PARKED, error)
        else:
            child.wanted = False
            self._report(child, error, then="escalates")
            self._escalate(child, error)

    def _hold(self, child: Child) -> None:
        child.state = ChildState.PARKED
        child.next_start = math.inf
        _log.warning("child parked by an operator", supervisor=self.name, child=child.spec.name)
        child.emit(ChildEvent.PARKED)

    def _escalate(self, child: Child, error: Exception | None) -> None:
        policy = child.spec.policy
        last = "a return" if error is None else repr(cause(error))
        escalation = EscalationError(
            f"{self.name}: {child.spec.name} ended more than {policy.max_restarts} times within"
            f" {policy.within:g} s, at last with {last}"
        )
        escalation.__cause__ = error
        self._escalation = self._escalation or escalation
        child.emit(ChildEvent.ESCALATED, error)
        self._stop_asked.set()

    async def _end(self, child: Child, *, again: bool) -> None:
        """
        Stop a child's present life and wait for its end during its grace; with `again` it is then restarted.
        """
        # Never restarted means also: not on behalf of a sibling.
        if not again or child.spec.policy.restart is Restart.TEMPORARY:
            child.wanted = False
        elif child.state in (ChildState.BACKING_OFF, ChildState.PARKED):
            return
        child.state = ChildState.STOPPING
        child.scope.cancel()
        ended = child.ended
        with trio.move_on_after(child.spec.policy.grace):
            await ended.wait()
        if not ended.is_set():
            _log.error(
                "child did not stop within its grace, going on without it",
                supervisor=self.name,
                child=child.spec.name,
                kind=child.spec.kind,
                grace=child.spec.policy.grace,
            )
            child.emit(ChildEvent.ABANDONED)

    def _report(self, child: Child, error: Exception | None, *, then: str) -> None:
        known = {
            "supervisor": self.name,
            "child": child.spec.name,
            "kind": child.spec.kind,
            "restarts": child.restarts,
            "then": then,
        }
        if error is None:
            _log.warning("child returned", **known)
            return
        child.last_error = error
        self.crashed[child.spec.kind] += 1
        if isinstance(root := cause(error), EngineError):
            # Raised on purpose: its text says it all.
            _log.warning("child crashed", error=f"{type(root).__name__}: {root}", **known)
        else:
            _log.error("child crashed", error=repr(root), exc_info=error, **known)
        child.emit(ChildEvent.CRASHED, error)
