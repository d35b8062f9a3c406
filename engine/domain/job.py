"""Jobs: the states they go through, and the event that each transition is. It decides, the store commits."""

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from engine.domain.event import EpisodeId, EventDraft, JobId, Request, UserId, iso
from engine.domain.json_text import storable

# Characters of an error's text that are kept.
MAX_ERROR = 4000
# Characters of the text that comes with progress.
MAX_MESSAGE = 500
# Seconds that a job may be put off: a year.
MAX_DELAY = 31_536_000


class JobState(enum.StrEnum):
    """
    Where a job is: queued → running → completed | retry → running … | failed | cancelled.

    Failed and cancelled jobs go back to queued by hand only.
    """

    QUEUED = "queued"
    RUNNING = "running"
    RETRY = "retry"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


WAITING = (JobState.QUEUED, JobState.RETRY)
UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.RETRY)
FINISHED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
# What can be queued again by hand.
GIVEN_UP = (JobState.FAILED, JobState.CANCELLED)

# Who runs a job outside of any node, by messages, has a lease whose owner begins so.
EXTERNAL = "external:"


@attrs.frozen(kw_only=True)
class Job:
    """
    One job as it stands. `fence` grows with whoever runs it: a late writer has a smaller one, and loses.

    `attempt` counts from 1 while it runs; 0 before. `timeout` is in seconds, for one attempt.
    """

    id: JobId
    seq: int
    type: str
    state: JobState = JobState.QUEUED
    priority: int = 0
    payload: Mapping[str, Any]
    result: Any = None
    error: str | None = None
    attempt: int = 0
    max_attempts: int
    timeout: float
    next_run_at: datetime
    lease_owner: str | None = None
    lease_until: datetime | None = None
    fence: int = 0
    # Of what those who run it have told, numbered by them: the last that counted.
    told_seq: int = 0
    unique_key: str | None = None
    cancel_requested_at: datetime | None = None
    cancel_requested_by: UserId | None = None
    progress: float | None = None
    message: str | None = None
    source: str
    submitted_by: UserId
    request: Request
    episode_id: EpisodeId | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_external(self) -> bool:
        """
        Whether it is being run outside of any node.
        """
        return self.lease_owner is not None and self.lease_owner.startswith(EXTERNAL)

    def facts(self) -> dict[str, object]:
        """
        What frontends are shown of it with its events.
        """
        return {
            "id": self.id,
            "type": self.type,
            "state": self.state.value,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "progress": self.progress,
            "episode_id": self.episode_id,
        }

    def to_json(self) -> dict[str, Any]:
        """
        The job as REST answers it.
        """
        return {
            "id": self.id,
            "type": self.type,
            "state": self.state.value,
            "priority": self.priority,
            "payload": dict(self.payload),
            "result": self.result,
            "error": self.error,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "timeout": self.timeout,
            "progress": self.progress,
            "message": self.message,
            "next_run_at": iso(self.next_run_at),
            "unique_key": self.unique_key,
            "episode_id": self.episode_id,
            "source": self.source,
            "submitted_by": self.submitted_by,
            "cancel_requested": self.state is JobState.RUNNING and self.cancel_requested_at is not None,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
            "started_at": _time(self.started_at),
            "finished_at": _time(self.finished_at),
        }


@attrs.frozen(kw_only=True)
class JobChange:
    """
    One decided transition: what the row must still be like, what becomes of it, and the event that says so.

    The event's `job` is added by the statement, from the row as it has become. Fields that a transition
    does not name are left empty by it: a job that waits has no lease and no progress. Durations in seconds.
    """

    job: JobId
    # It happens only to a job in one of these states, with this fence (None: with any).
    expects: tuple[JobState, ...]
    fence: int | None
    # Only if the lease has ended, by the database's clock.
    lapsed: bool = False
    # Only if nobody wishes it to be cancelled; who does is not to see it begin once more.
    unwished: bool = False
    # Only if nothing that its runner told with this number, or a later one, has counted.
    told_seq: int | None = None
    event: EventDraft
    # Who causes it; None: the submitter, by the submission.
    user: UserId | None = None
    request: Request | None = None

    state: JobState
    attempt: int
    # None: as it is. A late writer of the former fence is shut out by a new one.
    new_fence: int | None = None
    new_told_seq: int | None = None
    # How long until it is due; None: that does not matter any more.
    delay: float | None = None
    # Who runs it, and for how long that is certain.
    lease_owner: str | None = None
    lease: float | None = None
    result: Any = None
    error: str | None = None
    progress: float | None = None
    message: str | None = None


@attrs.frozen(kw_only=True)
class CancelWish:
    """
    A job that a node runs is cancelled by that node: this asks it to.
    """

    job: JobId
    fence: int


def completed(job: Job, result: Any) -> JobChange:
    """
    It did what it was to do.
    """
    return JobChange(
        job=job.id,
        expects=(JobState.RUNNING,),
        fence=job.fence,
        event=EventDraft(type="job_completed", data={"result": result}),
        state=JobState.COMPLETED,
        attempt=job.attempt,
        result=result,
        progress=1.0,
    )


def attempt_failed(job: Job, error: str, *, delay: float, final: bool = False) -> JobChange:
    """
    An attempt failed: it is tried again after `delay` seconds, unless it was the last, or `final`.
    """
    error = storable(error)[:MAX_ERROR]
    if final or job.attempt >= job.max_attempts:
        return JobChange(
            job=job.id,
            expects=(JobState.RUNNING,),
            fence=job.fence,
            event=EventDraft(type="job_failed", data={"error": error}),
            state=JobState.FAILED,
            attempt=job.attempt,
            error=error,
            progress=job.progress,
        )
    return JobChange(
        job=job.id,
        expects=(JobState.RUNNING,),
        fence=job.fence,
        unwished=True,
        # The statement adds nextRunAt, by the database's clock.
        event=EventDraft(type="job_retry", data={"error": error, "retryCount": job.attempt}),
        state=JobState.RETRY,
        attempt=job.attempt,
        delay=min(max(0.0, delay), MAX_DELAY),
        error=error,
    )


def rescued(job: Job, *, delay: float, lapsed: bool = True) -> JobChange:
    """
    Whoever ran it is gone: that attempt failed, or the job is cancelled, if that was wished. Nothing happens
    if the lease was renewed meanwhile.
    """
    if job.cancel_requested_at is not None:
        change = cancelled(job)
    else:
        lost = f"{job.lease_owner or 'whoever ran it'} was lost while it ran the job"
        change = attempt_failed(job, lost, delay=delay)
    return attrs.evolve(change, lapsed=lapsed, new_fence=job.fence + 1)


def started_elsewhere(job: Job, *, owner: str, fence: int, seq: int, lease: float) -> JobChange | None:
    """
    An external worker, `owner`, has begun; None when the job does not wait, or was begun with a later fence.
    """
    if job.state not in WAITING or fence <= job.fence:
        return None
    return JobChange(
        job=job.id,
        expects=WAITING,
        fence=job.fence,
        event=EventDraft(type="job_processor_started", data={}),
        state=JobState.RUNNING,
        attempt=job.attempt + 1,
        new_fence=fence,
        new_told_seq=seq,
        lease_owner=owner if owner.startswith(EXTERNAL) else EXTERNAL + owner,
        lease=lease,
        error=job.error,
    )


def numbered(change: JobChange, seq: int) -> JobChange:
    """
    The same change as whoever runs the job tells it: only if nothing as late as this has counted.
    """
    return attrs.evolve(change, told_seq=seq, new_told_seq=seq)


def progressed(job: Job, fraction: float, message: str | None, *, lease: float) -> JobChange:
    """
    It got on, `fraction` of the whole; who reports that is alive.
    """
    return JobChange(
        job=job.id,
        expects=(JobState.RUNNING,),
        fence=job.fence,
        event=EventDraft(type="job_progress", data={} if message is None else {"message": message}),
        state=JobState.RUNNING,
        attempt=job.attempt,
        lease_owner=job.lease_owner,
        lease=lease,
        error=job.error,
        progress=fraction,
        message=message,
    )


def cancelled(job: Job, *, user: UserId | None = None, request: Request | None = None) -> JobChange:
    """
    A running job has been stopped, as was wished: by whoever the row says, if `user` is not given.
    """
    return JobChange(
        job=job.id,
        expects=(JobState.RUNNING,),
        fence=job.fence,
        event=EventDraft(type="job_cancelled", data={}),
        user=user,
        request=request,
        state=JobState.CANCELLED,
        attempt=job.attempt,
        error=job.error,
        progress=job.progress,
    )


def cancelled_instead(change: JobChange) -> JobChange:
    """
    What becomes of a job whose next attempt, which the change would have led to, nobody wants any more.
    """
    return JobChange(
        job=change.job,
        expects=change.expects,
        fence=change.fence,
        event=EventDraft(type="job_cancelled", data={}),
        state=JobState.CANCELLED,
        attempt=change.attempt,
        error=change.error,
    )


def cancel(job: Job, *, user: UserId, request: Request) -> JobChange | CancelWish | None:
    """
    What cancelling it takes: a change, if it waits or runs elsewhere; a wish, if a node runs it; None when
    it has ended.
    """
    if job.state in FINISHED:
        return None
    if job.state is JobState.RUNNING and not job.is_external:
        return CancelWish(job=job.id, fence=job.fence)
    change = cancelled(job, user=user, request=request)
    # The external worker is not asked: what it reports from now on is stale.
    return attrs.evolve(change, expects=(job.state,), new_fence=job.fence + 1)


def queued_again(job: Job, *, user: UserId, request: Request) -> JobChange | None:
    """
    Somebody lets a failed or cancelled job begin anew, with all its attempts; None when it is neither.
    """
    if job.state not in GIVEN_UP:
        return None
    return JobChange(
        job=job.id,
        expects=(job.state,),
        fence=job.fence,
        event=EventDraft(type="job_queued", data={}),
        user=user,
        request=request,
        state=JobState.QUEUED,
        attempt=0,
        delay=0.0,
        error=job.error,
    )


def released(job: Job, why: str) -> JobChange:
    """
    Its node gives it back, to be begun anew at once, there or elsewhere: that attempt does not count.
    """
    return JobChange(
        job=job.id,
        expects=(JobState.RUNNING,),
        fence=job.fence,
        unwished=True,
        event=EventDraft(type="job_queued", data={"message": why}),
        state=JobState.QUEUED,
        attempt=job.attempt - 1,
        new_fence=job.fence + 1,
        delay=0.0,
        error=job.error,
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else iso(at)
