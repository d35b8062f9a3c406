"""A whole node while SQS does all that it may do, one after the other: each job has its effect once."""

import json
from collections import deque
from random import Random

import psycopg
import trio

from engine.domain.envelope import Completed, Envelope, Progressed, Report, Started, Submit, encode
from engine.domain.event import utc_now
from tests.gateway.handlers import Handlers
from tests.gateway.node_fixture import until
from tests.patience import patience
from tests.sqs_proxy import between

EXTERNAL = "studio.transcode"
BROKEN = (500, b'{"__type": "InternalError"}')
JOBS = 60
LONG = 60


def submission(number):
    """
    The message that wants the job of this number, which writes a row in its transaction.
    """
    body = Submit(data={"type": "test.write", "payload": {"number": number}})
    return encode(Envelope(id=f"job-{number}", source="tests", time=utc_now(), body=body))


def run_elsewhere(job):
    """
    What an external worker tells of one run, first to last.
    """
    told = [Started(), *(Progressed(fraction=number / 10) for number in range(1, 5)), Completed(result=42)]
    return [
        encode(
            Envelope(
                id=f"{job}-{seq}",
                source="transcoder",
                time=utc_now(),
                body=Report(job_id=job, fence=1, seq=seq, outcome=outcome),
            )
        )
        for seq, outcome in enumerate(told)
    ]


async def test_whatever_sqs_does_each_job_has_its_effect_once(start_greenroom, queue_service):
    """
    500s, no answers, ten seconds away, deletions that get lost, everything twice and out of order, garbage.
    """
    queue = queue_service.queue(max_receives=50)
    async with between(queue_service.port) as proxy:
        node = await start_greenroom(
            {
                "sqs.queue_url": queue.url,
                "sqs.endpoint": proxy.url,
                "sqs.wait": "1s",
                "sqs.request_timeout": "1s",
                "sqs.visibility_timeout": "2s",
                "supervision.poller.backoff_first": "50ms",
                "supervision.poller.backoff_cap": "500ms",
                "jobs.external_types": [EXTERNAL],
            },
            plugins={"test": Handlers()},
        )
        statistics = node.node.workshop.poller.statistics
        with psycopg.connect(node.conninfo) as connection:
            connection.execute("create table written (job uuid, attempt int)")
        elsewhere = (await node.request("POST", "jobs", {"type": EXTERNAL})).json["id"]
        messages = [*map(submission, range(JOBS)), *run_elsewhere(elsewhere)]
        messages += [*messages, "garbage", json.dumps({"v": 9})]
        Random(7).shuffle(messages)
        parts = [messages[start::6] for start in range(6)]

        async def send(part):
            await trio.to_thread.run_sync(lambda: queue.send(*part))

        lost = (200, json.dumps({"Successful": [{"Id": str(number)} for number in range(10)]}).encode())
        await send(parts[0])
        proxy.once = {
            "ReceiveMessage": deque([BROKEN] * 3),
            "DeleteMessageBatch": deque([lost, BROKEN, lost, (200, b"<html>")]),
        }
        await send(parts[1])
        proxy.slow = {"ReceiveMessage": 2.5, "DeleteMessageBatch": 0.5}
        await send(parts[2])
        await trio.sleep(3)
        proxy.slow = {}
        await proxy.go_away()
        await send(parts[3])
        failures = statistics().failures
        await until(lambda: statistics().failures >= failures + 10)
        proxy.away = False
        proxy.rewrite["ReceiveMessage"] = lambda answer: {
            "Messages": list(reversed(answer.get("Messages", []) * 2))
        }
        await send(parts[4])
        await send(parts[5])

        async def is_done():
            jobs = (await node.request("GET", "jobs?limit=200")).json["data"]
            return len(jobs) == JOBS + 1 and all(job["state"] == "completed" for job in jobs)

        async def is_left_with_garbage_only():
            return sum(await trio.to_thread.run_sync(queue.counts)) <= 2

        with patience(LONG):
            # What was received and not deleted comes again after its visibility timeout, and not before.
            while not (await is_done() and await is_left_with_garbage_only()):  # noqa: ASYNC110
                await trio.sleep(0.2)
        with psycopg.connect(node.conninfo) as connection:
            rows = connection.execute("select count(*), count(distinct job) from written").fetchone()
        assert rows == (JOBS, JOBS)
        history = (await node.request("GET", f"jobs/{elsewhere}")).json["history"]
        events = [frame["event"] for frame in history if frame["event"] != "job_progress"]
        assert events == ["job_queued", "job_processor_started", "job_completed"]
        fractions = [frame["data"]["job"]["progress"] for frame in history]
        told = [fraction for fraction in fractions if fraction is not None]
        assert told == sorted(told)
        assert statistics().failures >= 5
        assert statistics().unchanged >= JOBS
