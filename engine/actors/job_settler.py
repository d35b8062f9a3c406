"""Commits what becomes of jobs, as many transitions at a time as are at hand. Decides nothing."""

from collections import deque
from collections.abc import Sequence

import attrs
import structlog
import trio

from engine.actors.messages import Tell
from engine.domain.event import Event, JobId
from engine.domain.job import JobChange, cancelled_instead
from engine.errors import StoreUnavailableError
from engine.store.jobs import Jobs, RefusedError

log = structlog.get_logger(__name__)

# Transitions that one statement commits, at most.
BATCH = 200
# Seconds until it is tried again while the database is away.
AWAY = 0.25


@attrs.define(eq=False)
class Settlement:
    """
    One transition on its way; `event` is None if the job was not as expected any more.
    """

    change: JobChange
    done: trio.Event = attrs.field(factory=trio.Event, init=False)
    event: Event | None = attrs.field(default=None, init=False)
    error: RefusedError | None = attrs.field(default=None, init=False)


@attrs.define(eq=False, kw_only=True)
class Settler:
    """
    Own the transitions that are decided and not yet committed.

    Bounded by the jobs that this node holds: each has one transition on its way at most, and its progress.
    The object outlives a crash of its task. While the database is away it tries again; what was committed
    without the answer arriving is found not as expected, and is not done twice.
    """

    jobs: Jobs
    # Tells of committed events, without waiting.
    committed: Tell
    _waiting: deque[Settlement] = attrs.field(factory=deque, init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def settle(self, change: JobChange) -> Event | None:
        """
        Have a transition committed; answers its event, or None if the job was lost. Raises RefusedError.

        A job that was to be tried again, and that somebody wants cancelled meanwhile, is cancelled instead.
        """
        event = await self._commit_one(change)
        if event is None and change.unwished:
            event = await self._commit_one(cancelled_instead(change))
        return event

    async def _commit_one(self, change: JobChange) -> Event | None:
        settlement = Settlement(change)
        self._waiting.append(settlement)
        self._wake.set()
        await settlement.done.wait()
        if settlement.error is not None:
            raise settlement.error
        return settlement.event

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Commit until cancelled.
        """
        task_status.started()
        while True:
            batch = self._next_batch()
            if not batch:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            try:
                await self._commit(batch)
            except StoreUnavailableError as error:
                log.warning("jobs wait for the database to be settled", count=len(batch), reason=str(error))
                await trio.sleep(AWAY)
            while self._waiting and self._waiting[0].done.is_set():
                self._waiting.popleft()

    def _next_batch(self) -> Sequence[Settlement]:
        # Of each job one at a time: a statement sees no row twice.
        batch: dict[JobId, Settlement] = {}
        for settlement in self._waiting:
            if len(batch) == BATCH:
                break
            if not settlement.done.is_set():
                batch.setdefault(settlement.change.job, settlement)
        return list(batch.values())

    async def _commit(self, batch: Sequence[Settlement]) -> None:
        try:
            events = await self.jobs.apply([settlement.change for settlement in batch])
        except RefusedError as error:
            if len(batch) > 1:
                # One of them is to blame; the others need not suffer.
                for settlement in batch:
                    await self._commit([settlement])
                return
            log.error("a transition was refused", job=batch[0].change.job, error=str(error))
            batch[0].error = error
            batch[0].done.set()
            return
        told = {_job_of(event): event for event in events}
        for settlement in batch:
            settlement.event = told.get(settlement.change.job)
            settlement.done.set()
        self.committed(*events)


def _job_of(event: Event) -> JobId:
    job = event.data["job"]
    assert isinstance(job, dict)
    return JobId(job["id"])
