"""Jobs in the store: each transition is a row and its event, at most once, whoever else is at it."""

from functools import partial

import attrs
import pytest
import trio

from engine.domain import job as decide
from engine.domain.event import EpisodeId
from engine.domain.job import JobState
from engine.store.job_list import JobQuery
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


def id_of(event) -> EpisodeId:
    return EpisodeId(event.topic.removeprefix("episode:"))


async def test_a_job_goes_its_way_and_each_step_is_in_the_log(crew):
    """
    Submitted, claimed, completed: the row says so, and so do three events in order.
    """
    job = await crew.add(payload={"a": 1})
    assert (job.state, job.attempt, job.payload, job.submitted_by) == ("queued", 0, {"a": 1}, ALICE.user)
    running = await crew.claim_one()
    assert (running.id, running.state, running.attempt, running.fence) == (job.id, "running", 1, 1)
    assert running.lease_owner == "here/1"
    await crew.apply(decide.progressed(running, 0.5, "half", lease=60))
    assert (await crew.get(job.id)).progress == 0.5
    (event,) = await crew.apply(decide.completed(running, {"done": True}))
    assert event.data["job"]["state"] == "completed"
    assert event.data["result"] == {"done": True}
    done = await crew.get(job.id)
    assert (done.state, done.result, done.lease_owner, done.progress) == (
        "completed",
        {"done": True},
        None,
        1,
    )
    assert done.finished_at >= done.started_at >= done.created_at
    told = [(event.type, event.user) for event in await crew.log()]
    assert told == [
        (name, ALICE.user)
        for name in ("job_queued", "job_processor_started", "job_progress", "job_completed")
    ]
    assert await crew.history(job.id) == [name for name, _ in told]


async def test_jobs_of_an_episode_are_told_in_its_log(crew, studio):
    """
    In one batch, those of several episodes and of none each in their own log, beside other changes.
    """
    first, second = id_of(await studio.create()), id_of(await studio.create())
    jobs = [new_job(episode_id=episode) for episode in (first, second, None, first)]
    assert len(await crew.submit(*jobs)) == 4
    running = await crew.claim()
    await studio.update(first)
    assert len(await crew.apply(*[decide.completed(job, None) for job in running])) == 4
    kinds = ["job_queued", "job_processor_started", "job_completed"]
    assert [event.type for event in await crew.log(first)] == [
        "episode_created", kinds[0], kinds[0], kinds[1], kinds[1], "episode_updated", kinds[2], kinds[2],
    ]  # fmt: skip
    assert [event.type for event in await crew.log(second)] == ["episode_created", *kinds]
    assert [event.type for event in await crew.log()] == kinds


async def test_of_many_who_claim_at_once_each_gets_other_jobs(crew, store):
    """
    Every job is claimed once, and the log is gapless and in commit order.
    """
    await crew.submit(*[new_job() for _ in range(200)])
    claimed = []

    async def work(name):
        own = Crew(store, name)
        while jobs := await own.claim(7):
            claimed.extend(job.id for job in jobs)
            await own.apply(*[decide.completed(job, name) for job in jobs])

    with patience():
        while len(claimed) < 200:
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(work, f"node{number}/1")
    assert len(set(claimed)) == len(claimed) == 200
    assert len(await crew.log()) == 600


async def test_a_late_writer_changes_nothing(crew, store):
    """
    Whose lease has ended and was given to another: no completion, no progress, no event.
    """
    job = await crew.add()
    late = await crew.claim_one(lease=0)
    (lapsed,) = await store.job_list.lapsed(10)
    assert lapsed.id == job.id
    (event,) = await crew.apply(decide.rescued(lapsed, delay=0))
    assert event.type == "job_retry"
    assert "here/1 was lost" in event.data["error"]
    current = await Crew(store, "there/1").claim_one()
    assert (current.attempt, current.fence) == (2, late.fence + 2)
    for change in (
        decide.completed(late, "late"),
        decide.attempt_failed(late, "late", delay=0),
        decide.progressed(late, 0.9, "late", lease=60),
        decide.cancelled(late),
        decide.released(late, "as a test wants"),
    ):
        assert await crew.apply(change) == []
    assert await store.jobs.renew({late.id: late.fence}, lease=60) == []
    assert await crew.get(job.id) == current
    assert await crew.history(job.id) == [
        "job_queued", "job_processor_started", "job_retry", "job_processor_started",
    ]  # fmt: skip


async def test_a_lease_that_is_renewed_meanwhile_is_not_rescued(crew, store):
    """
    The rescuer has read that it ended; by the time it acts it has not.
    """
    await crew.add()
    job = await crew.claim_one(lease=0)
    (lapsed,) = await store.job_list.lapsed(10)
    (renewal,) = await store.jobs.renew({job.id: job.fence}, lease=60)
    assert not renewal.is_cancelled
    assert await crew.apply(decide.rescued(lapsed, delay=0)) == []
    assert (await crew.get(job.id)).state == "running"


async def test_after_the_last_attempt_a_lost_job_has_failed(crew, store):
    """
    A job that takes its node down each time does not do so for ever.
    """
    await crew.add(max_attempts=1)
    await crew.claim_one(lease=0)
    (lapsed,) = await store.job_list.lapsed(10)
    (event,) = await crew.apply(decide.rescued(lapsed, delay=0))
    assert (event.type, event.data["job"]["state"]) == ("job_failed", "failed")


async def test_of_completing_and_cancelling_at_once_one_happens(crew, store):
    """
    Both are decided on the same row; the first to lock it wins, the other leaves no event.
    """
    await crew.add()
    job = await crew.claim_one()
    done = []
    async with trio.open_nursery() as nursery:
        for change in (decide.completed(job, None), decide.cancelled(job)):

            async def write(change):
                done.extend(await crew.apply(change))

            nursery.start_soon(write, change)
    assert len(done) == 1
    assert (await crew.history(job.id))[2:] == [done[0].type]


async def test_a_job_that_is_to_be_cancelled_is_told_to_who_runs_it(crew, store):
    """
    With the renewal of the lease, and to whoever asks; no further attempt begins, nor is it given back.
    """
    await crew.add()
    job = await crew.claim_one()
    wish = decide.cancel(job, user=ALICE.user, request=ALICE.request)
    assert isinstance(wish, decide.CancelWish)
    assert await store.jobs.wish(wish, ALICE.user)
    assert await store.jobs.wishes("here/1") == [(job.id, job.fence, ALICE.user)]
    (renewal,) = await store.jobs.renew({job.id: job.fence}, lease=60)
    assert (renewal.is_cancelled, renewal.cancelled_by) == (True, ALICE.user)
    failed = decide.attempt_failed(job, "no", delay=0)
    assert await crew.apply(failed) == []
    assert await crew.apply(decide.released(job, "as a test wants")) == []
    (event,) = await crew.apply(decide.cancelled_instead(failed))
    assert (event.type, event.user) == ("job_cancelled", ALICE.user)
    assert not (await store.jobs.wish(wish, ALICE.user)), "it has ended"


async def test_a_job_that_was_to_be_cancelled_is_so_when_who_ran_it_is_lost(crew, store):
    """
    Nobody is left to stop it, and nobody begins it again.
    """
    await crew.add()
    job = await crew.claim_one(lease=0)
    wish = decide.cancel(job, user=ALICE.user, request=ALICE.request)
    assert isinstance(wish, decide.CancelWish)
    assert await store.jobs.wish(wish, ALICE.user)
    (lapsed,) = await store.job_list.lapsed(10)
    (event,) = await crew.apply(decide.rescued(lapsed, delay=0))
    assert (event.type, event.user) == ("job_cancelled", ALICE.user)
    assert await crew.claim() == []


async def test_a_waiting_job_is_cancelled_at_once_and_can_be_queued_again(crew):
    """
    By hand, with all its attempts, in the name of who did it.
    """
    job = await crew.add()
    change = decide.cancel(job, user=ALICE.user, request=ALICE.request)
    (event,) = await crew.apply(change)
    assert event.type == "job_cancelled"
    assert await crew.claim() == []
    again = decide.queued_again(await crew.get(job.id), user=ALICE.user, request=ALICE.request)
    assert len(await crew.apply(again)) == 1
    assert await crew.apply(again) == [], "once"
    assert (await crew.claim_one()).attempt == 1


async def test_what_a_node_gives_back_is_another_s_at_once_and_costs_no_attempt(crew):
    """
    A drain returns what it cannot finish.
    """
    await crew.add()
    job = await crew.claim_one()
    (event,) = await crew.apply(decide.released(job, "as a test wants"))
    assert event.type == "job_queued"
    assert (await crew.claim_one()).attempt == 1


async def test_orphans_are_what_former_lives_of_this_node_ran(crew, store):
    """
    Known by the node's name; with everybody, whoever ran it, but no external worker's.
    """
    for name in ("here/0", "here/1", "there/1", "hereafter/1"):
        await crew.add()
        await Crew(store, name).claim_one()
    await crew.add("test.external")
    outside = (await crew.store.job_list.page(JobQuery(limit=1))).jobs[0]
    start = decide.started_elsewhere(outside, owner="lambda", fence=7, seq=1, lease=60)
    assert start is not None
    await crew.apply(start)
    find = partial(store.job_list.orphans, owner="here/1", node="here", limit=10)
    assert [job.lease_owner for job in await find(everybody=False)] == ["here/0"]
    owners = {job.lease_owner for job in await find(everybody=True)}
    assert owners == {"here/0", "there/1", "hereafter/1"}


async def test_an_external_worker_s_messages_count_once_and_in_order(crew):
    """
    A repeated or stale message, or one of a former fence, changes nothing.
    """
    job = await crew.add()
    start = decide.started_elsewhere(job, owner="lambda", fence=5, seq=1, lease=60)
    assert len(await crew.apply(start)) == 1
    assert await crew.apply(start) == []
    running = await crew.get(job.id)
    assert (running.fence, running.attempt, running.is_external) == (5, 1, True)
    third = decide.numbered(decide.progressed(running, 0.9, None, lease=60), 3)
    second = decide.numbered(decide.progressed(running, 0.5, None, lease=60), 2)
    assert len(await crew.apply(third)) == 1
    assert await crew.apply(second) == []
    assert await crew.apply(attrs.evolve(decide.numbered(third, 4), fence=4)) == []
    assert (await crew.get(job.id)).progress == 0.9
    assert len(await crew.apply(decide.numbered(decide.completed(running, 1), 4))) == 1
    assert decide.started_elsewhere(await crew.get(job.id), owner="l", fence=9, seq=5, lease=60) is None


async def test_old_jobs_are_purged_and_unfinished_ones_never(crew, store):
    """
    By when they ended, of the states that are asked for.
    """
    await crew.add()
    await crew.add()
    await crew.apply(decide.completed(await crew.claim_one(), None))
    waiting = await store.job_list.counts()
    assert sum(waiting.values()) == 1
    assert await store.jobs.purge(age=3600, limit=10) == 0
    assert await store.jobs.purge(age=0, limit=10, states=[JobState.FAILED]) == 0
    assert await store.jobs.purge(age=0, limit=10) == 1
    assert await store.job_list.counts() == waiting


async def test_a_claim_s_events_are_told_as_they_stand_in_the_log(crew, studio, store):
    """
    Though they are not read from it: in an episode's log, and in that of all other jobs.
    """
    episode = id_of(await studio.create())
    await crew.submit(new_job(episode_id=episode), new_job(payload={"a": [1]}, priority=3))
    claimed = await store.jobs.claim({"test.noop": 2}, 2, source="postgres", owner="here/1", lease=60.0)
    logged = [*await crew.log(), *await crew.log(episode)]
    assert list(claimed.events) == [event for event in logged if event.type == "job_processor_started"]
