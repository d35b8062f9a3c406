"""Keeps what this node runs: renews leases, hears who is to be cancelled, tells progress."""

from collections.abc import Container, Mapping, Sequence

import attrs
import structlog
import trio

from engine.actors.job_run import JobRun, Stop
from engine.actors.messages import Tell
from engine.actors.reports import job_of
from engine.domain.event import JobId
from engine.domain.job import JobChange
from engine.errors import StoreUnavailableError
from engine.store.jobs import Jobs, RefusedError

log = structlog.get_logger(__name__)

# Seconds between two looks for jobs that are to be cancelled; a ring of another node's bell is sooner.
WISHES = 0.5
# Seconds between two tellings of one job's progress, at least: four a second.
PROGRESS = 0.25
# Seconds until progress is told again while the database is away.
AWAY = 0.5
# Leases are renewed as often as this in the time that they last.
RENEWALS = 3


@attrs.define(eq=False, kw_only=True)
class JobKeeper:
    """
    Own when leases are renewed and wishes looked for. A crash loses nothing that is not done a little later.

    A run whose lease could not be renewed in time is stopped: somebody else may have the job by then.
    """

    jobs: Jobs
    owner: str
    # Seconds.
    lease: float
    runs: Mapping[JobId, JobRun]
    committed: Tell
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)

    def look_for_wishes(self) -> None:
        """
        Somebody may want a job of this node to be cancelled.
        """
        self._wake.set()

    def progressed(self) -> None:
        """
        A run has progress to tell.
        """
        self._news.set()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Renew leases and look for wishes, until cancelled.
        """
        task_status.started()
        renew_at = float("-inf")
        while True:
            try:
                if trio.current_time() >= renew_at:
                    await self._renew()
                    renew_at = trio.current_time() + self.lease / RENEWALS
                elif self.runs:
                    for job, fence, by in await self.jobs.wishes(self.owner):
                        if (run := self.runs.get(job)) is not None and run.job.fence == fence:
                            run.stop(Stop.CANCELLED, by)
            except StoreUnavailableError as error:
                log.warning("leases wait for the database", reason=str(error))
            self._stop_lost()
            self._wake = trio.Event()
            # What is claimed meanwhile has its lease renewed in time; its wish is found then at the latest.
            with trio.move_on_after(WISHES if self.runs else self.lease / RENEWALS):
                await self._wake.wait()

    async def tell(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Tell the progress of all runs, the latest of each, until cancelled.
        """
        task_status.started()
        while True:
            await self._news.wait()
            self._news = trio.Event()
            now = trio.current_time()
            waiting = [run for run in self.runs.values() if run.news is not None]
            due = [(run, run.news) for run in waiting if now >= run.told_at + PROGRESS]
            changes = []
            for run, news in due:
                assert news is not None
                changes.append(run.progress_change(news))
                run.news, run.told_at = None, now
            told = await self.tell_progress(changes)
            for run, news in due:
                # Somebody was in the way. It may be the handler's last word for an hour.
                if run.job.id not in told and run.news is None and not run.handled:
                    run.news = news
            if any(run.news is not None for run in waiting):
                await trio.sleep(PROGRESS / 5)
                self._news.set()

    async def tell_progress(self, changes: Sequence[JobChange]) -> Container[JobId]:
        """
        Commit progress now, if nobody is in the way; answers of which jobs it was told.
        """
        told: set[JobId] = set()
        try:
            await self._tell(changes, told)
        except StoreUnavailableError as error:
            log.warning("progress of jobs was not told", count=len(changes), reason=str(error))
            await trio.sleep(AWAY)
        return told

    async def _tell(self, changes: Sequence[JobChange], told: set[JobId]) -> None:
        if not changes:
            return
        try:
            events = await self.jobs.apply(changes, hurried=True)
        except RefusedError as error:
            if len(changes) > 1:
                # One of them is to blame; the others need not suffer.
                for change in changes:
                    await self._tell([change], told)
                return
            log.warning("progress of a job was refused", job=changes[0].job, reason=str(error))
            # It would be refused again.
            told.add(changes[0].job)
            return
        self.committed(*events)
        told.update(job_of(event) for event in events)

    async def _renew(self) -> None:
        asked_at = trio.current_time()
        asked = dict(self.runs)
        if not asked:
            return
        renewals = await self.jobs.renew({job: run.job.fence for job, run in asked.items()}, lease=self.lease)
        for renewal in renewals:
            run = asked.pop(renewal.job)
            run.lease_until = asked_at + self.lease
            if renewal.is_cancelled:
                run.stop(Stop.CANCELLED, renewal.cancelled_by)
        # Not ours any more; or just settled, and then its handler has ended and this does nothing.
        for run in asked.values():
            run.stop(Stop.LOST)

    def _stop_lost(self) -> None:
        now = trio.current_time()
        for run in self.runs.values():
            if run.lease_until <= now:
                run.stop(Stop.LOST)
