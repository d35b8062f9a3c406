"""The reducer of messages: submissions become jobs, reports of external workers become their transitions."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import structlog

from engine.actors.reports import Reports, Told, job_of
from engine.domain import job_request
from engine.domain.envelope import Envelope, Report, Submit
from engine.domain.event import Event, JobId, Request, UserId
from engine.domain.fields import Invalid, said
from engine.domain.job_request import NewJob
from engine.plugin_host.host import DecisionError
from engine.sources.reduction import APPLIED, LATER, UNCHANGED, Verdict
from engine.store.episodes import Replay
from engine.store.job_list import JobList
from engine.store.jobs import Jobs

log = structlog.get_logger(__name__)

SOURCE = "sqs"
# A message's own id and sender make the id of its job: however often it comes, it is one job.
_NAMESPACE = uuid.UUID("7d0f5a4e-5f0c-5c56-9a1c-1f8f7a0e6b11")


@attrs.define(eq=False, kw_only=True)
class JobReducer:
    """
    Own nothing that matters: a message that comes again finds what it did in the database.
    """

    jobs: Jobs
    job_list: JobList
    # The desk's: a submission's fields with the defaults of their type, or what is wrong with them.
    check: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any] | Invalid]]
    reports: Reports
    committed: Callable[[Event], None]
    # Told in how many seconds a job is due.
    due: Callable[[float], None]

    async def __call__(self, messages: Sequence[Envelope]) -> Sequence[Verdict]:
        """
        Submissions first, by one statement, because nothing can be reported of a job before it is there.
        """
        submissions: dict[int, tuple[Envelope, Submit]] = {}
        reports: dict[int, Told] = {}
        for place, message in enumerate(messages):
            match message.body:
                case Submit() as submission:
                    submissions[place] = message, submission
                case Report() as report:
                    reports[place] = Told(message.source, message.traceparent, report)
        verdicts = {**await self._submit(submissions), **await self.reports.hear(reports)}
        return [verdicts[place] for place in range(len(messages))]

    async def _submit(self, messages: Mapping[int, tuple[Envelope, Submit]]) -> dict[int, Verdict]:
        verdicts: dict[int, Verdict] = {}
        wanted: dict[int, NewJob] = {}
        for place, (message, submission) in messages.items():
            match await self._wanted(message, submission):
                case NewJob() as job:
                    wanted[place] = job
                case Verdict() as verdict:
                    verdicts[place] = verdict
        if not wanted:
            return verdicts
        events = await self.jobs.submit(list(wanted.values()))
        assert not isinstance(events, Replay), "no idempotency key was given"
        queued = {job_of(event) for event in events}
        for event in events:
            self.committed(event)
        for place, job in wanted.items():
            if job.id in queued:
                queued.remove(job.id)  # of one that stands in the batch twice, the second changes nothing
                self.due(job.delay)
                verdicts[place] = APPLIED
            else:
                verdicts[place] = await self._why_not(job)
        return verdicts

    async def _wanted(self, message: Envelope, submission: Submit) -> NewJob | Verdict:
        data = dict(submission.data)
        if message.subject is not None:
            kind, _, episode = message.subject.partition(":")
            if kind != "episode" or data.setdefault("episode_id", episode) != episode:
                return Verdict("refused", "subject must be episode:<id>, of the job's own episode")
        fields = job_request.parse(data)
        if not isinstance(fields, Invalid):
            try:
                fields = await self.check(fields)
            except DecisionError as error:
                return Verdict("refused", str(error))
        if isinstance(fields, Invalid):
            errors = (attrs.evolve(error, field=f"data.{error.field}") for error in fields.errors)
            return Verdict("refused", said(errors))
        return NewJob(
            id=JobId(submission.job_id or str(uuid.uuid5(_NAMESPACE, f"{message.source}\n{message.id}"))),
            source=SOURCE,
            user=UserId(message.source),
            request=Request(mutation_id=message.id, traceparent=message.traceparent),
            **fields,
        )

    async def _why_not(self, job: NewJob) -> Verdict:
        if await self.job_list.get(job.id) is not None:
            return UNCHANGED
        if job.unique_key is not None and await self.job_list.unfinished(job.type, job.unique_key):
            log.info("a job with this unique key has not ended yet", type=job.type, key=job.unique_key)
            return UNCHANGED
        if job.episode_id is not None and not await self.job_list.has_episode(job.episode_id):
            return Verdict("refused", f"there is no episode {job.episode_id}")
        # Nothing stands for it: whoever had the unique key has just ended.
        return LATER
