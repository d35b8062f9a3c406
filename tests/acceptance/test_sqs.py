"""The real program on a real queue: jobs end as over REST, and however it ends nothing is lost or stuck."""

import json
import uuid
from collections import Counter

import pytest
import trio

from tests.acceptance.outside import eventually
from tests.queue_service import CREDENTIALS


@pytest.fixture
def queue(queue_service):
    """
    A queue of the test's own.
    """
    return queue_service.queue(max_receives=20)


@pytest.fixture
def start(serve, queue, queue_service, tmp_path):
    """
    Start the program with the queue: `await start(GREENROOM_SQS_WAIT="1s")`.
    """
    (tmp_path / "data" / "imports").mkdir(parents=True)

    async def started(**more):
        named = {"GREENROOM_SQS_QUEUE_URL": queue.url, "GREENROOM_SQS_ENDPOINT": queue_service.url}
        return await serve(**{**named, **CREDENTIALS, **more})

    return started


def submission(path, id_=None):
    """
    A message that wants a file to be imported.
    """
    return json.dumps(
        {
            "v": 1,
            "id": id_ or str(uuid.uuid4()),
            "type": "job.submit",
            "source": "alice@example.com",
            "time": "2026-01-07T12:00:00Z",
            "data": {"type": "episode.import", "payload": {"path": path}},
        }
    )


def write_file(program, name, count):
    """
    A file with so many episodes, to be imported.
    """
    lines = ["title,episode_number", *(f"{name} {number},{number}" for number in range(count))]
    (program.data_dir / "imports" / name).write_text("\n".join(lines), "utf-8")


async def ended(program, right):
    """
    The one job that is right, whole, once it has ended.
    """

    found = []

    async def has_ended():
        jobs = await _jobs(program)
        found[:] = [job for job in jobs if right(job) and job["state"] in ("completed", "failed")]
        return found

    await eventually(has_ended)
    return (await program.ask("GET", f"/api/v1/jobs/{found[0]['id']}")).json


async def test_an_import_by_message_ends_as_one_over_rest(start, listen, greenroom, queue, queue_service):
    """
    A thousand episodes each, with the same frames, the same result and the same traces.
    """
    program = await start()
    listener = await listen(program)
    for name in ("rest.csv", "sqs.csv"):
        write_file(program, name, 1000)
    answer = await program.ask(
        "POST", "/api/v1/jobs", {"type": "episode.import", "payload": {"path": "rest.csv"}}
    )
    assert answer.status == 202, answer.body
    over_rest = await ended(program, lambda job: job["source"] == "rest")
    data = json.dumps({"type": "episode.import", "payload": {"path": "sqs.csv"}})
    where = ("--queue-url", queue.url, "--endpoint", queue_service.url)
    sent = await trio.to_thread.run_sync(
        lambda: greenroom(
            "jobs",
            "send",
            "job.submit",
            "--data",
            data,
            "--source",
            "alice@example.com",
            *where,
            **CREDENTIALS,
        )
    )
    assert sent.returncode == 0, sent.stderr
    over_sqs = await ended(program, lambda job: job["source"] == "sqs")

    own = {"id", "created_at", "updated_at", "started_at", "finished_at", "next_run_at", "history"}
    told = ["rest.csv", "sqs.csv"]
    seen = [
        json.dumps({name: value for name, value in job.items() if name not in {*own, "source", "unique_key"}})
        for job in (over_rest, over_sqs)
    ]
    assert seen[0].replace(told[0], "FILE") == seen[1].replace(told[1], "FILE")
    kinds = [[frame["event"] for frame in job["history"]] for job in (over_rest, over_sqs)]
    assert [[kind for kind in each if kind != "job_progress"] for each in kinds] == [
        ["job_queued", "job_processor_started", "job_completed"]
    ] * 2
    assert all("job_progress" in each for each in kinds)
    titles = Counter(episode["title"].split()[0] for episode in await program.everything("/episodes"))
    assert titles == {"rest.csv": 1000, "sqs.csv": 1000}
    done = [message for message in listener.messages if message.get("event") == "job_completed"]
    assert len(done) == 2
    assert await trio.to_thread.run_sync(queue.counts) == (0, 0)
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in program.errors.read_text()


async def test_sigterm_during_a_long_poll_ends_in_time_and_leaves_no_message_stuck(start, queue):
    """
    The poll may still take a message: it is seen again at once, not half a minute later.
    """
    program = await start(GREENROOM_SQS_WAIT="20s", GREENROOM_NODE_SHUTDOWN_GRACE="25s")
    await trio.to_thread.run_sync(queue.send, submission("first.csv"))
    await eventually(lambda: _polled(program))
    await eventually(lambda: _is_empty(queue))
    program.process.terminate()
    await trio.to_thread.run_sync(queue.send, *[submission(f"{number}.csv") for number in range(3)])
    assert await program.wait_ended() == 0
    assert await trio.to_thread.run_sync(queue.counts) == (3, 0)
    assert "child did not stop within its grace" not in program.errors.read_text()


async def _polled(program):
    answer = await program.ask("GET", "/api/v1/engine/jobs")
    # The next poll is under way for most of its twenty seconds.
    return answer.json["sources"]["sqs"]["last_successful_poll_age"] is not None


@pytest.mark.slow
async def test_kill_9_at_any_point_makes_each_message_one_job(start, queue):
    """
    Committed but not deleted, or received and not committed: it comes again, and is the same job.
    """
    names = [f"missing-{number}.csv" for number in range(60)]
    for life in range(4):
        program = await start(GREENROOM_SQS_VISIBILITY_TIMEOUT="2s", GREENROOM_SQS_IN_FLIGHT="3")
        bodies = [submission(name, name) for name in names[life::4]]
        await trio.to_thread.run_sync(queue.send, *bodies, *bodies[:5])
        # At no particular moment: somewhere within this life's messages.
        await eventually(lambda program=program, life=life: _has_jobs(program, 15 * life + 4))
        await program.kill()
    program = await start(GREENROOM_SQS_VISIBILITY_TIMEOUT="2s")
    await eventually(lambda: _is_empty(queue))
    jobs = await _jobs(program)
    assert sorted(job["payload"]["path"] for job in jobs) == sorted(names)
    for job in jobs:
        done = await ended(program, lambda each, job=job: each["id"] == job["id"])
        events = Counter(frame["event"] for frame in done["history"])
        assert (events["job_queued"], events["job_failed"]) == (1, 1), done


async def _jobs(program):
    return (await program.ask("GET", "/api/v1/jobs?limit=200")).json["data"]


async def _has_jobs(program, count):
    return len(await _jobs(program)) >= count


async def _is_empty(queue):
    return await trio.to_thread.run_sync(queue.counts) == (0, 0)
