"""The jobs of a simulated engine, for who submits them, waits for them, and lets them fail."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from engine.actors.job_desk import Submission
from engine.actors.job_run import Stop
from engine.domain.access import Action
from engine.domain.event import Event, JobId
from engine.domain.job import FINISHED, Job
from engine.domain.job_request import parse
from engine.domain.world import new_id
from engine.hookspecs import Resource
from engine.testing.people import RefusedError, author, checked

if TYPE_CHECKING:
    from engine.testing.engine import SimulatedEngine

# Virtual seconds that a job is waited for: a day.
PATIENCE = 86_400.0
# Events of one job that are shown at most.
HISTORY = 10_000


@attrs.define(eq=False)
class SimulatedJobs:
    """
    What people do with jobs. The engine runs them with the actors that every node has.
    """

    engine: "SimulatedEngine"

    async def submit(
        self,
        type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        episode: str | None = None,
        user: str = "alice@example.com",
        role: str = "editor",
        **fields: Any,
    ) -> Job:
        """
        Submit a job, as `POST /jobs` does: `fields` are `delay`, `priority`, `timeout`, `max_attempts` and
        `unique_key`. Answers the unfinished one that has its unique key, if there is one.

        Raises RefusedError, StoreUnavailableError.
        """
        await self.engine.enter(user, role, Action.CREATE, Resource(type="job", episode_id=episode))
        desk = self.engine.node.workshop.desk
        given: dict[str, Any] = {"type": type, "payload": payload or {}, **fields}
        if episode is not None:
            given["episode_id"] = episode
        parsed = checked(parse(given))
        good = checked(await desk.check(parsed))
        done = await desk.submit(good, author(user), source="rest", id=JobId(new_id()))
        if not isinstance(done, Submission):
            raise RefusedError(f"there is no episode {episode}")
        return done.job

    async def get(self, job: str) -> Job:
        """
        A job as it stands. Raises RefusedError, StoreUnavailableError.
        """
        found = await self.engine.store.job_list.get(JobId(job))
        if found is None:
            raise RefusedError(f"there is no job {job}")
        return found

    async def history(self, job: str) -> list[Event]:
        """
        What happened to a job, in order. Raises StoreUnavailableError.
        """
        return await self.engine.store.job_list.history(JobId(job), HISTORY)

    async def wait(self, job: str, is_so: Callable[[Job], object]) -> Job:
        """
        Wait until a job is as it should be, a day of virtual time at most; answers it. An outage of the store
        does not matter.
        """
        rows = self.engine.store.jobs.rows
        with trio.fail_after(PATIENCE):
            while (found := rows.all.get(JobId(job))) is None or not is_so(found):
                await self.engine.wait_committed()
        return found

    async def wait_ended(self, job: str) -> Job:
        """
        Wait until a job is completed, failed or cancelled, a day of virtual time at most; answers it.
        """
        return await self.wait(job, lambda found: found.state in FINISHED)

    async def cancel(self, job: str, *, user: str = "alice@example.com", role: str = "editor") -> Job:
        """
        Cancel a job, as `POST /jobs/{id}/cancel` does. Raises RefusedError, StoreUnavailableError.
        """
        await self._enter(job, user, role)
        return self._there(job, await self.engine.node.workshop.desk.cancel(JobId(job), author(user)))

    async def retry(self, job: str, *, user: str = "alice@example.com", role: str = "editor") -> Job:
        """
        Let a failed or cancelled job begin anew, as `POST /jobs/{id}/retry` does. Raises RefusedError,
        KeyTakenError, StoreUnavailableError.
        """
        await self._enter(job, user, role)
        return self._there(job, await self.engine.node.workshop.desk.queue_again(JobId(job), author(user)))

    async def crash(self, job: str) -> bool:
        """
        Let who runs a job die in the middle of it, so that its lease ends and it is rescued; False when no
        handler runs it.
        """
        workshop = self.engine.node.workshop
        run = workshop.dispatcher.runs.get(JobId(job))
        if run is None or run.handled:
            return False
        self.engine.note("crash", run.job.type, job)
        run.stop(Stop.LOST)
        await workshop.supervisor.stop_child(run.name)
        return True

    async def _enter(self, job: str, user: str, role: str) -> None:
        resource = Resource(type="job", id=job, episode_id=(await self.get(job)).episode_id)
        await self.engine.enter(user, role, Action.UPDATE, resource)

    def _there(self, job: str, found: Job | None) -> Job:
        if found is None:
            raise RefusedError(f"there is no job {job}")
        return found
