"""How jobs and their changes look in rows and parameters; the SQL is in jobs.sql and job_list.sql."""

from typing import Any

import attrs

from engine.domain.event import (
    JOBS,
    EpisodeId,
    Epoch,
    Event,
    EventId,
    JobId,
    LogPlace,
    Offset,
    Request,
    UserId,
    episode_topic,
)
from engine.domain.job import Job, JobChange, JobState
from engine.domain.job_request import NewJob
from engine.store.postgres import Row


def job_of_row(row: Row) -> Job:
    """
    A job from all its columns, in the order of jobs.sql.
    """
    (job_id, seq, kind, state, priority, payload, result, error, attempt, max_attempts) = row[:10]
    (timeout, next_run_at, owner, until, fence, told_seq, unique_key, asked_at, asked_by) = row[10:19]
    (progress, message, source, user, request, episode_id, created, updated, started, finished) = row[19:]
    return Job(
        id=JobId(job_id),
        seq=seq,
        type=kind,
        state=JobState(state),
        priority=priority,
        payload=payload,
        result=result,
        error=error,
        attempt=attempt,
        max_attempts=max_attempts,
        timeout=timeout,
        next_run_at=next_run_at,
        lease_owner=owner,
        lease_until=until,
        fence=fence,
        told_seq=told_seq,
        unique_key=unique_key,
        cancel_requested_at=asked_at,
        cancel_requested_by=None if asked_by is None else UserId(asked_by),
        progress=progress,
        message=message,
        source=source,
        submitted_by=UserId(user),
        request=Request(**request),
        episode_id=None if episode_id is None else EpisodeId(episode_id),
        created_at=created,
        updated_at=updated,
        started_at=started,
        finished_at=finished,
    )


def claimed_job_of_row(row: Row, owner: str) -> Job:
    """
    A job that was just claimed, from what claiming leaves open; the rest is what it has set.
    """
    job_id, seq, kind, priority, payload, error, *limits, until = row[:11]
    fence, told_seq, unique_key, source, user, request, episode_id, created, started = row[11:]
    return job_of_row(
        (
            *(job_id, seq, kind, JobState.RUNNING, priority, payload, None, error, *limits, owner, until),
            *(fence, told_seq, unique_key, None, None, None, None, source, user, request, episode_id),
            *(created, started, started, None),
        )
    )


def started_event(job: Job, row: Row, epoch: Epoch) -> Event:
    """
    The event that says that a job was claimed, from the job and where the event stands.

    All else in it is the job's: it is what jobs.sql has written, and need not be read again.
    """
    xid, seq, event_id, offset, at = row
    return Event(
        place=LogPlace(xid, seq),
        id=EventId(event_id),
        topic=JOBS if job.episode_id is None else episode_topic(job.episode_id),
        offset=Offset(offset),
        epoch=epoch,
        type="job_processor_started",
        data={"job": {**job.facts(), "submitted_by": job.submitted_by}},
        user=job.submitted_by,
        request=job.request,
        at=at,
    )


def new_job_params(job: NewJob) -> dict[str, Any]:
    """
    A job to be inserted, as an item of the parameter `jobs`.
    """
    return {
        "id": job.id,
        "type": job.type,
        "payload": job.payload,
        "max_attempts": job.max_attempts,
        "timeout": job.timeout,
        "priority": job.priority,
        "delay": job.delay,
        "unique_key": job.unique_key,
        "episode_id": job.episode_id,
        "source": job.source,
        "submitted_by": job.user,
        "request": request_json(job.request),
    }


def change_params(change: JobChange) -> dict[str, Any]:
    """
    A transition, as an item of the parameter `changes`; what it does not say is null there.
    """
    params = {
        "job": change.job,
        "expects": [state.value for state in change.expects],
        "fence": change.fence,
        "lapsed": change.lapsed,
        "unwished": change.unwished,
        "seq_before": change.told_seq,
        "type": change.event.type,
        "data": change.event.data,
        "user": change.user,
        "request": None if change.request is None else request_json(change.request),
        "state": change.state.value,
        "attempt": change.attempt,
        "new_fence": change.new_fence,
        "new_seq": change.new_told_seq,
        "delay": change.delay,
        "lease_owner": change.lease_owner,
        "lease": change.lease,
        "result": change.result,
        "error": change.error,
        "progress": change.progress,
        "message": change.message,
    }
    return {name: value for name, value in params.items() if value is not None}


def request_json(request: Request) -> dict[str, Any]:
    """
    Where something came from, as it is kept.
    """
    return attrs.asdict(request, filter=lambda _, value: value is not None)
