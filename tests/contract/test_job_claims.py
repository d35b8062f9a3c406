"""Which jobs are queued, and which of them are claimed, when and by how many."""

import uuid

import pytest
import trio

from engine.domain import job as decide
from engine.domain.event import EpisodeId
from engine.store.episodes import Idempotency, Replay
from engine.store.memory_store import MemoryStore
from tests.contract.crew import Crew, new_job
from tests.contract.studio import ALICE
from tests.patience import patience


@pytest.fixture(params=["postgres", "memory"])
def store(request, store):
    """
    The database, or what stands for it on a virtual clock: the same promises.
    """
    return store if request.param == "postgres" else MemoryStore.empty()


@pytest.fixture
def crew(store):
    return Crew(store)


async def test_the_urgent_goes_first_then_the_older(crew):
    """
    By priority, then by when they became due.
    """
    jobs = [new_job(priority=priority) for priority in (0, 9, 5, 9)]
    await crew.submit(*jobs)
    assert [job.id for job in await crew.claim(2)] == [jobs[1].id, jobs[3].id]
    assert [job.id for job in await crew.claim(9)] == [jobs[2].id, jobs[0].id]


async def test_a_type_gets_no_more_than_its_room(crew):
    """
    However much of it is waiting, and whatever room the node has.
    """
    await crew.submit(*[new_job("test.one", priority=9) for _ in range(5)], new_job("test.two"))
    found = await crew.claim(10, test_one=2, test_two=2)
    assert sorted(job.type for job in found) == ["test.one", "test.one", "test.two"]


async def test_a_delayed_job_is_claimed_when_it_is_due(crew, store):
    """
    Not before, by the database's clock.
    """
    later = await crew.add(delay=3600.0)
    now = await crew.add(delay=0.05)
    assert 3590 < (later.next_run_at - later.created_at).total_seconds() <= 3600
    with patience():
        while (due := await store.jobs.look_for_due()) is not None and due < 1000:
            assert await crew.claim(1) == [] or due < 0
            await trio.sleep(max(0.0, due))
    assert due is not None and 3500 < due < 3600
    claimed = await crew.claim()
    assert [job.id for job in claimed] in ([now.id], [])
    assert (await crew.get(later.id)).state == "queued"


async def test_what_is_paused_is_not_claimed(crew, store):
    """
    A type, or the source with everything in it; resumed, it goes on.
    """
    await crew.submit(new_job("test.one"), new_job("test.two"))
    await store.job_list.pause("type", "test.one", ALICE.user)
    await store.job_list.pause("type", "test.one", ALICE.user)
    assert [pause.name for pause in await store.job_list.pauses()] == ["test.one"]
    assert [job.type for job in await crew.claim(9, test_one=9, test_two=9)] == ["test.two"]
    await store.job_list.pause("source", "postgres", ALICE.user)
    assert await store.job_list.resume("type", "test.one")
    assert not await store.job_list.resume("type", "test.one")
    assert await crew.claim(9, test_one=9) == []
    await store.job_list.resume("source", "postgres")
    assert [job.type for job in await crew.claim(9, test_one=9)] == ["test.one"]


async def test_a_unique_key_is_had_by_one_unfinished_job_of_its_type(crew, store):
    """
    A second is not queued, nor is an ended one queued again; when the first has ended, another may have it.
    """
    first = await crew.add(unique_key="k")
    assert await crew.submit(new_job(unique_key="k")) == []
    assert await store.job_list.unfinished("test.noop", "k") == first
    await crew.add("test.other", unique_key="k")
    running = await crew.claim_one()
    assert await crew.submit(new_job(unique_key="k")) == []
    await crew.apply(decide.completed(running, None))
    await crew.add(unique_key="k")


async def test_an_idempotency_key_queues_one_job(crew, store):
    """
    The second time it answers what was done; nothing is queued, nothing told.
    """
    key = Idempotency(key="k", fingerprint="f")
    job = await crew.add(key=key)
    replay = await store.jobs.submit([new_job()], key)
    assert isinstance(replay, Replay)
    assert replay.response == {"id": job.id}
    assert len(await crew.log()) == 1


async def test_a_job_of_an_episode_that_is_not_there_is_not_queued(crew, studio):
    """
    One that never was, and one that was deleted.
    """
    deleted = EpisodeId((await studio.create()).topic.removeprefix("episode:"))
    await studio.delete(deleted)
    for episode in (deleted, EpisodeId(str(uuid.uuid4()))):
        assert await crew.submit(new_job(episode_id=episode)) == []


async def test_progress_that_is_told_late_shortens_no_lease(crew):
    """
    Its lease was reckoned when it was told; by now another may have been given.
    """
    await crew.add()
    job = await crew.claim_one(lease=60)
    before = (await crew.get(job.id)).lease_until
    assert len(await crew.apply(decide.progressed(job, 0.5, None, lease=1))) == 1
    assert (await crew.get(job.id)).lease_until == before
    assert len(await crew.apply(decide.progressed(job, 0.6, None, lease=600))) == 1
    assert (await crew.get(job.id)).lease_until > before
