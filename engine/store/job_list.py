"""Jobs as they are read: one, a page, its history, what nobody runs any more, what is paused."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from engine.domain.event import EpisodeId, Event, JobId, UserId
from engine.domain.job import Job, JobState
from engine.store.events import event_of_row
from engine.store.job_rows import job_of_row
from engine.store.postgres import Database
from engine.store.queries import queries

_SQL = queries("job_list")
_JOBS = _SQL["columns"] + "\n"


@attrs.frozen(kw_only=True)
class JobQuery:
    """
    Which jobs, newest first; `before` is the number that an earlier page gave.
    """

    state: JobState | None = None
    type: str | None = None
    episode: EpisodeId | None = None
    before: int | None = None
    limit: int


@attrs.frozen(kw_only=True)
class JobPage:
    """
    Jobs, newest first, and the number to ask for what is older; None when there is nothing older.
    """

    jobs: Sequence[Job]
    next_before: int | None


@attrs.frozen(kw_only=True)
class Pause:
    """
    A job source or a job type (`kind`) that nothing is claimed from, by whom and since when.
    """

    kind: str
    name: str
    by: UserId
    at: datetime


@attrs.define(eq=False, kw_only=True)
class JobList:
    """
    Read jobs; pause and resume sources and types.
    """

    database: Database

    async def get(self, job: JobId) -> Job | None:
        """
        The job as it stands; None when there is none.
        """
        row = await self.database.fetch_one(_JOBS + _SQL["get"], {"id": job})
        return None if row is None else job_of_row(row)

    async def several(self, jobs: Sequence[JobId]) -> dict[JobId, Job]:
        """
        Those of these jobs that there are.
        """
        return {job.id: job for job in await self._jobs("several", {"ids": list(jobs)})}

    async def unfinished(self, kind: str, unique_key: str) -> Job | None:
        """
        The one job of this type and unique key that has not ended.
        """
        params = {"type": kind, "unique_key": unique_key}
        row = await self.database.fetch_one(_JOBS + _SQL["unfinished"], params)
        return None if row is None else job_of_row(row)

    async def page(self, query: JobQuery) -> JobPage:
        """
        A page of jobs.
        """
        params = {**attrs.asdict(query), "limit": query.limit + 1}
        rows = await self.database.fetch(_JOBS + _SQL["page"], params)
        jobs = [job_of_row(row) for row in rows]
        return JobPage(
            jobs=jobs[: query.limit],
            next_before=jobs[query.limit - 1].seq if len(jobs) > query.limit else None,
        )

    async def history(self, job: JobId, limit: int) -> list[Event]:
        """
        What happened to the job, the newest `limit` of it, in order; what retention has cut is left out.
        """
        rows = await self.database.fetch(_SQL["history"], {"id": job, "limit": limit})
        return [event_of_row(row) for row in reversed(rows)]

    async def lapsed(self, limit: int) -> list[Job]:
        """
        Running jobs whose lease has ended.
        """
        return await self._jobs("lapsed", {"limit": limit})

    async def orphans(self, *, owner: str, node: str, everybody: bool, limit: int) -> list[Job]:
        """
        Jobs that former lives of this node ran; with `everybody`, those of all nodes but this life of it.
        """
        params = {"owner": owner, "node": f"{node}/", "all": everybody, "limit": limit}
        return await self._jobs("orphans", params)

    async def counts(self) -> dict[tuple[str, JobState], int]:
        """
        How many jobs have not ended, by type and state.
        """
        rows = await self.database.fetch(_SQL["counts"], {})
        return {(kind, JobState(state)): count for kind, state, count in rows}

    async def pauses(self) -> list[Pause]:
        """
        What is paused.
        """
        rows = await self.database.fetch(_SQL["pauses"], {})
        return [Pause(kind=row[0], name=row[1], by=UserId(row[2]), at=row[3]) for row in rows]

    async def pause(self, kind: str, name: str, user: UserId) -> None:
        """
        Let nothing be claimed from a source or type, on any node; to do it again changes nothing.
        """
        await self.database.execute(_SQL["pause"], {"kind": kind, "name": name, "user": user})

    async def resume(self, kind: str, name: str) -> bool:
        """
        Let a source or type be claimed from again; False when it was not paused.
        """
        return await self.database.execute(_SQL["resume"], {"kind": kind, "name": name}) > 0

    async def has_episode(self, episode: EpisodeId) -> bool:
        """
        Whether jobs may belong to the episode: it is there, and was not deleted.
        """
        return await self.database.fetch_one(_SQL["episode"], {"id": episode}) is not None

    async def _jobs(self, name: str, params: Mapping[str, object]) -> list[Job]:
        return [job_of_row(row) for row in await self.database.fetch(_JOBS + _SQL[name], params)]
