"""Jobs and nodes that stop, die or are several; and submissions that are refused, or made twice."""

import trio

from tests.gateway.handlers import Handlers
from tests.gateway.job_clients import ended, submit


async def test_a_node_that_stops_lets_jobs_finish_and_gives_back_the_rest(start_greenroom):
    """
    What was given back is there to be claimed at once, and lost no attempt; what could finish has.
    """
    handlers = Handlers()
    node = await start_greenroom({"node.shutdown_grace": 0.5}, plugins={"test": handlers})
    quick = await submit(node, "test.steps", {"count": 5, "pause": 0.02})
    slow = await submit(node, "test.wait")
    later = await submit(node, "test.echo", delay=3600)
    await handlers.wait_started(quick)
    await handlers.wait_started(slow)
    await node.stop()
    rows = node.rows("select id::text, state, attempt, lease_owner from processing_queue order by seq")
    assert rows == [
        (quick, "completed", 1, None),
        (slow, "queued", 0, None),
        (later, "queued", 0, None),
    ]
    assert handlers.cancelled == [slow]


async def test_jobs_that_waited_for_room_of_their_type_begin_as_soon_as_there_is_some(start_greenroom):
    """
    Although there was room for other types all the time. They need not wait for the clock.
    """
    handlers = Handlers()
    node = await start_greenroom({"jobs.poll": "1h"}, plugins={"test": handlers})
    jobs = [await submit(node, "test.wait") for _ in range(5)]
    await handlers.wait_started(jobs[1])
    # It was asked for other types as well, meanwhile.
    await ended(node, await submit(node, "test.echo"))
    handlers.gate.set()
    for job in jobs:
        assert (await ended(node, job))["state"] == "completed"
    assert handlers.most_at_once == {"test.wait": 2}


async def test_a_job_is_run_by_one_of_two_nodes_and_cancelled_from_the_other(start_greenroom):
    """
    The wish reaches the node that runs it, which stops within a second; its clients hear of it on both.
    """
    ours, theirs = Handlers(), Handlers()
    one = await start_greenroom({"node.name": "one", "jobs.concurrency": 0}, plugins={"test": ours})
    other = await start_greenroom({"node.name": "other"}, plugins={"test": theirs})
    listener = await one.subscriber("jobs")
    job = await submit(one, "test.wait")
    await theirs.wait_started(job)
    assert (await one.request("POST", f"jobs/{job}/cancel")).status == 202
    assert (await ended(other, job))["state"] == "cancelled"
    assert (theirs.cancelled, ours.runs) == ([job], {})
    names = [(await listener.receive())["event"] for _ in range(3)]
    assert names == ["job_queued", "job_processor_started", "job_cancelled"]


async def test_what_a_lost_node_ran_is_run_by_another(start_greenroom):
    """
    Once its lease has ended; that attempt counts as failed.
    """
    node = await start_greenroom({"jobs.lease": "1s"}, plugins={"test": Handlers()})
    assert (await node.request("POST", "engine/jobs/types/test.wish/pause", role="operator")).status == 200
    job = await submit(node, "test.wish", {"after": 0})
    # As a node that claimed it and died.
    node.rows(
        "update processing_queue set state = 'running', attempt = 1, fence = 7, lease_owner = 'gone/1',"
        " lease_until = now() returning 1"
    )
    await node.request("POST", "engine/jobs/types/test.wish/resume", role="operator")
    done = await ended(node, job)
    assert (done["state"], done["attempt"]) == ("completed", 2)
    retry = next(frame for frame in done["history"] if frame["event"] == "job_retry")
    assert retry["data"]["error"] == "gone/1 was lost while it ran the job"


async def test_a_submission_is_refused_with_every_mistake(start_greenroom):
    """
    By field; the handler's own check counts, too, and a viewer may not submit at all.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    wrong = {"type": "Echo!", "priority": 10, "delay": -1, "timeout": 0, "payload": [], "colour": "red"}
    refused = await node.request("POST", "jobs", wrong)
    assert refused.fields() == sorted(wrong)
    assert (await node.request("POST", "jobs", {"type": "test.nobody"})).fields() == ["type"]
    answer = await node.request("POST", "jobs", {"type": "test.echo", "payload": {"answer": "wrong"}})
    assert answer.fields() == ["payload.answer"]
    (await node.request("POST", "jobs", {"type": "test.echo"}, role="viewer")).problem(403)
    nobodys = "00000000-0000-4000-8000-000000000000"
    (await node.request("POST", "jobs", {"type": "test.echo", "episode_id": nobodys})).problem(404)
    (await node.request("GET", f"jobs/{nobodys}")).problem(404)
    (await node.request("GET", "jobs?state=lost")).problem(422)
    (await node.request("DELETE", "jobs?older_than=0")).problem(403)
    (await node.request("DELETE", "jobs", role="operator")).problem(422)


async def test_a_key_makes_one_job_of_many_submissions(start_greenroom):
    """
    An Idempotency-Key for ever, a unique key until that job has ended.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    given = {"type": "test.elsewhere"}
    first, again = [
        await node.request("POST", "jobs", given, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert first.json["id"] == again.json["id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = await node.request("POST", "jobs", {**given, "priority": 1}, headers={"Idempotency-Key": "k"})
    other.problem(422)
    one = await node.request("POST", "jobs", {"type": "test.elsewhere", "unique_key": "u"})
    two = await node.request("POST", "jobs", {"type": "test.elsewhere", "unique_key": "u"})
    assert (one.status, two.status, one.json["id"]) == (202, 200, two.json["id"])
    await node.request("POST", f"jobs/{one.json['id']}/cancel")
    three = await node.request("POST", "jobs", {"type": "test.elsewhere", "unique_key": "u"})
    assert three.status == 202
    (await node.request("POST", f"jobs/{one.json['id']}/retry")).problem(409)


async def test_an_idempotency_key_is_answered_alike_whatever_became_of_the_unique_key(start_greenroom):
    """
    200 with the job that was there stays that, after its end too; 202 stays 202 while the job is in the way.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    given = {"type": "test.elsewhere", "unique_key": "u"}

    async def ask(key, **more):
        return await node.request("POST", "jobs", {**given, **more}, headers={"Idempotency-Key": key})

    one = await ask("first")
    again = await ask("first")
    assert (one.status, again.status, again.json["id"]) == (202, 202, one.json["id"])
    assert again.headers["idempotency-replayed"] == "true"
    (await ask("first", priority=1)).problem(422)

    two = await ask("second")
    assert (two.status, two.json["id"]) == (200, one.json["id"])
    assert "idempotency-replayed" not in two.headers
    await node.request("POST", f"jobs/{one.json['id']}/cancel")
    again = await ask("second")
    assert (again.status, again.json["id"], again.json["state"]) == (200, one.json["id"], "cancelled")
    assert again.headers["idempotency-replayed"] == "true"
    (await ask("second", priority=1)).problem(422)
    assert (await ask("third")).status == 202
    assert node.rows("select count(*) from processing_queue") == [(2,)]


async def test_submissions_of_one_key_at_a_time_are_answered_with_one_job(start_greenroom):
    """
    Whether the unique key or the idempotency key was faster.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    answers = []

    async def ask():
        given = {"type": "test.elsewhere", "unique_key": "u"}
        answers.append(await node.request("POST", "jobs", given, headers={"Idempotency-Key": "k"}))

    async with trio.open_nursery() as crowd:
        for _ in range(20):
            crowd.start_soon(ask)
    assert {answer.json["id"] for answer in answers} == {answers[0].json["id"]}
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count(None) == 1
    assert node.rows("select count(*) from processing_queue") == [(1,)]
