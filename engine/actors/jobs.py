"""The dispatcher: claims jobs as there is room for them, and starts a supervised child for each."""

from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
import structlog
import trio

from engine.actors.job_run import GIVE_BACK, JobParts, JobRun, Stop
from engine.domain.event import JobId
from engine.domain.job import Job
from engine.errors import ActorStoppedError, StoreUnavailableError
from engine.hookspecs import Engine, JobHandler
from engine.runtime.child import ChildEvent, ChildSpec, Restart, RestartPolicy, SupervisorEvent
from engine.runtime.foreign import Function
from engine.runtime.supervisor import Supervisor
from engine.sources.postgres_queue import PostgresQueue

log = structlog.get_logger(__name__)

# Seconds until the queue is asked again while the database is away.
AWAY = 0.5


@attrs.frozen(kw_only=True)
class Runnable:
    """
    A handler, ready to be called: with its plugin's handle, and the threads that it may occupy.
    """

    handler: JobHandler
    function: Function
    engine: Engine
    limiter: trio.CapacityLimiter
    # Whether its plugin has prepared itself: no job is claimed for it before.
    is_prepared: Callable[[], bool] = lambda: True


def _never_restarted(policy: RestartPolicy) -> RestartPolicy:
    return attrs.evolve(policy, restart=Restart.TEMPORARY)


@attrs.define(eq=False, kw_only=True)
class Dispatcher:
    """
    Own which jobs this node runs, and how many more it may.

    A job counts as running until its handler has ended; what is then still to be committed is held besides,
    twice as many at most: while one batch is committed, the next runs, and another is claimed. The object
    outlives a crash of its task, and so do the runs.
    """

    source: PostgresQueue
    runnable: Mapping[str, Runnable]
    parts: JobParts
    supervisor: Supervisor
    # Of runs. They are never restarted here: their source brings the job again.
    policy: RestartPolicy = attrs.field(converter=_never_restarted)
    # Jobs at a time.
    concurrency: int
    # Seconds after which the queue is asked although nothing was heard.
    poll: float
    runs: dict[JobId, JobRun]
    _running: dict[str, int] = attrs.field(factory=dict, init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)
    # The last claim got all that it asked for: there may be more.
    _more: bool = attrs.field(default=True, init=False)
    # When running jobs are to be given back, by trio's clock; None while the node lives.
    _drain_until: float | None = attrs.field(default=None, init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    def wake(self) -> None:
        """
        There may be something to claim.
        """
        self._more = True
        self._wake.set()

    def due(self, delay: float) -> None:
        """
        There will be something to claim in so many seconds.
        """
        if delay <= 0:
            self.wake()
        else:
            self.source.look_again(delay)
            self._wake.set()

    def look_again(self) -> None:
        """
        Something may have been committed elsewhere, to be claimed now or later.
        """
        self.source.look_again()
        self.wake()

    def drain(self, until: float) -> None:
        """
        Claim nothing more; what still runs at this time is given back by `run_drain`.
        """
        self._drain_until = until
        self._wake.set()

    def running(self, kind: str) -> int:
        """
        How many handlers of a type run.
        """
        return self._running.get(kind, 0)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Claim and start until cancelled. What runs goes on: the next life counts it.
        """
        task_status.started()
        # The life before may have ended amid a claim.
        self._more = True
        while True:
            self._wake = trio.Event()
            await self._claim()
            with trio.move_on_after(self._patience()) as scope:
                await self._wake.wait()
            if scope.cancelled_caught:
                # Nobody has told of anything, but somebody may have failed to.
                self._more = True
                self.source.look_again()

    async def run_drain(self, task_status: trio.TaskStatus[None]) -> None:
        """
        When cancelled, after `run`, let what runs finish, within the grace, and give back the rest.

        A child of its own, so that no restart of the dispatcher ends what it has started.
        """
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            until = self._drain_until or trio.current_time()
            with trio.CancelScope(shield=True, deadline=until + GIVE_BACK):
                await self._finish(until)

    async def _claim(self) -> None:
        while self._more and self._drain_until is None:
            rooms, limit = self._rooms()
            if not limit:
                return
            claimed_at = trio.current_time()
            # Whoever wakes us from here on tells of what this claim may have looked too early for.
            self._more = False
            try:
                claimed = await self.source.claim(rooms, limit)
            except StoreUnavailableError as error:
                self._more = True
                log.warning("no jobs are claimed while the database is away", reason=str(error))
                await trio.sleep(AWAY)
                continue
            # No checkpoint until all of them have somebody who runs them.
            for job in claimed.jobs:
                self._start(job, claimed_at + self.source.lease)
                rooms[job.type] -= 1
            self._more |= len(claimed.jobs) == limit or min(rooms.values()) == 0
            if claimed.jobs:
                # Their handlers begin first; whoever watches hears of it a moment later. Trio runs who is
                # ready in any order, so that it takes two turns until all of them have begun.
                await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.lowlevel.cancel_shielded_checkpoint()
                self.parts.committed(*claimed.events)

    def _rooms(self) -> tuple[dict[str, int], int]:
        running = sum(self._running.values())
        rooms = {
            kind: room
            for kind, runnable in self.runnable.items()
            if runnable.is_prepared() and (room := runnable.handler.concurrency - self.running(kind)) > 0
        }
        free = min(self.concurrency - running, 3 * self.concurrency - len(self.runs), self._half)
        return rooms, max(0, min(free, sum(rooms.values())))

    @property
    def _half(self) -> int:
        # While one half runs, the other is claimed: neither the node nor the database waits for the other.
        return max(1, -(-self.concurrency // 2))

    def _patience(self) -> float:
        due = self.source.due_at
        # Without room it is the end of a run that is waited for.
        if due is None or not self._rooms()[1]:
            return self.poll
        return min(self.poll, max(0.0, due - trio.current_time()))

    def _start(self, job: Job, lease_until: float) -> None:
        runnable = self.runnable[job.type]
        run = JobRun(
            job=job,
            handler=runnable.handler,
            function=runnable.function,
            engine=runnable.engine,
            limiter=runnable.limiter,
            parts=self.parts,
            lease_until=lease_until,
            on_handled=self._handled,
        )
        self.runs[job.id] = run
        self._running[job.type] = self.running(job.type) + 1

        def heard(event: SupervisorEvent) -> None:
            # Also of one that was stopped before it had begun.
            if event.what is ChildEvent.GONE:
                self._forget(run)

        spec = ChildSpec(
            name=run.name, kind="job", run=run.run, policy=self.policy, park=False, on_event=heard
        )
        try:
            self.supervisor.start_child_nowait(spec)
        except ActorStoppedError:
            self._forget(run)

    def _handled(self, run: JobRun) -> None:
        # While there was no room for its type, others of it were not asked for.
        self._more |= self.running(run.job.type) >= run.handler.concurrency
        self._running[run.job.type] -= 1
        if self._more:
            self._wake.set()

    def _forget(self, run: JobRun) -> None:
        if not run.handled:
            run.handled = True
            self._handled(run)
        if self.runs.get(run.job.id) is run:
            del self.runs[run.job.id]
        self._ended.set()
        if self._more:
            self._wake.set()

    async def _finish(self, until: float) -> None:
        with trio.move_on_at(until):
            await self._all_ended()
        for run in list(self.runs.values()):
            run.stop(Stop.DRAINED)
        with suppress(trio.TooSlowError):
            await self._all_ended()

    async def _all_ended(self) -> None:
        while self.runs:
            self._ended = trio.Event()
            await self._ended.wait()
