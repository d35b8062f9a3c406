"""The digest on a simulated engine: who is told what, how often, and what is refused."""

import greenroom_digest as digest
import pytest

from engine.testing import simulate

COUNTS = [{"resource_type": "episode", "action": "CREATE", "count": 3}]


def run(scenario, counts, **options):
    """
    Simulate with the plugin, and with these counts in the database.
    """

    async def main(engine):
        engine.script.answer("from activity_logs", counts)
        await scenario(engine)

    return simulate(main, plugins={"digest": digest}, **options)


async def told(engine, user):
    """
    What a person was told.
    """
    return await engine.store.log.since(f"user:{user}", 0, 100)


def test_everybody_on_the_list_is_told_the_same():
    """
    At once, and the job's result says how many.
    """

    async def scenario(engine):
        ann = engine.client("ann")
        await ann.subscribe("user:ann")
        job = await engine.jobs.submit("digest.daily", {"people": ["ann", "bob"], "hours": 12})
        assert (await engine.jobs.wait_ended(job.id)).result == {"told": 2, "counts": COUNTS}
        await ann.wait(lambda client: client.events)
        assert [event.data for event in ann.events] == [{"hours": 12, "counts": COUNTS}]
        assert [event.type for event in await told(engine, "bob")] == ["digest"]

    run(scenario, COUNTS)


@pytest.mark.parametrize("seed", range(10))
def test_nobody_is_told_twice_whatever_fails(seed):
    """
    Neither when answers of the database are lost, nor when whoever runs the job dies.
    """

    async def scenario(engine):
        job = await engine.jobs.submit("digest.daily", {"people": ["ann"]}, delay=60)
        async with engine.outage(loses_answers=True):
            await engine.advance(61 + engine.chance.random())
        await engine.jobs.crash(job.id)
        assert (await engine.jobs.wait_ended(job.id)).state == "completed"
        assert len(await told(engine, "ann")) == 1

    run(scenario, COUNTS, seed=seed)


def test_nothing_to_tell_is_told_nobody():
    """
    To try again would be of no use.
    """

    async def scenario(engine):
        job = await engine.jobs.submit("digest.daily", {"people": ["ann"]})
        failed = await engine.jobs.wait_ended(job.id)
        assert (failed.state, failed.attempt) == ("failed", 1)
        assert failed.error == "nothing has happened in 24 hours"
        assert await told(engine, "ann") == []

    run(scenario, [])


def test_there_is_one_digest_at_a_time():
    """
    Whoever submits another while one waits is shown that one.
    """

    async def scenario(engine):
        first = await engine.jobs.submit("digest.daily", {"people": ["ann"]}, delay=60)
        assert (await engine.jobs.submit("digest.daily", {"people": ["bob"]})).id == first.id
        await engine.jobs.wait_ended(first.id)
        assert (await engine.jobs.submit("digest.daily", {"people": ["bob"]})).id != first.id

    run(scenario, COUNTS)


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ({}, ["people"]),
        ({"people": []}, ["people"]),
        ({"people": ["ann", 5]}, ["people"]),
        ({"people": ["ann"], "hours": 0}, ["hours"]),
        ({"people": "ann", "hours": "24"}, ["people", "hours"]),
        ({"people": ["ann"]}, []),
    ],
)
def test_a_wrong_payload_is_refused_when_it_is_submitted(payload, fields):
    """
    With one entry for each bad field.
    """
    assert [error.field for error in digest.check(payload)] == fields
