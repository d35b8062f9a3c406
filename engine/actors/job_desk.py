"""The desk: takes submissions, cancels and queues again, for REST and whoever else asks. Runs nothing."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from engine.domain import job as decide
from engine.domain.event import Event, JobId, utc_now
from engine.domain.fields import FieldError, Invalid
from engine.domain.job import CancelWish, Job, JobState
from engine.domain.job_request import NewJob
from engine.domain.world import new_id
from engine.errors import EngineError
from engine.plugin_host.host import PluginHost
from engine.store.episodes import Idempotency, Replay
from engine.store.events import Author
from engine.store.job_list import JobList
from engine.store.jobs import Jobs

# For types that no plugin of this node runs.
ATTEMPTS = 5
TIMEOUT = 300.0
# A decision is made again when somebody else was faster; more often than this nobody is.
TRIES = 20


@attrs.frozen(kw_only=True)
class Submission:
    """
    What came of a submission: a new job, or one that is there already and stands for it.
    """

    job: Job
    is_new: bool


class BusyJobError(EngineError):
    """
    The job changes faster than anything can be decided about it. Answer 409.
    """


@attrs.define(eq=False, kw_only=True)
class JobDesk:
    """
    Decide what people want done with jobs. Owns nothing.
    """

    jobs: Jobs
    job_list: JobList
    plugins: PluginHost
    # Types that may be submitted although no plugin here runs them.
    external_types: tuple[str, ...]
    committed: Callable[[Event], None]
    # Told in how many seconds a job is due.
    due: Callable[[float], None]
    # Told that a job which some node runs is to be cancelled, and who wants it.
    wished: Callable[[CancelWish, Author], None]

    async def check(self, fields: Mapping[str, Any]) -> dict[str, Any] | Invalid:
        """
        Checked fields of a submission with the defaults of its type, or what is wrong with them.

        Raises DecisionError.
        """
        kind = fields["type"]
        handler = self.plugins.jobs.by_name().get(kind)
        payload = fields.get("payload", {})
        key = fields.get("unique_key")
        if handler is None:
            if kind not in self.external_types:
                return Invalid((FieldError("type", f"must be one of {', '.join(self.types()) or 'none'}"),))
        else:
            if errors := await self.plugins.check_payload(kind, payload):
                return Invalid(tuple(FieldError(f"payload.{one.field}", one.message) for one in errors))
            if "unique_key" not in fields:
                key = await self.plugins.unique_key(kind, payload)
        return {
            "type": kind,
            "payload": payload,
            "unique_key": key,
            "max_attempts": fields.get("max_attempts", handler.max_attempts if handler else ATTEMPTS),
            "timeout": fields.get("timeout", handler.timeout if handler else TIMEOUT),
            "priority": fields.get("priority", 0),
            "delay": fields.get("delay", 0.0),
            "episode_id": fields.get("episode_id"),
        }

    def types(self) -> list[str]:
        """
        The types that may be submitted here.
        """
        return sorted({*self.plugins.jobs.by_name(), *self.external_types})

    async def submit(
        self,
        checked: Mapping[str, Any],
        author: Author,
        *,
        source: str,
        id: JobId | None = None,
        idempotency: Idempotency | None = None,
    ) -> Submission | Replay | None:
        """
        Queue a job of fields that `check` answered; None when there is no such episode.
        """
        job = NewJob(
            id=id or JobId(new_id()),
            source=source,
            user=author.user,
            request=author.request,
            **checked,
        )
        for _ in range(TRIES):
            done = await self.jobs.submit([job], idempotency)
            if isinstance(done, Replay):
                return done
            for event in done:
                self.committed(event)
                self.due(job.delay)
            if (found := await self._existing(job)) is not None:
                if not done and idempotency is not None:
                    replay = await self.jobs.answer_with(found.id, author.user, idempotency)
                    if replay is not None:
                        return replay
                return Submission(job=found, is_new=bool(done))
            # Nothing stands for it: there is no such episode, or whoever had the unique key has just ended.
            if job.episode_id is not None and not await self.job_list.has_episode(job.episode_id):
                return None
        raise BusyJobError("the unique key changes hands faster than the job can be queued")

    async def cancel(self, job: JobId, author: Author) -> Job | None:
        """
        Cancel a job: at once, if it waits or runs elsewhere; else whoever runs it is asked to stop it.

        Answers the job, unchanged if it has ended; None when there is none.
        """
        for _ in range(TRIES):
            current = await self.job_list.get(job)
            if current is None:
                return None
            change = decide.cancel(current, user=author.user, request=author.request)
            if change is None:
                return current
            if isinstance(change, CancelWish):
                if await self.jobs.wish(change, author.user):
                    self.wished(change, author)
                    # As it was when it was asked for; it may have stopped by now.
                    return attrs.evolve(
                        current, cancel_requested_at=utc_now(), cancel_requested_by=author.user
                    )
            elif events := await self.jobs.apply([change]):
                self.committed(events[0])
                return await self.job_list.get(job)
        raise BusyJobError(f"job {job} changes too fast to be cancelled")

    async def queue_again(self, job: JobId, author: Author) -> Job | None:
        """
        Let a failed or cancelled job begin anew; answers it, unchanged if it is neither; None: no such job.

        Raises KeyTakenError.
        """
        for _ in range(TRIES):
            current = await self.job_list.get(job)
            if current is None:
                return None
            change = decide.queued_again(current, user=author.user, request=author.request)
            if change is None:
                return current
            if events := await self.jobs.apply([change]):
                self.committed(events[0])
                self.due(0.0)
                return attrs.evolve(current, state=JobState.QUEUED, attempt=0, finished_at=None)
        raise BusyJobError(f"job {job} changes too fast to be queued again")

    async def _existing(self, job: NewJob) -> Job | None:
        found = await self.job_list.get(job.id)
        if found is None and job.unique_key is not None:
            found = await self.job_list.unfinished(job.type, job.unique_key)
        return found
