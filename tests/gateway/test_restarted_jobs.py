"""Jobs whose run, or whose dispatcher, an operator restarts: nothing waits for the end of a lease."""

import pytest
import trio

from tests.gateway.handlers import Handlers
from tests.gateway.job_clients import ended, history, make_table, submit
from tests.gateway.node_fixture import until

OPERATOR = {"role": "operator"}
# No test takes the end of a lease for the mend.
LEASE = {"jobs.lease": "1h"}


async def do(node, what, name):
    return await node.request("POST", f"engine/actors/{what}", {"name": name}, **OPERATOR)


async def name_of_run(node):
    actors = (await node.request("GET", "engine/actors", **OPERATOR)).json["data"]
    [name] = [one["name"] for one in actors if one["kind"] == "job"]
    return name


@pytest.mark.parametrize(
    ("kind", "payload"), [("test.wait", {}), ("test.write", {"wait": True}), ("test.thread", {})]
)
async def test_a_job_whose_run_is_restarted_is_begun_anew_at_once(start_greenroom, kind, payload):
    """
    The attempt that was cut off counts for nothing, and has written nothing.
    """
    handlers = Handlers()
    node = await start_greenroom(LEASE, plugins={"test": handlers})
    make_table(node)
    job = await submit(node, kind, payload)
    await until(lambda: node.node.workshop.dispatcher.runs)
    first = await name_of_run(node)
    answer = await do(node, "restart", first)
    assert (answer.status, answer.json["state"]) == (200, "stopping")
    handlers.gate.set()
    handlers.release.set()
    done = await ended(node, job)
    assert (done["state"], done["attempt"]) == ("completed", 1)
    begun = ["job_queued", "job_processor_started"]
    assert [name for name in history(done) if name != "job_progress"] == [*begun, *begun, "job_completed"]
    given_back = [frame for frame in done["history"] if frame["event"] == "job_queued"][1]
    assert given_back["data"]["message"] == "its run was ended by an operator"
    assert node.rows("select count(*) from written") == [(1 if kind == "test.write" else 0,)]
    counts = node.node.workshop.statistics.of(kind)
    assert (counts.released, counts.completed, counts.lost) == (1, 1, 0)


async def test_a_job_that_is_to_be_cancelled_is_not_begun_anew_by_a_restart(start_greenroom, logs):
    """
    Although the node has not heard of the wish yet.
    """
    handlers = Handlers()
    node = await start_greenroom(LEASE, plugins={"test": handlers})
    job = await submit(node, "test.wait")
    await handlers.wait_started(job)
    workshop = node.node.workshop
    workshop.desk.wished = lambda wish, author: None
    workshop.keeper.runs = {}
    assert (await node.request("POST", f"jobs/{job}/cancel")).status == 202
    await do(node, "restart", await name_of_run(node))
    done = await ended(node, job)
    assert (done["state"], handlers.runs[job]) == ("cancelled", 1)


async def test_a_running_job_cannot_be_parked(start_greenroom):
    """
    It would run again at once; the refusal says what to do instead.
    """
    handlers = Handlers()
    node = await start_greenroom(LEASE, plugins={"test": handlers})
    job = await submit(node, "test.wait")
    await handlers.wait_started(job)
    refused = await do(node, "park", await name_of_run(node))
    assert "cancel the job" in refused.problem(409)["detail"]
    handlers.gate.set()
    assert (await ended(node, job))["attempt"] == 1


async def test_a_dispatcher_that_is_restarted_or_parked_lets_run_what_it_has_started(start_greenroom):
    """
    Its next life counts what runs; parked, it claims nothing, and the end of the node gives the rest back.
    """
    handlers = Handlers()
    node = await start_greenroom({**LEASE, "node.shutdown_grace": 0.5}, plugins={"test": handlers})
    first, second = [await submit(node, "test.wait") for _ in range(2)]
    for job in (first, second):
        await handlers.wait_started(job)
    waiting = await submit(node, "test.wait")
    assert (await do(node, "restart", "dispatcher")).status == 200
    assert (await do(node, "park", "dispatcher")).json["state"] == "parked"
    (await do(node, "park", "drain")).problem(409)
    assert (await node.request("GET", f"jobs/{first}")).json["state"] == "running"
    assert handlers.cancelled == []
    handlers.gate.set()
    for job in (first, second):
        assert (await ended(node, job))["attempt"] == 1
    assert (await node.request("GET", f"jobs/{waiting}")).json["state"] == "queued"
    handlers.gate = trio.Event()
    await do(node, "resume", "dispatcher")
    await handlers.wait_started(waiting)
    await do(node, "park", "dispatcher")
    await node.stop()
    assert handlers.cancelled == [waiting]
    given_back = node.rows(f"select state, attempt from processing_queue where id = '{waiting}'")
    assert given_back == [("queued", 0)]
