"""What supervisors know of a child: its spec, its policy, its state. Knows nothing of what it does."""

import enum
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import attrs
import trio

from engine.error_groups import only
from engine.runtime.backoff import Backoff


class Restart(enum.StrEnum):
    """
    When a child is started again: always; after a crash; never.
    """

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class ChildState(enum.StrEnum):
    """
    Where a child is in its life. Starting: not ready yet, or waiting until those before it are.
    """

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    PARKED = "parked"
    STOPPING = "stopping"


class ChildEvent(enum.StrEnum):
    """
    What can happen to a child. After GONE the supervisor has forgotten it.
    """

    READY = "ready"
    CRASHED = "crashed"
    PARKED = "parked"
    ESCALATED = "escalated"
    ABANDONED = "abandoned"
    GONE = "gone"


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """
    How a child is restarted: at most `max_restarts` times `within` so many seconds; times are in seconds.

    The delay before a restart doubles from `backoff_first` to `backoff_cap`, `backoff_jitter` of it random,
    and starts anew after a life of `within`. `grace` is how long a stopping child is waited for, `cool_down`
    how long one that crashed too often stays parked.
    """

    restart: Restart
    max_restarts: int
    within: float
    backoff_first: float
    backoff_cap: float
    backoff_jitter: float
    grace: float
    cool_down: float

    @property
    def backoff(self) -> Backoff:
        """
        The delays between a crash and the restart.
        """
        return Backoff(first=self.backoff_first, cap=self.backoff_cap, jitter=self.backoff_jitter)


@attrs.frozen(kw_only=True)
class SupervisorEvent:
    """
    One thing that happened to one child; `restarts` counts those it had so far.
    """

    supervisor: str
    child: str
    kind: str
    what: ChildEvent
    error: Exception | None = None
    restarts: int = 0


@attrs.frozen(kw_only=True)
class ChildSpec:
    """
    What to run as a child, and what to do when it ends.

    `run` gets a task status and calls its `started()` when it is ready; to return before that is a crash.
    It is stopped by cancellation. Work it must finish then belongs in a `finally`, shielded and bounded
    by less than the policy's grace, as with `trio.move_on_after(grace, shield=True)`.

    `park` is for dynamic children: one that crashes too often is parked for the cool-down, then tried
    again. Without it the supervisor escalates. `on_event` is called in the supervisor's own task, with no
    checkpoint since the event; it must not raise.
    """

    name: str
    kind: str
    run: Callable[[trio.TaskStatus[None]], Awaitable[None]]
    policy: RestartPolicy
    park: bool
    on_event: Callable[[SupervisorEvent], None] | None = None


@attrs.frozen(kw_only=True)
class ChildInfo:
    """
    One child at one moment; times are Unix times, `last_error` is the error's type and message.
    """

    name: str
    kind: str
    state: ChildState
    restarts: int
    started_at: float | None
    last_error: str | None
    next_start_at: float | None


@attrs.define(eq=False, kw_only=True)
class Child:
    """
    One child through all its lives, for its supervisor. It is the task status that each life is given.
    """

    spec: ChildSpec
    supervisor: str
    listener: Callable[[SupervisorEvent], None] | None
    # Somebody waits in start_child: what happens before the first readiness is theirs to handle.
    awaited: bool
    next_start: float
    state: ChildState = ChildState.STARTING
    # An operator has parked it; it waits until one resumes it.
    held: bool = False
    # False: this life is the last.
    wanted: bool = True
    restarts: int = 0
    born: float | None = None
    last_error: Exception | None = None
    # Failures in a row, for the backoff.
    attempts: int = 0
    # When it failed lately, for the intensity.
    failures: deque[float] = attrs.field(factory=deque)
    # Before it is restarted, those started after it are still to be stopped (rest-for-one).
    stops_rest: bool = False
    # Shielded, so that a supervisor which is cancelled can still stop its children one after the other.
    scope: trio.CancelScope = attrs.field(factory=lambda: trio.CancelScope(shield=True))
    ended: trio.Event = attrs.field(factory=trio.Event)
    ready: trio.Event = attrs.field(factory=trio.Event)
    # The first start has succeeded or failed.
    settled: trio.Event = attrs.field(factory=trio.Event)
    was_ready: bool = False

    def started(self, value: None = None) -> None:
        """
        The child says that it is ready.
        """
        if self.ready.is_set():
            return
        self.was_ready = True
        self.awaited = False
        if self.state is ChildState.STARTING:
            self.state = ChildState.RUNNING
        self.ready.set()
        self.settled.set()
        self.emit(ChildEvent.READY)

    def renew(self) -> None:
        """
        This life is over: wake who waits for its end, and prepare the next.
        """
        self.scope = trio.CancelScope(shield=True)
        self.ended.set()
        self.ended = trio.Event()
        # An event nobody has set stays, because siblings may wait for it.
        if self.ready.is_set():
            self.ready = trio.Event()

    def emit(self, what: ChildEvent, error: Exception | None = None) -> None:
        """
        Tell the child's owner, then the supervisor's listener, who may call the owner.
        """
        listeners = [listen for listen in (self.spec.on_event, self.listener) if listen is not None]
        if not listeners:
            return
        event = SupervisorEvent(
            supervisor=self.supervisor,
            child=self.spec.name,
            kind=self.spec.kind,
            what=what,
            error=error,
            restarts=self.restarts,
        )
        for listen in listeners:
            listen(event)

    def info(self) -> ChildInfo:
        """
        The child now, for people.
        """
        to_unix = time.time() - trio.current_time()
        waits = self.state in (ChildState.BACKING_OFF, ChildState.PARKED) and not self.held
        error = None if self.last_error is None else cause(self.last_error)
        return ChildInfo(
            name=self.spec.name,
            kind=self.spec.kind,
            state=self.state,
            restarts=self.restarts,
            started_at=None if self.born is None else self.born + to_unix,
            last_error=None if error is None else f"{type(error).__name__}: {error}",
            next_start_at=self.next_start + to_unix if waits else None,
        )


def cause(error: Exception) -> Exception:
    """
    The error itself, where nurseries have wrapped it alone in groups.
    """
    return cast(Exception, only(error))
