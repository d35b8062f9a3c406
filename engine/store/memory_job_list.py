"""Jobs in memory as they are read, by the rules of job_list.sql."""

from collections import Counter
from collections.abc import Sequence

import attrs

from engine.domain.event import EpisodeId, Event, JobId, UserId
from engine.domain.job import EXTERNAL, Job, JobState
from engine.domain.world import now
from engine.store.job_list import JobPage, JobQuery, Pause
from engine.store.memory import MemoryTables
from engine.store.memory_jobs import JobRows


@attrs.define(eq=False)
class MemoryJobList:
    """
    Read jobs; pause and resume sources and types, as `JobList`.
    """

    tables: MemoryTables
    rows: JobRows

    async def get(self, job: JobId) -> Job | None:
        await self.tables.reach()
        return self.rows.all.get(job)

    async def several(self, jobs: Sequence[JobId]) -> dict[JobId, Job]:
        await self.tables.reach()
        return {id_: self.rows.all[id_] for id_ in jobs if id_ in self.rows.all}

    async def unfinished(self, kind: str, unique_key: str) -> Job | None:
        await self.tables.reach()
        return self.rows.with_key(kind, unique_key)

    async def page(self, query: JobQuery) -> JobPage:
        await self.tables.reach()
        jobs = [
            job
            for job in sorted(self.rows.all.values(), key=lambda job: -job.seq)
            if query.state in (None, job.state)
            and query.type in (None, job.type)
            and query.episode in (None, job.episode_id)
            and (query.before is None or job.seq < query.before)
        ]
        return JobPage(
            jobs=jobs[: query.limit],
            next_before=jobs[query.limit - 1].seq if len(jobs) > query.limit else None,
        )

    async def history(self, job: JobId, limit: int) -> list[Event]:
        await self.tables.reach()
        return [event for event in self.tables.events if _is_about(event, job)][-limit:]

    async def lapsed(self, limit: int) -> list[Job]:
        await self.tables.reach()
        at = now()
        ended = [
            (job.lease_until, job.seq, job)
            for job in self._running()
            if job.lease_until is not None and job.lease_until < at
        ]
        return [job for _, _, job in sorted(ended, key=lambda one: one[:2])][:limit]

    async def orphans(self, *, owner: str, node: str, everybody: bool, limit: int) -> list[Job]:
        await self.tables.reach()
        return [
            job
            for job in self._running()
            if job.lease_owner is not None
            and job.lease_owner != owner
            and not job.lease_owner.startswith(EXTERNAL)
            and (everybody or job.lease_owner.startswith(f"{node}/"))
        ][:limit]

    async def counts(self) -> dict[tuple[str, JobState], int]:
        await self.tables.reach()
        return dict(Counter((job.type, job.state) for job in self.rows.unfinished.values()))

    async def pauses(self) -> list[Pause]:
        await self.tables.reach()
        return [self.rows.pauses[key] for key in sorted(self.rows.pauses)]

    async def pause(self, kind: str, name: str, user: UserId) -> None:
        await self.tables.reach()
        self.rows.pauses.setdefault((kind, name), Pause(kind=kind, name=name, by=user, at=now()))
        self.tables.written()

    async def resume(self, kind: str, name: str) -> bool:
        await self.tables.reach()
        was = self.rows.pauses.pop((kind, name), None)
        self.tables.written()
        return was is not None

    async def has_episode(self, episode: EpisodeId) -> bool:
        await self.tables.reach()
        return episode in self.tables.episodes

    def _running(self) -> list[Job]:
        running = [job for job in self.rows.unfinished.values() if job.state is JobState.RUNNING]
        return sorted(running, key=lambda job: job.seq)


def _is_about(event: Event, job: JobId) -> bool:
    if not event.type.startswith("job_"):
        return False
    told = event.data.get("job")
    return isinstance(told, dict) and told.get("id") == job
