"""Transitions of jobs that wait for somebody's lock in PostgreSQL, and those that must not."""

import attrs
import pytest
import trio

from engine.domain import job as decide
from engine.domain.event import EpisodeId, LogPlace
from engine.errors import StoreUnavailableError
from tests.contract.crew import Crew, new_job
from tests.patience import patience

# A job with the unique key k, past the product.
UNCOMMITTED = """
insert into processing_queue (id, type, state, payload, max_attempts, timeout, priority, next_run_at, delayed,
                              unique_key, source, submitted_by, request, created_at, updated_at)
values (gen_random_uuid(), 'test.noop', 'queued', '{}', 1, 1, 0, now(), false, 'k', '', '', '{}',
        now(), now())
"""


@pytest.fixture
def crew(store):
    return Crew(store)


def id_of(event) -> EpisodeId:
    return EpisodeId(event.topic.removeprefix("episode:"))


async def test_batches_on_the_same_episodes_never_wait_for_each_other_in_a_circle(crew, studio, store):
    """
    Many writers, a few episodes, in every order: all commit, and every log stays whole.
    """
    episodes = [id_of(await studio.create()) for _ in range(4)]
    await crew.submit(*[new_job(episode_id=(*episodes, None)[number % 5]) for number in range(150)])

    async def work(number):
        own = Crew(store, f"node{number}/1")
        while jobs := await own.claim(6):
            await own.apply(*[decide.progressed(job, 0.1, None, lease=9) for job in jobs], hurried=True)
            await own.apply(*[decide.completed(job, None) for job in reversed(jobs)])

    with patience():
        while await store.job_list.counts():
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(work, number)
                for episode in episodes:
                    nursery.start_soon(studio.write, episode, 10)
    for episode in (*episodes, None):
        finished = [event for event in await crew.log(episode) if event.type == "job_completed"]
        assert len(finished) == 30


def in_commit_order(events, topic):
    return [event.offset for event in events if event.topic == topic]


async def test_transitions_that_wait_take_their_place_behind_what_was_told_meanwhile(crew, studio):
    """
    Their transaction is older than that of a change which got the episode's lock first; read in commit order,
    the log is in the order of its offsets all the same.
    """
    episode = id_of(await studio.create())
    await crew.submit(new_job(episode_id=episode), new_job(episode_id=episode))
    first, second = sorted(await crew.claim(), key=lambda job: job.id)
    with patience():
        async with (
            trio.open_nursery() as nursery,
            studio.store.background.connection() as lock,
            lock.transaction(),
        ):
            await lock.execute("select from processing_queue where id = %s for update", [second.id])
            nursery.start_soon(crew.apply, decide.completed(first, 1), decide.completed(second, 2))
            assert await studio.wait_for_lock() != (None,), "it has no transaction id yet"
            await studio.update(episode)
    told = [event.type for event in await crew.log(episode)]
    assert told[-3:] == ["episode_updated", "job_completed", "job_completed"]
    brought = in_commit_order(await studio.store.log.after(LogPlace(0, 0), 1000), f"episode:{episode}")
    assert brought == sorted(brought)


async def test_a_submission_that_waits_takes_its_place_behind_what_was_told_meanwhile(crew, studio):
    """
    The same in the log of jobs that belong to no episode.
    """
    with patience():
        async with trio.open_nursery() as nursery, studio.store.background.connection() as other:
            await other.execute("begin")
            await other.execute(UNCOMMITTED)
            nursery.start_soon(crew.submit, new_job(), new_job(unique_key="k"))
            assert await studio.wait_for_lock() != (None,), "it has no transaction id yet"
            await crew.add()
            await other.execute("rollback")
    assert len(await crew.log()) == 3
    brought = in_commit_order(await studio.store.log.after(LogPlace(0, 0), 1000), "jobs")
    assert brought == [1, 2, 3]


async def test_progress_never_waits_for_an_episode_s_lock(crew, studio):
    """
    A handler may hold it in a transaction of its own; the progress is told the next time.
    """
    episode = id_of(await studio.create())
    await crew.submit(new_job(episode_id=episode), new_job())
    jobs = await crew.claim()
    with patience():
        async with studio.store.background.connection() as lock, lock.transaction():
            await lock.execute("select from episodes where id = %s for no key update", [episode])
            changes = [decide.progressed(job, 0.5, None, lease=60) for job in jobs]
            assert len(await crew.apply(*changes, hurried=True)) == 1
        assert len(await crew.apply(*changes, hurried=True)) == 2


async def test_a_transition_that_takes_too_long_is_given_up_and_undone(crew, store, studio):
    """
    Nothing is half done: the row and its event are one statement.
    """
    await crew.add()
    job = await crew.claim_one()
    with patience():
        async with studio.store.background.connection() as lock, lock.transaction():
            await lock.execute("select from topic_logs where topic = 'jobs' for update")
            impatient = attrs.evolve(store.jobs.database, deadline=0.2)
            with pytest.raises(StoreUnavailableError):
                await attrs.evolve(store.jobs, database=impatient).apply([decide.completed(job, None)])
    assert (await crew.get(job.id)).state == "running"
    assert len(await crew.log()) == 2
