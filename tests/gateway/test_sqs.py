"""A whole node with a queue of SQS: its messages are jobs, its external workers are seen like any other."""

import json
import uuid

import pytest
import trio

from engine.domain.envelope import (
    Completed,
    Envelope,
    Failed,
    Outcome,
    Progressed,
    Report,
    Started,
    Submit,
    encode,
)
from engine.domain.event import utc_now
from tests.gateway.handlers import Handlers
from tests.gateway.node_fixture import until, until_answer

EXTERNAL = "studio.transcode"


def submission(kind: str, payload: object = None, **data: object) -> str:
    body = Submit(data={"type": kind, "payload": payload or {}, **data})
    return encode(Envelope(id=str(uuid.uuid4()), source="bob@example.com", time=utc_now(), body=body))


def report(job: str, fence: int, seq: int, outcome: Outcome) -> str:
    body = Report(job_id=job, fence=fence, seq=seq, outcome=outcome)
    return encode(Envelope(id=str(uuid.uuid4()), source="transcoder", time=utc_now(), body=body))


@pytest.fixture
def queue(queue_service):
    """
    A queue of the test's own, which gives messages up after five deliveries.
    """
    return queue_service.queue(max_receives=5)


@pytest.fixture
async def node(start_greenroom, queue_service, queue):
    """
    A node that reads it.
    """
    options = {
        "sqs.queue_url": queue.url,
        "sqs.endpoint": queue_service.url,
        "sqs.wait": "1s",
        "sqs.visibility_timeout": "2s",
        "jobs.external_types": [EXTERNAL],
    }
    return await start_greenroom(options, plugins={"test": Handlers()})


async def send(queue, *bodies):
    await trio.to_thread.run_sync(lambda: queue.send(*bodies))


async def the_job(node, right):
    """
    The newest job, once it is right.
    """
    answer = await until_answer(
        lambda: node.request("GET", "jobs"),
        lambda answer: answer.json["data"] and right(answer.json["data"][0]),
    )
    return (await node.request("GET", f"jobs/{answer.json['data'][0]['id']}")).json


async def source(node):
    return (await node.request("GET", "engine/jobs", role="operator")).json["sources"]["sqs"]


async def until_source(node, name):
    """
    The source's statistics, once this one is more than nothing.
    """
    answer = await until_answer(
        lambda: node.request("GET", "engine/jobs", role="operator"),
        lambda answer: answer.json["sources"]["sqs"][name],
    )
    return answer.json["sources"]["sqs"]


async def test_a_message_is_a_job_like_any_other(node, queue):
    """
    The same frames, the same result; the sender is its submitter, and gets the notification.
    """
    listener = await node.subscriber("jobs")
    await send(queue, submission("test.echo", {"answer": 42}))
    frames = [await listener.receive() for _ in range(3)]
    assert [frame["event"] for frame in frames] == ["job_queued", "job_processor_started", "job_completed"]
    assert frames[2]["data"]["result"] == 42
    job = await the_job(node, lambda job: job["state"] == "completed")
    assert (job["source"], job["submitted_by"]) == ("sqs", "bob@example.com")
    await node.effects()
    notifications = await node.request("GET", "notifications", user="bob@example.com")
    assert [one["message"] for one in notifications.json["data"]] == [
        "Job 'test.echo' completed successfully"
    ]
    assert await trio.to_thread.run_sync(queue.counts) == (0, 0)


async def test_an_external_worker_s_run_is_seen_like_one_of_the_node_s_own(node, queue):
    """
    From its reports: frames in order, the result, a retry and a second attempt.
    """
    submitted = await node.request("POST", "jobs", {"type": EXTERNAL, "payload": {"file": "pilot.mov"}})
    job = submitted.json["id"]
    listener = await node.subscriber("jobs")
    await send(
        queue,
        report(job, 1, 0, Started(worker="ecs-1")),
        report(job, 1, 1, Progressed(fraction=0.5, message="half")),
    )
    await the_job(node, lambda job: job["progress"] == 0.5)
    await send(queue, report(job, 1, 2, Failed(error="out of memory", retry_after=0)))
    await the_job(node, lambda job: job["state"] == "retry")
    await send(
        queue,
        report(job, 1, 3, Completed(result="too late")),
        report(job, 2, 0, Started(worker="ecs-2")),
        report(job, 2, 1, Completed(result={"frames": 24})),
    )
    done = await the_job(node, lambda job: job["state"] == "completed")
    assert (done["result"], done["attempt"], done["id"]) == ({"frames": 24}, 2, job)
    events = [
        "job_processor_started",
        "job_progress",
        "job_retry",
        "job_processor_started",
        "job_completed",
    ]
    assert [(await listener.receive())["event"] for _ in events] == events


async def test_a_worker_that_falls_silent_loses_its_job(start_greenroom, queue_service, queue):
    """
    Its lease ends; the job is tried again, and what the worker says later counts no more.
    """
    node = await start_greenroom(
        {
            "sqs.queue_url": queue.url,
            "sqs.endpoint": queue_service.url,
            "sqs.wait": "1s",
            "sqs.lease": "1s",
            "jobs.lease": "1s",
            "jobs.external_types": [EXTERNAL],
        }
    )
    job = (await node.request("POST", "jobs", {"type": EXTERNAL, "max_attempts": 1})).json["id"]
    await send(queue, report(job, 1, 0, Started(worker="ecs-1")))
    failed = await the_job(node, lambda job: job["state"] == "failed")
    assert failed["error"] == "external:ecs-1 was lost while it ran the job"
    await send(queue, report(job, 1, 1, Completed()))
    await until_source(node, "unchanged")
    assert (await the_job(node, lambda job: True))["state"] == "failed"


async def test_a_source_that_is_paused_is_not_asked(node, queue):
    """
    Until it is resumed; operators see which it is.
    """
    assert (await node.request("POST", "engine/jobs/sources/sqs/pause", role="operator")).status == 200
    # A poll that was under way when it was paused may still bring something.
    await until(lambda: node.node.workshop.poller.statistics().paused)
    await send(queue, submission("test.echo"))
    assert (await source(node))["paused"]["by"] == "alice@example.com"
    assert (await node.request("GET", "jobs")).json["data"] == []
    assert (await node.request("POST", "engine/jobs/sources/sqs/resume", role="operator")).status == 200
    await the_job(node, lambda job: job["state"] == "completed")
    assert (await source(node))["paused"] is None


async def test_statistics_tell_what_came_and_what_became_of_it(node, queue, logs):
    """
    Garbage is counted, logged with every mistake, and ends among the dead letters.
    """
    await send(queue, submission("test.echo"), json.dumps({"v": 1, "type": "job.submit"}))
    seen = await until_source(node, "dead_lettered")
    assert (seen["applied"], seen["dead_lettered"], seen["refused"], seen["held"]) == (1, 1, 5, 0)
    assert seen["last_successful_poll_age"] < 60
    assert any("id is required; source is required; time is required" in str(entry) for entry in logs.entries)
