"""Those who submit, claim and finish jobs as the engine does, and look at what came of it."""

import uuid
from typing import Any

import attrs

from engine.domain.event import EpisodeId, Event, JobId, Topic, episode_topic
from engine.domain.job import Job, JobChange
from engine.domain.job_request import NewJob
from engine.store.episodes import Idempotency, Replay
from engine.store.store import Store
from tests.contract.studio import ALICE

JOBS = Topic("jobs")
LEASE = 60.0


def new_job(kind: str = "test.noop", **fields: Any) -> NewJob:
    """
    A job as it was checked; what is not given is as usual.
    """
    usual: dict[str, Any] = {
        "id": JobId(str(uuid.uuid4())),
        "type": kind,
        "payload": {},
        "max_attempts": 3,
        "timeout": 60.0,
        "source": "rest",
        "user": ALICE.user,
        "request": ALICE.request,
    }
    return NewJob(**{**usual, **fields})


@attrs.define(eq=False)
class Crew:
    """
    One node's part in the jobs of a store, by its name.
    """

    store: Store
    name: str = "here/1"

    async def submit(self, *jobs: NewJob) -> list[Event]:
        """
        Queue jobs; the events of those that were.
        """
        done = await self.store.jobs.submit(jobs)
        assert not isinstance(done, Replay)
        return done

    async def add(self, kind: str = "test.noop", key: Idempotency | None = None, **fields: Any) -> Job:
        """
        Queue one job that nothing stands in the way of.
        """
        job = new_job(kind, **fields)
        done = await self.store.jobs.submit([job], key)
        assert isinstance(done, list) and len(done) == 1, done
        return await self.get(job.id)

    async def claim(self, limit: int = 10, lease: float = LEASE, **rooms: int) -> list[Job]:
        """
        Claim what is due; of the usual type, if no types are given (with _ for their dots).
        """
        await self.store.jobs.look_for_due()
        named = {kind.replace("_", "."): room for kind, room in rooms.items()}
        claimed = await self.store.jobs.claim(
            named or {"test.noop": limit}, limit, source="postgres", owner=self.name, lease=lease
        )
        events = list(claimed.events)
        assert [event.data["job"]["id"] for event in sorted_events(events)] == [
            job.id for job in sorted_jobs(events, list(claimed.jobs))
        ]
        return list(claimed.jobs)

    async def claim_one(self, kind: str = "test.noop", lease: float = LEASE) -> Job:
        """
        Claim the one job that is due.
        """
        (job,) = await self.claim(1, lease, **{kind.replace(".", "_"): 1})
        return job

    async def apply(self, *changes: JobChange, hurried: bool = False) -> list[Event]:
        """
        Commit transitions; the events of those that came to be.
        """
        return await self.store.jobs.apply(changes, hurried=hurried)

    async def get(self, job: JobId) -> Job:
        """
        A job that is there.
        """
        found = await self.store.job_list.get(job)
        assert found is not None
        return found

    async def log(self, episode: EpisodeId | None = None) -> list[Event]:
        """
        The log of an episode, or of the jobs that belong to none.
        """
        topic = JOBS if episode is None else episode_topic(episode)
        events: list[Event] = []
        while found := await self.store.log.since(topic, events[-1].offset if events else 0, 1000):
            events += found
        assert [event.offset for event in events] == list(range(1, len(events) + 1)), "a hole in the log"
        places = [(event.place.xid, event.place.seq, event.type) for event in events]
        assert places == sorted(places), f"offsets are not in commit order: {places}"
        return events

    async def history(self, job: JobId) -> list[str]:
        """
        What happened to a job, by the names of the events.
        """
        return [event.type for event in await self.store.job_list.history(job, 1000)]


def sorted_events(events: Any) -> list[Event]:
    """
    Events by what they are about.
    """
    return sorted(events, key=lambda event: event.data["job"]["id"])


def sorted_jobs(events: Any, jobs: list[Job]) -> list[Job]:
    """
    Jobs by id; there are as many as events.
    """
    assert len(events) == len(jobs)
    return sorted(jobs, key=lambda job: job.id)
