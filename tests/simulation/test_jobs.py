"""Jobs on the simulated engine: run by the actors of every node, on a virtual clock, whatever fails."""

import pytest
import trio

from engine.errors import EngineError
from engine.hookspecs import Discard, FieldError, JobHandler, Retry, hookimpl
from engine.testing import RefusedError, simulate


class Kitchen:
    """
    Cooks as the payload says: what to do in each attempt, the last for all that follow.
    """

    def __init__(self, **handler):
        self.handler = handler
        self.begun = []

    @hookimpl
    def job_handlers(self):
        return [JobHandler(type="kitchen.cook", run=self.cook, check=self.check, **self.handler)]

    def check(self, payload):
        if "burnt" in payload.get("dish", ""):
            yield FieldError("dish", "must not be burnt")

    async def cook(self, context):
        job = context.job
        self.begun.append((job.id, job.attempt))
        steps = job.payload.get("steps", ["serve"])
        step = steps[min(job.attempt, len(steps)) - 1]
        match step:
            case "serve":
                return {"served": job.payload.get("dish", "soup")}
            case "again":
                raise Retry("it is raw", after=job.payload.get("after"))
            case "away":
                raise Discard("nobody is hungry")
            case "drop":
                raise RuntimeError("dropped it")
            case "sleep":
                await trio.sleep(job.payload.get("seconds", 10_000))
                return "late"
            case "tell":
                for tenth in range(1, 11):
                    await context.progress(tenth / 10, f"step {tenth}")
                    await trio.sleep(1)
                return "told"
            case "write":
                async with context.transaction() as transaction:
                    await transaction.execute("insert into dishes values (%s)", [job.id])
                    await transaction.create_episodes([{"title": "Dinner"}])
                    await trio.sleep(job.payload.get("seconds", 0))
                return "written"
            case _:
                raise AssertionError(step)


def run(scenario, kitchen=None, **settings):
    """
    Simulate with a kitchen; it is given the engine and the kitchen.
    """
    kitchen = kitchen or Kitchen()

    async def main(engine):
        await scenario(engine, kitchen)

    return simulate(main, plugins={"kitchen": kitchen}, **settings)


def kinds(events):
    return [event.type for event in events]


def test_a_job_is_run_and_all_that_happens_is_told_to_who_listens():
    """
    To those who listen to the jobs that belong to no episode; progress at most four times a second.
    """

    async def scenario(engine, kitchen):
        bob = engine.client("bob@example.com")
        await bob.subscribe("jobs")
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["tell"]})
        done = await engine.jobs.wait_ended(job.id)
        assert (done.state, done.result, done.progress, done.attempt) == ("completed", "told", 1.0, 1)
        told = kinds(await engine.jobs.history(job.id))
        assert told[:2] == ["job_queued", "job_processor_started"]
        assert told[2:-1] == ["job_progress"] * 10
        assert told[-1] == "job_completed"
        await bob.wait(lambda client: len(client.events) == len(told))
        assert kinds(bob.events) == told
        assert [event.data["message"] for event in bob.events[2:4]] == ["step 1", "step 2"]

    assert 9 < run(scenario).seconds < 12


def test_a_job_of_an_episode_is_told_in_its_log_between_other_changes():
    """
    One gapless log for both; a job of an episode that is not there is refused.
    """

    async def scenario(engine, kitchen):
        episode = await engine.create("Pilot")
        bob = engine.client("bob@example.com")
        await bob.subscribe(f"episode:{episode.id}")
        job = await engine.jobs.submit("kitchen.cook", episode=episode.id)
        await engine.jobs.wait_ended(job.id)
        await engine.change(episode.id, title="Take 2")
        await bob.wait(lambda client: len(client.events) == 4)
        assert [event.offset for event in bob.events] == [2, 3, 4, 5]
        assert kinds(bob.events) == [
            "job_queued", "job_processor_started", "job_completed", "episode_updated",
        ]  # fmt: skip
        assert (await engine.episode(episode.id)).log_offset == 5
        await engine.delete(episode.id)
        with pytest.raises(RefusedError, match="no episode"):
            await engine.jobs.submit("kitchen.cook", episode=episode.id)

    run(scenario)


def test_what_is_wrong_with_a_submission_is_said_as_over_rest():
    """
    With its field: by the engine, and by the handler's own check.
    """

    async def scenario(engine, kitchen):
        with pytest.raises(RefusedError, match=r"payload\.dish: must not be burnt"):
            await engine.jobs.submit("kitchen.cook", {"dish": "burnt rice"})
        with pytest.raises(RefusedError, match=r"type: must be one of kitchen\.cook"):
            await engine.jobs.submit("kitchen.wash")
        with pytest.raises(RefusedError, match="priority: must be an integer from 0 to 9"):
            await engine.jobs.submit("kitchen.cook", priority=10)
        with pytest.raises(RefusedError, match="no job"):
            await engine.jobs.get("00000000-0000-4000-8000-000000000000")

    run(scenario)


def test_roles_and_plugins_decide_who_may_do_what_as_over_rest():
    """
    A viewer submits nothing, and a plugin's `authorize` is told what it is about.
    """
    asked = []

    class Door:
        @hookimpl
        def authorize(self, identity, action, resource):
            asked.append((identity.user, action.value, resource.type, resource.id, resource.episode_id))
            return "not you" if identity.user == "eve" else None

    async def scenario(engine):
        with pytest.raises(RefusedError, match="the role viewer may not create"):
            await engine.jobs.submit("kitchen.cook", role="viewer")
        episode = await engine.create("Pilot")
        job = await engine.jobs.submit("kitchen.cook", delay=60, episode=episode.id)
        with pytest.raises(RefusedError, match="not you"):
            await engine.jobs.cancel(job.id, user="eve")
        with pytest.raises(RefusedError, match="not you"):
            await engine.client("eve").subscribe("jobs")
        with pytest.raises(RefusedError, match="not you"):
            await engine.client("eve").be_present(episode.id)
        alice = "alice@example.com"
        assert asked == [
            (alice, "create", "episode", None, None),
            (alice, "create", "job", None, episode.id),
            ("eve", "update", "job", job.id, episode.id),
            ("eve", "view", "job", None, None),
            ("eve", "view", "episode", episode.id, episode.id),
        ]

    simulate(scenario, plugins={"kitchen": Kitchen(), "door": Door()})


def test_a_wish_to_retry_is_granted_when_it_says_and_else_after_the_backoff():
    """
    Minutes of waiting take no time.
    """

    async def scenario(engine, kitchen):
        exact = await engine.jobs.submit("kitchen.cook", {"steps": ["again", "serve"], "after": 120})
        done = await engine.jobs.wait_ended(exact.id)
        assert (done.state, done.attempt) == ("completed", 2)
        assert (done.started_at - done.created_at).total_seconds() == pytest.approx(120, abs=1)
        spread = await engine.jobs.submit("kitchen.cook", {"steps": ["drop"]})
        failed = await engine.jobs.wait_ended(spread.id)
        assert (failed.state, failed.attempt, failed.error) == ("failed", 4, "RuntimeError: dropped it")
        told = await engine.jobs.history(spread.id)
        assert kinds(told) == ["job_queued", *["job_processor_started", "job_retry"] * 3,
                               "job_processor_started", "job_failed"]  # fmt: skip
        retries = [event for event in told if event.type == "job_retry"]
        assert [event.data["retryCount"] for event in retries] == [1, 2, 3]
        starts = [event.at for event in told if event.type == "job_processor_started"]
        for number, retry in enumerate(retries):
            waited = (starts[number + 1] - retry.at).total_seconds()
            assert 0 <= waited <= 60 * 2**number + 1

    run(scenario, Kitchen(max_attempts=4, backoff_first=60, backoff_cap=600))


def test_what_is_discarded_has_failed_and_may_begin_anew_by_hand():
    """
    With all its attempts, in the name of who did it.
    """

    async def scenario(engine, kitchen):
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["away"]})
        failed = await engine.jobs.wait_ended(job.id)
        assert (failed.state, failed.attempt, failed.error) == ("failed", 1, "nobody is hungry")
        again = await engine.jobs.retry(job.id, user="bob@example.com")
        assert (again.state, again.attempt) == ("queued", 0)
        failed = await engine.jobs.wait_ended(job.id)
        assert (failed.state, failed.attempt) == ("failed", 1)
        told = await engine.jobs.history(job.id)
        assert [event.user for event in told if event.type == "job_queued"] == [
            "alice@example.com", "bob@example.com",
        ]  # fmt: skip

    run(scenario)


def test_an_attempt_that_takes_too_long_is_stopped_and_made_again():
    """
    By the clock of the simulation.
    """

    async def scenario(engine, kitchen):
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["sleep", "serve"]}, timeout=600)
        waits = await engine.jobs.wait(job.id, lambda job: job.state == "retry")
        assert waits.error == "it overran its timeout of 600 s"
        assert (waits.updated_at - waits.started_at).total_seconds() == pytest.approx(600, abs=1)
        assert (await engine.jobs.wait_ended(job.id)).state == "completed"

    run(scenario)


def test_of_a_unique_job_there_is_one_until_it_has_ended():
    """
    What is submitted meanwhile is that one.
    """

    async def scenario(engine, kitchen):
        first = await engine.jobs.submit("kitchen.cook", {"steps": ["sleep"], "seconds": 60}, unique_key="k")
        assert (await engine.jobs.submit("kitchen.cook", unique_key="k")).id == first.id
        other = await engine.jobs.submit("kitchen.cook", unique_key="other")
        assert other.id != first.id
        await engine.jobs.wait_ended(first.id)
        assert (await engine.jobs.submit("kitchen.cook", unique_key="k")).id != first.id

    run(scenario)


def test_a_job_may_be_put_off_and_cancelled_before_and_while_it_runs():
    """
    A handler is cancelled where it waits.
    """

    async def scenario(engine, kitchen):
        later = await engine.jobs.submit("kitchen.cook", delay=6 * 3600)
        never = await engine.jobs.submit("kitchen.cook", delay=3600)
        assert (await engine.jobs.cancel(never.id)).state == "cancelled"
        running = await engine.jobs.submit("kitchen.cook", {"steps": ["sleep"]})
        await engine.jobs.wait(running.id, lambda job: job.state == "running")
        await engine.jobs.cancel(running.id, user="bob@example.com")
        assert (await engine.jobs.wait_ended(running.id)).state == "cancelled"
        assert (await engine.jobs.history(running.id))[-1].user == "bob@example.com"
        done = await engine.jobs.wait_ended(later.id)
        assert (done.started_at - done.created_at).total_seconds() == pytest.approx(6 * 3600, abs=1)
        assert {job for job, _ in kitchen.begun} == {later.id, running.id}

    run(scenario)


def test_what_a_handler_writes_commits_with_the_completion_or_not_at_all():
    """
    Its statements are recorded, its episodes are there; of a transaction that was open too long nothing is.
    """

    async def scenario(engine, kitchen):
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["write"]})
        assert (await engine.jobs.wait_ended(job.id)).result == "written"
        [written] = engine.script.committed
        assert (written.plugin, written.params) == ("kitchen", [job.id])
        [dinner] = engine.store.tables.episodes.values()
        assert (dinner.title, dinner.created_by) == ("Dinner", "alice@example.com")
        slow = await engine.jobs.submit("kitchen.cook", {"steps": ["write"], "seconds": 60}, max_attempts=1)
        failed = await engine.jobs.wait_ended(slow.id)
        assert "kept its transaction open for more than 10 s" in failed.error
        assert len(engine.script.committed) == len(engine.store.tables.episodes) == 1

    run(scenario)


def test_who_dies_in_the_middle_loses_the_attempt_and_nothing_else():
    """
    The lease ends, the job is rescued and made again; what was written is undone.
    """

    async def scenario(engine, kitchen):
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["write", "serve"], "seconds": 5})
        await engine.jobs.wait(job.id, lambda job: job.state == "running")
        await engine.advance(1)
        assert await engine.jobs.crash(job.id)
        rescued = await engine.jobs.wait(job.id, lambda job: job.state == "retry")
        assert "was lost while it ran the job" in rescued.error
        assert 10 < (rescued.updated_at - rescued.started_at).total_seconds() < 25
        done = await engine.jobs.wait_ended(job.id)
        assert (done.state, done.attempt, engine.script.committed) == ("completed", 2, [])
        assert not await engine.jobs.crash(job.id)

    run(scenario)


def test_who_is_stopped_before_the_handler_has_begun_does_not_keep_the_job():
    """
    Its lease is renewed no longer, so that somebody else takes it.
    """

    async def scenario(engine, kitchen):
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["sleep", "serve"]})
        await engine.wait_committed()
        assert await engine.jobs.crash(job.id)
        assert kitchen.begun == []
        assert list(engine.node.workshop.dispatcher.runs) == []
        done = await engine.jobs.wait_ended(job.id)
        assert (done.state, done.attempt, kitchen.begun) == ("completed", 2, [(job.id, 2)])

    run(scenario)


def test_a_node_that_stops_gives_back_what_it_cannot_finish():
    """
    The simulation's end is a node's: within its grace, by the virtual clock.
    """
    found = {}

    async def scenario(engine, kitchen):
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["sleep"]})
        await engine.jobs.wait(job.id, lambda job: job.state == "running")
        found.update(job=job.id, rows=engine.store.jobs.rows)

    ran = run(scenario)
    given_back = found["rows"].all[found["job"]]
    assert (given_back.state, given_back.attempt) == ("queued", 0)
    assert ran.seconds < 10_000


def test_a_plain_function_is_run_where_it_is_called_and_tells_its_progress():
    """
    There are no threads in a simulation.
    """

    def count(context):
        context.progress_from_thread(0.5, "half")
        return len(context.job.payload["text"])

    class Counter:
        @hookimpl
        def job_handlers(self):
            return [JobHandler(type="text.count", run=count)]

    async def scenario(engine):
        job = await engine.jobs.submit("text.count", {"text": "words"})
        assert (await engine.jobs.wait_ended(job.id)).result == 5
        assert "job_progress" in kinds(await engine.jobs.history(job.id))

    simulate(scenario, plugins={"counter": Counter()})


def test_an_outage_in_the_middle_is_waited_for():
    """
    What became of the job is committed when the store is back; who submits meanwhile is told.
    """

    async def scenario(engine, kitchen):
        job = await engine.jobs.submit("kitchen.cook", {"steps": ["sleep"], "seconds": 5})
        await engine.jobs.wait(job.id, lambda job: job.state == "running")
        async with engine.outage():
            with pytest.raises(EngineError, match="away"):
                await engine.jobs.submit("kitchen.cook")
            await engine.advance(8)
        done = await engine.jobs.wait_ended(job.id)
        assert (done.state, done.attempt) == ("completed", 1)

    run(scenario)
