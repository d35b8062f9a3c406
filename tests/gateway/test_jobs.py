"""Jobs from outside: submitted over REST, run by a plugin, seen by clients."""

from typing import Any

import attrs
import psycopg
import trio

from tests.gateway.handlers import Handlers
from tests.gateway.job_clients import ended, history, make_table, submit
from tests.gateway.node_fixture import until, until_answer
from tests.patience import patience


@attrs.define(eq=False)
class Latecomer:
    """
    Commits jobs' transitions as `jobs` does, but the first after the second; `told` is the progress of each.
    """

    jobs: Any
    told: list[list[float]] = attrs.field(factory=list)
    held: trio.Event = attrs.field(factory=trio.Event)
    second: trio.Event = attrs.field(factory=trio.Event)
    first: trio.Event = attrs.field(factory=trio.Event)

    async def apply(self, changes, *, hurried):
        is_first = not self.held.is_set()
        if is_first:
            self.held.set()
            await self.second.wait()
        events = await self.jobs.apply(changes, hurried=hurried)
        self.told.append([event.data["job"]["progress"] for event in events])
        if is_first:
            self.first.set()
        else:
            self.second.set()
            await self.first.wait()
        return events

    def __getattr__(self, name):
        return getattr(self.jobs, name)


@attrs.define(eq=False)
class Locking:
    """
    Commits jobs' transitions as `jobs` does, the first while somebody has the episode locked; `told` counts.
    """

    jobs: Any
    conninfo: str
    episode: str
    told: list[int] = attrs.field(factory=list)

    async def apply(self, changes, *, hurried):
        with psycopg.connect(self.conninfo) as other:
            if not self.told:
                other.execute("select from episodes where id = %s for update", [self.episode])
            events = await self.jobs.apply(changes, hurried=hurried)
        self.told.append(len(events))
        return events

    def __getattr__(self, name):
        return getattr(self.jobs, name)


async def test_a_job_runs_and_its_frames_arrive(start_greenroom):
    """
    In the topic jobs and in the catalog, in order; the answer has its result and its history.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    listener, catalog = await node.subscriber("jobs"), await node.connect()
    job = await submit(node, "test.echo", {"answer": 42})
    done = await ended(node, job)
    assert (done["state"], done["result"], done["attempt"], done["progress"]) == ("completed", 42, 1, 1.0)
    names = ["job_queued", "job_processor_started", "job_completed"]
    assert history(done) == names
    for client in (listener, catalog):
        frames = [await client.receive() for _ in names]
        assert [frame["event"] for frame in frames] == names
        assert [frame["offset"] for frame in frames] == [1, 2, 3]
        assert {frame["topic"] for frame in frames} == {"jobs"}
    assert frames[2]["data"] == {
        "job": {
            "id": job,
            "type": "test.echo",
            "state": "completed",
            "attempt": 1,
            "max_attempts": 5,
            "progress": 1,
            "episode_id": None,
        },
        "result": 42,
        "submittedBy": "alice@example.com",
        "timestamp": frames[2]["data"]["timestamp"],
    }
    await node.effects()
    activity = (await node.request("GET", "activity")).json["data"]
    assert [(one["action"], one["resourceType"], one["resourceId"]) for one in activity] == [
        ("COMPLETE", "job", job)
    ]
    notifications = (await node.request("GET", "notifications")).json["data"]
    assert [one["message"] for one in notifications] == ["Job 'test.echo' completed successfully"]


async def test_jobs_of_an_episode_are_heard_by_who_watches_it(start_greenroom):
    """
    In the episode's own log, beside its changes; a returning client gets what it missed.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    episode = (await node.create())["id"]
    watcher = await node.subscriber(f"episode:{episode}")
    job = await submit(node, "test.echo", episode_id=episode)
    await ended(node, job)
    frames = [await watcher.receive() for _ in range(3)]
    assert [frame["offset"] for frame in frames] == [2, 3, 4]
    late = await node.connect("carol@example.com")
    since = {"offset": 2, "epoch": frames[0]["epoch"]}
    await late.ask(type="subscribe", topic=f"episode:{episode}", since=since)
    _, *missed = await late.pending()
    assert [frame["event"] for frame in missed] == ["job_processor_started", "job_completed"]
    listed = (await node.request("GET", f"episodes/{episode}/jobs")).json["data"]
    assert [one["id"] for one in listed] == [job]


async def test_a_handler_that_raises_retries_and_then_has_failed(start_greenroom):
    """
    With frames, activity and the error's text for each attempt.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    node.may_log_tracebacks = True
    listener = await node.subscriber("jobs")
    done = await ended(node, await submit(node, "test.fail"))
    assert (done["state"], done["attempt"]) == ("failed", 3)
    assert done["error"] == "RuntimeError: attempt 3 came to nothing"
    attempts = ["job_processor_started", "job_retry"]
    names = ["job_queued", *attempts, *attempts, "job_processor_started", "job_failed"]
    assert history(done) == names
    frames = [await listener.receive() for _ in names]
    retry = frames[2]["data"]
    assert (retry["error"], retry["retryCount"]) == ("RuntimeError: attempt 1 came to nothing", 1)
    assert retry["nextRunAt"] >= retry["timestamp"]
    await node.effects()
    activity = (await node.request("GET", "activity")).json["data"]
    assert [(one["action"], one["metadata"]["error"]) for one in activity] == [
        (action, f"RuntimeError: attempt {number} came to nothing")
        for action, number in (("FAILED", 3), ("RETRY", 2), ("RETRY", 1))
    ]
    assert activity[1]["metadata"]["retryCount"] == 2
    audit = (await node.request("GET", "audit", role="operator")).json["data"]
    assert [(one["action"], one["resourceType"]) for one in audit] == [("FAILED", "job")]
    notifications = (await node.request("GET", "notifications")).json["data"]
    assert [one["type"] for one in notifications] == ["job_failed"]


async def test_one_that_overruns_its_timeout_is_cancelled_and_tried_again(start_greenroom):
    """
    And has failed after its last attempt, saying so.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})
    job = await submit(node, "test.hurry", max_attempts=2)
    done = await ended(node, job)
    assert (done["state"], done["error"]) == ("failed", "it overran its timeout of 0.1 s")
    assert handlers.cancelled == [job, job]


async def test_a_running_job_that_is_cancelled_stops_at_once(start_greenroom):
    """
    Its handler is cancelled where it waits, and the job says so, by whom.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})
    listener = await node.subscriber("jobs")
    job = await submit(node, "test.wait")
    await handlers.wait_started(job)
    answer = await node.request("POST", f"jobs/{job}/cancel", user="bob@example.com")
    assert answer.status == 202
    assert answer.json["cancel_requested"]
    done = await ended(node, job)
    assert (done["state"], handlers.cancelled) == ("cancelled", [job])
    frames = [await listener.receive() for _ in range(3)]
    assert frames[2]["event"] == "job_cancelled"
    assert frames[2]["data"]["cancelledBy"] == "bob@example.com"
    assert (await node.request("POST", f"jobs/{job}/cancel")).status == 200
    again = await node.request("POST", f"jobs/{job}/retry")
    assert (again.status, again.json["state"]) == (202, "queued")
    handlers.gate.set()
    assert (await ended(node, job))["result"] == "waited"
    (await node.request("POST", f"jobs/{job}/cancel")).problem(409)
    (await node.request("POST", f"jobs/{job}/retry")).problem(409)


async def test_progress_is_conflated_and_the_last_is_told(start_greenroom):
    """
    A thousand steps are a few frames, growing, and the last of them before the end.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    listener = await node.subscriber("jobs")
    job = await submit(node, "test.steps", {"count": 1000})
    await ended(node, job)
    frames = [await listener.receive() for _ in range(2)]
    progress = []
    while (frame := await listener.receive())["event"] == "job_progress":
        progress.append((frame["data"]["job"]["progress"], frame["data"]["message"]))
    assert frame["event"] == "job_completed"
    assert progress == sorted(progress)
    assert progress[-1] == (1, "step 1000")
    assert len(progress) < 100
    assert [frame["event"] for frame in frames] == ["job_queued", "job_processor_started"]


async def test_progress_that_is_committed_late_is_not_told(start_greenroom):
    """
    What the keeper tells may come to the database after the last word of the run.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})
    late = Latecomer(node.node.workshop.keeper.jobs)
    node.node.workshop.keeper.jobs = late
    job = await submit(node, "test.two_steps")
    with patience():
        await late.held.wait()
    handlers.gate.set()
    done = await ended(node, job)
    assert late.told == [[0.9], []]
    assert done["state"] == "completed"
    assert [frame["data"]["job"]["progress"] for frame in done["history"]] == [None, None, 0.9, 1.0]


async def test_progress_that_somebody_was_in_the_way_of_is_told_all_the_same(start_greenroom):
    """
    It waits for nobody's lock, and may be the handler's last word for long.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})
    episode = (await node.create())["id"]
    locking = Locking(node.node.workshop.keeper.jobs, node.conninfo, episode)
    node.node.workshop.keeper.jobs = locking
    job = await submit(node, "test.two_steps", episode_id=episode)
    await until_answer(
        lambda: node.request("GET", f"jobs/{job}"), lambda answer: answer.json["progress"] == 0.5
    )
    assert locking.told[:2] == [0, 1]
    handlers.gate.set()
    assert (await ended(node, job))["state"] == "completed"


async def test_a_job_that_failed_shows_how_far_it_got(start_greenroom):
    """
    The last that was told is left, in the row and in the event.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    done = await ended(node, await submit(node, "test.halfway"))
    assert (done["state"], done["progress"]) == ("failed", 0.5)
    assert done["history"][-1]["data"]["job"]["progress"] == 0.5


async def test_a_handler_says_how_it_wants_to_go_on(start_greenroom):
    """
    Retry comes back when it wants to, Discard never.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    done = await ended(node, await submit(node, "test.wish", {"after": 0.01}))
    assert (done["state"], done["result"], done["attempt"]) == ("completed", "at last", 2)
    done = await ended(node, await submit(node, "test.wish", {"discard": True}))
    assert (done["state"], done["error"], done["attempt"]) == ("failed", "no use", 1)


async def test_a_plain_function_runs_in_a_thread_and_is_stopped_at_its_next_progress(start_greenroom):
    """
    Nothing else can stop a thread; the job is cancelled at once all the same.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})
    job = await submit(node, "test.thread")
    await until_answer(
        lambda: node.request("GET", f"jobs/{job}"), lambda answer: answer.json["progress"] is not None
    )
    assert (await node.request("POST", f"jobs/{job}/cancel")).status == 202
    assert (await ended(node, job))["state"] == "cancelled"
    await until(lambda: handlers.stopped_threads == ["JobStoppedError"])
    handlers.release.set()
    done = await ended(node, await submit(node, "test.thread"))
    assert done["state"] == "completed"
    assert done["result"].startswith("thread from ")


async def test_a_handler_that_blocks_the_loop_is_interrupted(start_greenroom):
    """
    Nobody else waits for it longer than plugins.block_limit.
    """
    node = await start_greenroom({"plugins.block_limit": "200ms"}, plugins={"test": Handlers()})
    done = await ended(node, await submit(node, "test.block"))
    assert done["state"] == "failed"
    assert "kept the event loop to itself" in done["error"]


async def test_what_a_handler_writes_commits_with_its_completion(start_greenroom):
    """
    An attempt that failed has written nothing, the one that completed has, once.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    node.may_log_tracebacks = True
    make_table(node)
    job = await submit(node, "test.write", {"fails": 1})
    assert (await ended(node, job))["state"] == "completed"
    assert node.rows("select job::text, attempt from written") == [(job, 2)]


async def test_a_handler_that_was_cancelled_has_written_nothing(start_greenroom):
    """
    Its transaction is undone before anybody hears that it was cancelled.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})
    make_table(node)
    job = await submit(node, "test.write", {"wait": True})
    await handlers.wait_started(job)
    await node.request("POST", f"jobs/{job}/cancel")
    assert (await ended(node, job))["state"] == "cancelled"
    assert node.rows("select * from written") == []


async def test_a_job_whose_lease_was_lost_cannot_complete(start_greenroom):
    """
    Another node has rescued it: the handler is stopped, and what it wrote is not written.
    """
    handlers = Handlers()
    node = await start_greenroom({"jobs.lease": "60s"}, plugins={"test": handlers})
    make_table(node)
    job = await submit(node, "test.write", {"wait": True})
    await handlers.wait_started(job)
    # As a rescuer elsewhere does, and whoever claims it then.
    node.rows("update processing_queue set fence = fence + 2, lease_owner = 'there/1' returning 1")
    handlers.gate.set()
    await until(lambda: not node.node.workshop.dispatcher.runs)
    assert node.rows("select * from written") == []
    assert node.rows("select state, lease_owner from processing_queue") == [("running", "there/1")]
    assert node.node.workshop.statistics.of("test.write").lost == 1


async def test_a_type_runs_no_more_at_a_time_than_its_handler_allows(start_greenroom):
    """
    Two of test.wait, whatever waits; and of all types together what the settings allow.
    """
    handlers = Handlers()
    node = await start_greenroom({"jobs.concurrency": 3}, plugins={"test": handlers})
    make_table(node)
    jobs = [await submit(node, "test.wait") for _ in range(5)]
    jobs += [await submit(node, "test.write", {"wait": True}) for _ in range(3)]
    await until(lambda: len(node.node.workshop.dispatcher.runs) == 3)
    handlers.gate.set()
    for job in jobs:
        await ended(node, job)
    assert handlers.most_at_once["test.wait"] == 2


async def test_a_paused_type_waits_until_it_is_resumed(start_greenroom):
    """
    Submissions are taken meanwhile.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})
    path = "engine/jobs/types/test.echo"
    (await node.request("POST", f"{path}/pause")).problem(403)
    assert (await node.request("POST", f"{path}/pause", role="operator")).status == 200
    job = await submit(node, "test.echo")
    with patience():
        await ended(node, await submit(node, "test.wish", {"after": 0}))
    assert (await node.request("GET", f"jobs/{job}")).json["state"] == "queued"
    shown = (await node.request("GET", "engine/jobs", role="operator")).json
    assert shown["types"]["test.echo"]["queued"] == 1
    assert shown["types"]["test.echo"]["paused"]["by"] == "alice@example.com"
    assert shown["sources"]["postgres"]["last_successful_poll_age"] >= 0
    metrics = (await node.request("GET", "/metrics")).body.decode()
    assert 'greenroom_jobs_ended_total{outcome="completed",type="test.wish"} 1.0' in metrics
    assert "greenroom_job_poll_age_seconds" in metrics
    assert (await node.request("POST", f"{path}/resume", role="operator")).status == 200
    assert (await ended(node, job))["state"] == "completed"
    (await node.request("POST", f"{path}/resume", role="operator")).problem(409)
    (await node.request("POST", "engine/jobs/types/none/pause", role="operator")).problem(404)
    (await node.request("POST", "engine/jobs/sources/none/pause", role="operator")).problem(404)
