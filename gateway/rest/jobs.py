"""Jobs over REST: submit, list, read, cancel, let begin anew, purge."""

from collections.abc import Mapping
from typing import Any

from quart import Blueprint
from quart_schema import document_headers, document_querystring, document_request, document_response, tag

from engine.actors.job_desk import BusyJobError
from engine.domain import job_request
from engine.domain.access import Action
from engine.domain.event import EpisodeId, JobId
from engine.domain.job import FINISHED, GIVEN_UP, Job, JobState
from engine.hookspecs import Resource
from engine.store.episodes import Replay
from engine.store.job_list import JobQuery
from engine.store.jobs import KeyTakenError
from gateway.protocol import event_frame
from gateway.rest import edge, job_schemas, parameters
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response
from gateway.rest.problems import Problem
from gateway.rest.replays import check_same, idempotency, replayed

# Events of a job that are answered with it.
HISTORY = 200
# Jobs that one request deletes, and at a time.
MOST_PURGED = 10_000
STEP = 500


def blueprint(at: Edge) -> Blueprint:
    """
    The routes under /api/v1/jobs, and an episode's jobs.
    """
    routes = Blueprint("jobs", __name__, url_prefix="/api/v1")
    desk, found = at.node.workshop.desk, at.node.store.job_list

    @routes.post("/jobs")
    @tag(["jobs"])
    @document_headers(parameters.IdempotencyKey)
    @document_request(job_schemas.NewJob)
    @document_response(job_schemas.Job, 200)
    @document_response(job_schemas.Job, 202)
    async def submit_job() -> Response:
        """
        Submit a job: 202. 200 with the job that is there, if an unfinished one has its unique key.
        """
        given = await _given(at)
        fields = edge.checked(job_request.parse(given))
        episode = fields.get("episode_id")
        identity = await at.enter(Action.CREATE, Resource(type="job", episode_id=episode))
        key = idempotency(given)
        checked = edge.checked(await desk.check(fields))
        try:
            done = await desk.submit(checked, edge.author(identity), source="rest", idempotency=key)
        except BusyJobError as error:
            raise Problem(409, str(error)) from error
        if isinstance(done, Replay):
            check_same(done, key)
            job = await found.get(JobId(done.response["id"]))
            if job is None:
                raise Problem(404, f"job {done.response['id']}, which this key submitted, was purged")
            return replayed(_there(job) if done.response.get("was_there") else _accepted(job))
        if done is None:
            raise Problem(404, f"there is no episode {episode}")
        return _accepted(done.job) if done.is_new else _there(done.job)

    @routes.get("/jobs")
    @tag(["jobs"])
    @document_querystring(job_schemas.JobQuery)
    @document_response(job_schemas.JobPage, 200)
    async def list_jobs() -> Response:
        """
        List jobs, newest first, by state, type and episode.
        """
        await at.enter(Action.READ, Resource(type="job"))
        given = edge.query("state", "type", "episode", "limit", "cursor")
        episode = None
        if "episode" in given:
            episode = EpisodeId(edge.path_id(given["episode"], "episode"))
        return await _page(given, episode)

    @routes.get("/episodes/<id>/jobs")
    @tag(["jobs"])
    @document_querystring(job_schemas.EpisodeJobQuery)
    @document_response(job_schemas.JobPage, 200)
    async def list_episode_jobs(id: str) -> Response:
        """
        List an episode's jobs, newest first; of a deleted one too.
        """
        key = EpisodeId(edge.path_id(id, "episode"))
        await at.enter(Action.READ, Resource(type="job", episode_id=key))
        given = edge.query("state", "type", "limit", "cursor")
        if await at.node.store.episodes.log_offset(key) is None:
            raise Problem(404, f"there is no episode {key}")
        return await _page(given, key)

    @routes.get("/jobs/<id>")
    @tag(["jobs"])
    @document_response(job_schemas.JobWithHistory, 200)
    async def read_job(id: str) -> Response:
        """
        Read a job, with what happened to it.
        """
        job = await _enter(Action.READ, id)
        history = await found.history(job.id, HISTORY)
        return answer({**job.to_json(), "history": [event_frame(event) for event in history]})

    @routes.post("/jobs/<id>/cancel")
    @tag(["jobs"])
    @document_response(job_schemas.Job, 200)
    @document_response(job_schemas.Job, 202)
    async def cancel_job(id: str) -> Response:
        """
        Cancel a job. 200: it is cancelled; 202: it runs, and whoever runs it has been told to stop.
        """
        job = await _enter(Action.UPDATE, id)
        if job.state in FINISHED and job.state is not JobState.CANCELLED:
            raise _ended(job, "cancelled")
        try:
            cancelled = await desk.cancel(job.id, edge.author(at.identify()))
        except BusyJobError as error:
            raise Problem(409, str(error)) from error
        if cancelled is None:
            raise _missing(job.id)
        if cancelled.state in FINISHED and cancelled.state is not JobState.CANCELLED:
            raise _ended(cancelled, "cancelled")
        return answer(cancelled.to_json(), 200 if cancelled.state is JobState.CANCELLED else 202)

    @routes.post("/jobs/<id>/retry")
    @tag(["jobs"])
    @document_response(job_schemas.Job, 202)
    async def retry_job(id: str) -> Response:
        """
        Let a failed or cancelled job begin anew, with all its attempts.
        """
        job = await _enter(Action.UPDATE, id)
        if job.state not in GIVEN_UP:
            raise _not_given_up(job)
        try:
            again = await desk.queue_again(job.id, edge.author(at.identify()))
        except (BusyJobError, KeyTakenError) as error:
            raise Problem(409, str(error)) from error
        if again is None:
            raise _missing(job.id)
        if again.state is not JobState.QUEUED:
            raise _not_given_up(again)
        return answer(again.to_json(), 202)

    @routes.delete("/jobs")
    @tag(["jobs"])
    @document_querystring(job_schemas.PurgeQuery)
    @document_response(job_schemas.Purged, 200)
    async def purge_jobs() -> Response:
        """
        Delete jobs that have ended, at most 10,000 at a time. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="job"))
        given = edge.query("older_than", "state")
        if "older_than" not in given:
            raise Problem(422, "older_than is required: how many seconds ago they must have ended at least")
        age = edge.number(given, "older_than", None, least=0, most=10**9)
        state = _state(given, FINISHED)
        deleted = 0
        while deleted < MOST_PURGED:
            states = None if state is None else [state]
            now = await at.node.store.jobs.purge(age=age, limit=STEP, states=states)
            deleted += now
            if now < STEP:
                break
        return answer({"deleted": deleted})

    async def _page(given: Mapping[str, str], episode: EpisodeId | None) -> Response:
        query = JobQuery(
            state=_state(given, tuple(JobState)),
            type=given.get("type"),
            episode=episode,
            before=edge.cursor_of(given),
            limit=edge.limit_of(given),
        )
        page = await found.page(query)
        return answer({"data": [job.to_json() for job in page.jobs], "next_cursor": page.next_before})

    async def _enter(action: Action, id: str) -> Job:
        key = JobId(edge.path_id(id, "job"))
        # A plugin that is asked wants to know the episode.
        at.identify()
        job = await found.get(key)
        episode = None if job is None else job.episode_id
        await at.enter(action, Resource(type="job", id=key, episode_id=episode))
        if job is None:
            raise _missing(key)
        return job

    return routes


async def _given(at: Edge) -> object:
    at.identify()
    return await edge.body()


def _state(given: Mapping[str, str], known: tuple[JobState, ...]) -> JobState | None:
    state = given.get("state")
    if state is None:
        return None
    if state not in [one.value for one in known]:
        raise Problem(422, f"state must be one of {', '.join(known)}, not {state[:40]!r}")
    return JobState(state)


def _location(job: Job) -> dict[str, str]:
    return {"Location": f"/api/v1/jobs/{job.id}"}


def _accepted(job: Job) -> Response:
    return answer(job.to_json(), 202, _location(job))


def _there(job: Job) -> Response:
    return answer(job.to_json(), headers=_location(job))


def _missing(job: Any) -> Problem:
    return Problem(404, f"there is no job {job}")


def _ended(job: Job, what: str) -> Problem:
    return Problem(409, f"job {job.id} is {job.state.value} and cannot be {what} any more")


def _not_given_up(job: Job) -> Problem:
    return Problem(
        409, f"job {job.id} is {job.state.value}; a failed or cancelled one can be queued again by hand"
    )
