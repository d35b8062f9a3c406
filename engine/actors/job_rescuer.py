"""Takes jobs from whoever is gone. Runs on every node."""

import random
from collections.abc import Callable, Mapping, Sequence

import attrs
import structlog
import trio

from engine.actors.job_run import retry_delay
from engine.domain import job as decide
from engine.domain.event import Event
from engine.domain.job import Job, JobChange
from engine.errors import StoreUnavailableError
from engine.hookspecs import JobHandler
from engine.store.job_list import JobList
from engine.store.jobs import Jobs, RefusedError

log = structlog.get_logger(__name__)

# Jobs rescued by one statement.
STEP = 100
# Seconds between two rounds, at most; with a short lease they are more often.
ROUND = 5.0


@attrs.define(eq=False, kw_only=True)
class JobRescuer:
    """
    Own which jobs were found without anybody who runs them. A crash loses nothing.

    With `alone`, no other node can work on this database: what another life of a node ran is without anybody
    from the start. Else that holds for former lives of a node with this name only.
    """

    jobs: Jobs
    job_list: JobList
    handlers: Mapping[str, JobHandler]
    owner: str
    node: str
    alone: bool
    # Seconds.
    lease: float
    committed: Callable[[Event], None]
    # Told in how many seconds a rescued job is due.
    due: Callable[[float], None]
    chance: random.Random
    rescued_total: int = attrs.field(default=0, init=False)
    _has_orphans: bool = attrs.field(default=True, init=False)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Rescue, a round each few seconds, until cancelled.
        """
        task_status.started()
        while True:
            try:
                await self._round()
            except (StoreUnavailableError, RefusedError) as error:
                log.warning("no job is rescued while the database is away", reason=str(error))
                await trio.sleep(ROUND / 10)
            else:
                await trio.sleep(min(ROUND, self.lease / 3))

    async def _round(self) -> None:
        while self._has_orphans:
            orphans = await self.job_list.orphans(
                owner=self.owner, node=self.node, everybody=self.alone, limit=STEP
            )
            # Those that cannot be rescued are asked for no more; their leases end.
            self._has_orphans = await self._rescue(orphans, lapsed=False) > 0 and len(orphans) == STEP
        while await self._rescue(lapsed := await self.job_list.lapsed(STEP), lapsed=True):
            if len(lapsed) < STEP:
                break

    async def _rescue(self, jobs: list[Job], *, lapsed: bool) -> int:
        if not jobs:
            return 0
        changes = [
            decide.rescued(
                job, delay=retry_delay(self.handlers.get(job.type), job.attempt, self.chance), lapsed=lapsed
            )
            for job in jobs
        ]
        events = await self._apply(changes)
        for event in events:
            self.committed(event)
        for change in changes:
            if change.delay is not None:
                self.due(change.delay)
        self.rescued_total += len(events)
        log.warning("jobs were rescued from who is gone", count=len(events), of=len(jobs))
        return len(events)

    async def _apply(self, changes: Sequence[JobChange]) -> list[Event]:
        try:
            return await self.jobs.apply(changes)
        except RefusedError as error:
            if len(changes) == 1:
                log.error("a job cannot be rescued", job=changes[0].job, error=str(error))
                return []
        # One of them is to blame; the others need not suffer.
        return [event for change in changes for event in await self._apply([change])]
