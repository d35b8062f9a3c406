"""Reports of external workers: heard in their order, of many jobs at a time, their progress conflated."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from random import Random

import attrs
import trio

from engine.domain.envelope import Progressed, Report, Started
from engine.domain.event import Event, JobId
from engine.domain.job import Job, JobChange
from engine.domain.report import Unheard, heard
from engine.hookspecs import JobHandler
from engine.runtime.backoff import Backoff
from engine.sources.reduction import APPLIED, LATER, UNCHANGED, Verdict
from engine.store.job_list import JobList
from engine.store.jobs import Jobs

# Seconds between two events of progress of one job, at least.
PROGRESS_INTERVAL = 0.25
# Jobs whose latest progress is remembered.
REMEMBERED = 10_000
# How often a report is decided anew because the job changed meanwhile; then in a moment again.
TRIES = 5
# Before the next attempt of a job whose type no plugin here runs.
EXTERNAL_BACKOFF = Backoff(first=1.0, cap=300.0, jitter=1.0)
EARLY = Verdict("refused", "somebody else still runs the job: the report is ahead of another")


@attrs.frozen
class Told:
    """
    A report: who sent it, and its place in the sender's trace.
    """

    sender: str
    traceparent: str | None
    report: Report


Heard = tuple[int, Told]


@attrs.define
class _Queue:
    """
    What is to be heard of one job, with places in the batch.
    """

    waiting: deque[Heard] = attrs.field(factory=deque)
    # Those that are ahead of others, to be heard again when the job has changed.
    early: list[Heard] = attrs.field(factory=list)
    # How often the first one's change came too late.
    tries: int = 0


@attrs.define(eq=False, kw_only=True)
class Reports:
    """
    Own when progress of each job was last told. A crash loses that, and nothing else.
    """

    jobs: Jobs
    job_list: JobList
    handlers: Mapping[str, JobHandler]
    # Seconds that a silent worker keeps its job.
    lease: float
    committed: Callable[[Event], None]
    # Told in how many seconds a job is due.
    due: Callable[[float], None]
    chance: Random
    _told_at: dict[JobId, float] = attrs.field(factory=dict, init=False)

    async def hear(self, reports: Mapping[int, Told]) -> dict[int, Verdict]:
        """
        Commit what they say, and judge each. Raises StoreUnavailableError: they may all be heard again.
        """
        verdicts: dict[int, Verdict] = {}
        queues: dict[JobId, _Queue] = {}
        for place, told in reports.items():
            queues.setdefault(JobId(told.report.job_id), _Queue()).waiting.append((place, told))
        while queues:
            await self._turn(queues, verdicts)
            for job, queue in list(queues.items()):
                if not queue.waiting:
                    verdicts |= {place: EARLY for place, _ in queue.early}
                    del queues[job]
        return verdicts

    async def _turn(self, queues: Mapping[JobId, _Queue], verdicts: dict[int, Verdict]) -> None:
        """
        Hear the first report of each job.
        """
        jobs = await self.job_list.several(list(queues))
        changes: dict[JobId, JobChange] = {}
        for id_, queue in queues.items():
            place, told = queue.waiting[0]
            match self._decide(jobs.get(id_), told, queue):
                case JobChange() as change:
                    changes[id_] = _in_trace(change, jobs[id_], told.traceparent)
                case Unheard.EARLY:
                    queue.early.append(queue.waiting.popleft())
                case Unheard.STALE:
                    queue.waiting.popleft()
                    verdicts[place] = UNCHANGED
                case Verdict() as verdict:
                    queue.waiting.popleft()
                    verdicts[place] = verdict
        events = (
            {job_of(event): event for event in await self.jobs.apply(changes.values())} if changes else {}
        )
        for id_ in changes:
            queue = queues[id_]
            place, told = queue.waiting[0]
            if (event := events.get(id_)) is not None:
                self.committed(event)
                if (delay := changes[id_].delay) is not None:
                    self.due(delay)
                queue.tries = 0
                if _is_all(event, told.report):
                    queue.waiting.popleft()
                    verdicts[place] = APPLIED
                    self._note(id_, told.report)
                queue.waiting.extend(queue.early)
                queue.early.clear()
            elif (tries := queue.tries + 1) < TRIES:
                queue.tries = tries  # the job changed meanwhile: decide anew
            else:
                queue.waiting.popleft()
                queue.tries = 0
                verdicts[place] = LATER

    def _decide(self, job: Job | None, told: Told, queue: _Queue) -> JobChange | Unheard | Verdict:
        report = told.report
        if job is None:
            return Verdict("refused", f"there is no job {report.job_id}")
        if any(_supersedes(later.report, report) for _, later in queue.waiting):
            return UNCHANGED
        decided = heard(job, report, owner=told.sender, lease=self.lease, delay=self._delay(job))
        is_progress = isinstance(decided, JobChange) and decided.event.type == "job_progress"
        if is_progress and trio.current_time() < self._told_at.get(job.id, -math.inf) + PROGRESS_INTERVAL:
            return LATER  # by then a newer one may have come
        return decided

    def _delay(self, job: Job) -> float:
        handler = self.handlers.get(job.type)
        backoff = EXTERNAL_BACKOFF
        if handler is not None:
            backoff = Backoff(first=handler.backoff_first, cap=handler.backoff_cap, jitter=1.0)
        return backoff.delay(max(job.attempt, 1) - 1, self.chance)

    def _note(self, job: JobId, report: Report) -> None:
        # In the order of time, so that the oldest is forgotten.
        self._told_at.pop(job, None)
        if isinstance(report.outcome, Progressed):
            self._told_at[job] = trio.current_time()
        if len(self._told_at) > REMEMBERED:
            del self._told_at[next(iter(self._told_at))]


def job_of(event: Event) -> JobId:
    """
    Which job an event is about.
    """
    job = event.data["job"]
    assert isinstance(job, Mapping)
    return JobId(str(job["id"]))


def _in_trace(change: JobChange, job: Job, traceparent: str | None) -> JobChange:
    """
    The change as a part of the worker's trace, if it named one; else of the submission's.
    """
    if traceparent is None:
        return change
    return attrs.evolve(change, request=attrs.evolve(job.request, traceparent=traceparent))


def _is_all(event: Event, report: Report) -> bool:
    """
    Whether the event is what the report says, and not only the beginning that has to come before.
    """
    return event.type != "job_processor_started" or isinstance(report.outcome, Started)


def _supersedes(later: Report, report: Report) -> bool:
    """
    Whether both tell progress of the same run, and the one later than the other.
    """
    both = isinstance(later.outcome, Progressed) and isinstance(report.outcome, Progressed)
    return both and later.fence == report.fence and later.seq > report.seq
