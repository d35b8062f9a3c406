"""Jobs in memory as they are written, by the rules of jobs.sql: each transition with its event."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from engine.domain.event import JOBS, Event, EventDraft, JobId, Topic, UserId, episode_topic, iso
from engine.domain.job import FINISHED, UNFINISHED, WAITING, CancelWish, Job, JobChange, JobState
from engine.domain.job_request import NewJob
from engine.domain.world import now
from engine.store.episodes import Idempotency, Replay
from engine.store.events import Author
from engine.store.job_list import Pause
from engine.store.jobs import Claimed, KeyTakenError, Renewal
from engine.store.memory import MemoryTables

# A transition on its way: the job as it becomes, the event's own data, and who causes it.
Step = tuple[Job, EventDraft, Author]


@attrs.define(eq=False)
class JobRows:
    """
    Own the rows of jobs, and what is paused; every change of one with its event.
    """

    tables: MemoryTables
    all: dict[JobId, Job] = attrs.field(factory=dict)
    # Those that have not ended, of all.
    unfinished: dict[JobId, Job] = attrs.field(factory=dict)
    pauses: dict[tuple[str, str], Pause] = attrs.field(factory=dict)
    submitted: int = 0

    def put(self, job: Job) -> None:
        """
        Write a row.
        """
        self.all[job.id] = job
        if job.state in UNFINISHED:
            self.unfinished[job.id] = job
        else:
            self.unfinished.pop(job.id, None)

    def delete(self, job: JobId) -> None:
        """
        Delete a row of a job that has ended.
        """
        del self.all[job]

    def with_key(self, kind: str, unique_key: str | None) -> Job | None:
        """
        The unfinished job that has a unique key.
        """
        if unique_key is None:
            return None
        having = (job for job in self.unfinished.values() if (job.type, job.unique_key) == (kind, unique_key))
        return next(having, None)

    def apply(self, changes: Iterable[JobChange]) -> list[Event]:
        """
        Make transitions, as `Jobs.apply`, once the store is reached.
        """
        at = now()
        return self.write(
            [
                self._step(job, change, at)
                for change in changes
                if (job := self.all.get(change.job)) is not None and is_as_expected(job, change, at)
            ]
        )

    def write(self, steps: Sequence[Step]) -> list[Event]:
        """
        Write rows, and an event for each.
        """
        if not steps:
            return []
        for job, _, _ in steps:
            self.put(job)
        events = self.tables.append(
            [
                (
                    _topic(job),
                    attrs.evolve(
                        draft, data={"job": {**job.facts(), "submitted_by": job.submitted_by}, **draft.data}
                    ),
                    author,
                )
                for job, draft, author in steps
            ]
        )
        self.tables.written()
        return events

    def _step(self, job: Job, change: JobChange, at: datetime) -> Step:
        after = changed(job, change, at)
        holder = self.with_key(job.type, job.unique_key)
        if after.state in UNFINISHED and holder is not None and holder.id != job.id:
            raise KeyTakenError("another unfinished job has its unique key")
        data = dict(change.event.data)
        if change.delay is not None and change.state is JobState.RETRY:
            data["nextRunAt"] = iso(after.next_run_at)
        wisher = job.cancel_requested_by if change.state is JobState.CANCELLED else None
        author = Author(user=change.user or wisher or job.submitted_by, request=change.request or job.request)
        return after, EventDraft(type=change.event.type, data=data), author


@attrs.define(eq=False)
class MemoryJobs:
    """
    Write jobs, as `Jobs`. Nobody locks anything here, so nothing waits for a lock.
    """

    tables: MemoryTables
    rows: JobRows

    async def submit(
        self, jobs: Sequence[NewJob], idempotency: Idempotency | None = None
    ) -> list[Event] | Replay:
        await self.tables.reach()
        at = now()
        fresh: list[Job] = []
        for new in jobs:
            taken = any(new.unique_key == one.unique_key and new.type == one.type for one in fresh)
            if new.id in self.rows.all or (new.unique_key is not None and taken):
                continue
            if self.rows.with_key(new.type, new.unique_key) is not None:
                continue
            if new.episode_id is None or new.episode_id in self.tables.episodes:
                fresh.append(_queued(new, self.rows.submitted + len(fresh) + 1, at))
        if idempotency is not None:
            if (known := self.tables.replayed(jobs[0].user, idempotency.key)) is not None:
                return known
            if fresh:
                self.tables.keep_key(jobs[0].user, idempotency, {"id": fresh[0].id})
        self.rows.submitted += len(fresh)
        return self.rows.write(
            [(job, EventDraft(type="job_queued", data={}), _submitter(job)) for job in fresh]
        )

    async def answer_with(self, job: JobId, user: UserId, idempotency: Idempotency) -> Replay | None:
        await self.tables.reach()
        if (known := self.tables.replayed(user, idempotency.key)) is not None:
            return known
        self.tables.keep_key(user, idempotency, {"id": job, "was_there": True})
        self.tables.written()
        return None

    async def claim(
        self, rooms: Mapping[str, int], limit: int, *, source: str, owner: str, lease: float
    ) -> Claimed:
        await self.tables.reach()
        at = now()
        found: list[Job] = []
        for kind, room in rooms.items():
            if ("type", kind) in self.rows.pauses or ("source", source) in self.rows.pauses:
                continue
            found += sorted((job for job in self._due(at) if job.type == kind), key=_urgency)[:room]
        running = [
            attrs.evolve(
                job,
                # What a handler does to it is not to be seen by the next attempt.
                payload=copy.deepcopy(job.payload),
                state=JobState.RUNNING,
                attempt=job.attempt + 1,
                fence=job.fence + 1,
                lease_owner=owner,
                lease_until=at + timedelta(seconds=lease),
                cancel_requested_at=None,
                cancel_requested_by=None,
                progress=None,
                message=None,
                started_at=at,
                updated_at=at,
            )
            for job in sorted(found, key=_urgency)[:limit]
        ]
        started = EventDraft(type="job_processor_started", data={})
        events = self.rows.write([(job, started, _submitter(job)) for job in running])
        return Claimed(jobs=running, events=events)

    async def look_for_due(self) -> float | None:
        await self.tables.reach()
        at = now()
        later = [job.next_run_at for job in self._waiting() if job.next_run_at > at]
        return (min(later) - at).total_seconds() if later else None

    async def apply(self, changes: Iterable[JobChange], *, hurried: bool = False) -> list[Event]:
        await self.tables.reach()
        return self.rows.apply(changes)

    async def renew(self, jobs: Mapping[JobId, int], *, lease: float) -> list[Renewal]:
        await self.tables.reach()
        renewals = []
        for id_, fence in jobs.items():
            job = self.rows.unfinished.get(id_)
            if job is not None and (job.state, job.fence) == (JobState.RUNNING, fence):
                self.rows.put(attrs.evolve(job, lease_until=now() + timedelta(seconds=lease)))
                wished = job.cancel_requested_at is not None
                renewals.append(Renewal(job=id_, is_cancelled=wished, cancelled_by=job.cancel_requested_by))
        self.tables.written()
        return renewals

    async def wishes(self, owner: str) -> list[tuple[JobId, int, UserId]]:
        await self.tables.reach()
        return [
            (job.id, job.fence, job.cancel_requested_by)
            for job in self.rows.unfinished.values()
            if job.state is JobState.RUNNING
            and job.lease_owner == owner
            and job.cancel_requested_by is not None
        ]

    async def wish(self, wish: CancelWish, user: UserId) -> bool:
        await self.tables.reach()
        job = self.rows.unfinished.get(wish.job)
        if job is None or (job.state, job.fence) != (JobState.RUNNING, wish.fence):
            return False
        if job.cancel_requested_at is None:
            self.rows.put(
                attrs.evolve(job, cancel_requested_at=now(), cancel_requested_by=user, updated_at=now())
            )
        self.tables.written()
        return True

    async def purge(self, *, age: float, limit: int, states: Sequence[JobState] | None = None) -> int:
        await self.tables.reach()
        before = now() - timedelta(seconds=age)
        old = [
            job.id
            for job in self.rows.all.values()
            if job.finished_at is not None
            and job.finished_at < before
            and (states is None or job.state in states)
        ][:limit]
        for job in old:
            self.rows.delete(job)
        self.tables.written()
        return len(old)

    def _waiting(self) -> list[Job]:
        return [job for job in self.rows.unfinished.values() if job.state in WAITING]

    def _due(self, at: datetime) -> list[Job]:
        return [job for job in self._waiting() if job.next_run_at <= at]


def is_as_expected(job: Job, change: JobChange, at: datetime) -> bool:
    """
    Whether a transition still fits the row.
    """
    return (
        job.state in change.expects
        and change.fence in (None, job.fence)
        and (change.told_seq is None or job.told_seq < change.told_seq)
        and (not change.lapsed or (job.lease_until is not None and job.lease_until < at))
        and (not change.unwished or job.cancel_requested_at is None)
    )


def changed(job: Job, change: JobChange, at: datetime) -> Job:
    """
    The row as a transition makes it.
    """
    runs = change.state is JobState.RUNNING
    return attrs.evolve(
        job,
        state=change.state,
        attempt=change.attempt,
        fence=job.fence if change.new_fence is None else change.new_fence,
        told_seq=job.told_seq if change.new_told_seq is None else change.new_told_seq,
        next_run_at=job.next_run_at if change.delay is None else at + timedelta(seconds=change.delay),
        lease_owner=change.lease_owner,
        lease_until=_lease_until(job, change, at),
        cancel_requested_at=job.cancel_requested_at if runs else None,
        cancel_requested_by=job.cancel_requested_by if runs else None,
        result=change.result,
        error=change.error,
        progress=change.progress,
        message=change.message,
        started_at=at if change.event.type == "job_processor_started" else job.started_at,
        finished_at=at if change.state in FINISHED else None,
        updated_at=at,
    )


def _lease_until(job: Job, change: JobChange, at: datetime) -> datetime | None:
    if change.lease is None:
        return None
    until = at + timedelta(seconds=change.lease)
    # Progress may be told late, after the lease was renewed; it shortens none.
    if change.event.type == "job_progress" and job.lease_until is not None:
        return max(until, job.lease_until)
    return until


def _queued(new: NewJob, seq: int, at: datetime) -> Job:
    return Job(
        id=new.id,
        seq=seq,
        type=new.type,
        priority=new.priority,
        payload=copy.deepcopy(new.payload),
        max_attempts=new.max_attempts,
        timeout=new.timeout,
        next_run_at=at + timedelta(seconds=new.delay),
        unique_key=new.unique_key,
        source=new.source,
        submitted_by=new.user,
        request=new.request,
        episode_id=new.episode_id,
        created_at=at,
        updated_at=at,
    )


def _submitter(job: Job) -> Author:
    return Author(user=job.submitted_by, request=job.request)


def _topic(job: Job) -> Topic:
    return JOBS if job.episode_id is None else episode_topic(job.episode_id)


def _urgency(job: Job) -> tuple[int, datetime, int]:
    return -job.priority, job.next_run_at, job.seq
