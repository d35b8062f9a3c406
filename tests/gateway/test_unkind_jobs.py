"""Handlers that answer, raise and end as none should: each harms its own job only, and that job ends."""

import threading
from typing import Any

import attrs
import psycopg
import pytest
import trio

from engine.domain.fields import FieldError
from engine.hookspecs import JobContext, JobHandler, Retry, hookimpl
from tests.gateway.handlers import Handlers
from tests.gateway.job_clients import ended, history, submit
from tests.gateway.node_fixture import until
from tests.patience import patience

EXITS = {kind.__name__: kind for kind in (SystemExit, KeyboardInterrupt, GeneratorExit)}


# What the handler of `unkind.keyed` says of any payload: its unique key, and what is wrong.
said: dict[str, Any] = {}


class SilentError(Exception):
    """
    One that cannot even be told.
    """

    def __str__(self) -> str:
        raise ValueError("no text")


@attrs.define(eq=False)
class Unkind:
    """
    A plugin whose handlers do what the payload says; `begun` is set by each, `gate` lets those end that wait.
    """

    begun: trio.Event = attrs.field(factory=trio.Event)
    gate: trio.Event = attrs.field(factory=trio.Event)
    # Of threads.
    release: threading.Event = attrs.field(factory=threading.Event)

    async def answer(self, context: JobContext) -> Any:
        await trio.lowlevel.checkpoint()
        answer: Any = "deep"
        for _ in range(context.job.payload["depth"]):
            answer = [answer]
        return answer

    async def complain(self, context: JobContext) -> None:
        """
        Raises the error of this name.
        """
        await trio.lowlevel.checkpoint()
        match context.job.payload["what"]:
            case "half a pair":
                raise OSError("no file of the name caf\udce9")
            case "silent":
                raise SilentError
            case "retry":
                raise Retry("later", after=context.job.payload["after"])
            case "progress":
                await context.progress(0.5, "caf\udce9")

    async def leave(self, context: JobContext) -> None:
        await trio.lowlevel.checkpoint()
        raise EXITS[context.job.payload["by"]]("3")

    def leave_in_a_thread(self, context: JobContext) -> None:
        raise EXITS[context.job.payload["by"]]("3")

    def chatter(self, context: JobContext) -> None:
        """
        Tells progress as fast as a thread can.
        """
        count = context.job.payload["count"]
        for number in range(count):
            context.progress_from_thread((number + 1) / count)

    async def leave_late(self, context: JobContext) -> None:
        """
        Leaves because it is cancelled.
        """
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            raise EXITS[context.job.payload["by"]]("3")

    async def raise_an_old_one(self, context: JobContext) -> None:
        """
        Raises a cancellation that had ended where it was meant for.
        """
        with trio.move_on_after(0):
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                kept = cancelled
                raise
        raise kept

    def never_end(self, context: JobContext) -> None:
        """
        Occupies its thread for as long as the test wants.
        """
        self.release.wait(60)

    async def fail_later(self, context: JobContext) -> None:
        """
        Fails, and not because it is cancelled.
        """
        self.begun.set()
        with trio.CancelScope(shield=True):
            await self.gate.wait()
        raise RuntimeError("on its own")

    async def finish_all_the_same(self, context: JobContext) -> str:
        """
        Lets nobody keep it from returning.
        """
        self.begun.set()
        with trio.CancelScope(shield=True):
            await self.gate.wait()
        return "done"

    @hookimpl
    def job_handlers(self) -> list[JobHandler]:
        quick = {"backoff_first": 0.01, "backoff_cap": 0.05, "max_attempts": 2}
        return [
            JobHandler(type="unkind.answer", run=self.answer, **quick),
            JobHandler(type="unkind.complain", run=self.complain, **quick),
            JobHandler(type="unkind.leave", run=self.leave, **quick),
            JobHandler(type="unkind.leave_in_a_thread", run=self.leave_in_a_thread, **quick),
            JobHandler(type="unkind.leave_late", run=self.leave_late, **quick),
            JobHandler(type="unkind.raise_an_old_one", run=self.raise_an_old_one, **quick),
            JobHandler(
                type="unkind.never_end", run=self.never_end, concurrency=1, timeout=0.2, max_attempts=1
            ),
            JobHandler(type="unkind.chatter", run=self.chatter, **quick),
            JobHandler(
                type="unkind.keyed",
                run=self.answer,
                check=lambda payload: said.pop("wrong", ()),
                unique=lambda payload: said.get("key"),
            ),
            JobHandler(type="unkind.fail_later", run=self.fail_later, **quick),
            JobHandler(type="unkind.finish", run=self.finish_all_the_same, **quick),
        ]


@pytest.mark.parametrize("depth", [100, 600, 900])
async def test_an_answer_that_nobody_could_read_fails_the_job(start_greenroom, depth):
    """
    At once, with a reason; Python's own limit of depth stops nothing but this job.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    done = await ended(node, await submit(node, "unkind.answer", {"depth": depth}))
    assert (done["state"], done["attempt"]) == ("failed", 1)
    assert done["error"] == "the handler's answer must not be nested deeper than 64 levels"


@pytest.mark.parametrize("depth", [65, 400, 900])
async def test_a_payload_that_nobody_could_read_is_refused(start_greenroom, depth):
    """
    With 422, not as a bug of the node.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    body = b'{"type": "test.echo", "payload": {"answer": %s%s}}' % (b"[" * depth, b"]" * depth)
    answer = await node.request("POST", "jobs", body=body)
    assert answer.status == 422
    assert answer.json["errors"] == [
        {"field": "payload", "message": "must not be nested deeper than 64 levels"}
    ]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"what": "half a pair"}, "OSError: no file of the name caf?"),
        ({"what": "silent"}, "SilentError: (its text cannot be told: ValueError)"),
        (
            {"what": "retry", "after": "soon"},
            "ValueError: after must be a number of seconds, 0 to 31536000 (a year), not 'soon'",
        ),
        (
            {"what": "retry", "after": 1e12},
            "ValueError: after must be a number of seconds, 0 to 31536000 (a year), not 1000000000000.0",
        ),
    ],
)
async def test_an_error_that_cannot_be_kept_as_it_is_hurts_nobody_else(start_greenroom, logs, payload, error):
    """
    It is kept as well as it can be; other jobs are settled as ever.
    """
    node = await start_greenroom(plugins={"unkind": Unkind(), "test": Handlers()})
    job, other = await submit(node, "unkind.complain", payload), await submit(node, "test.echo")
    done = await ended(node, job)
    assert (done["state"], done["attempt"], done["error"]) == ("failed", 2, error)
    assert (await ended(node, other))["state"] == "completed"
    assert {entry["job"] for entry in logs.tracebacks()} == {job}
    logs.entries.clear()


@pytest.mark.parametrize("key", ["a\0b", "caf\udce9", "", 7])
async def test_a_unique_key_that_cannot_be_kept_as_it_is_is_one_all_the_same(start_greenroom, key):
    """
    As well as it can be; the second submission is answered with the job of the first.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    given = {"type": "unkind.keyed", "payload": {}, "delay": 60}
    said["key"] = key
    first, second = [await node.request("POST", "jobs", given) for _ in range(2)]
    assert (first.status, second.status, second.json["id"]) == (202, 200, first.json["id"])


async def test_long_unique_keys_that_begin_alike_are_different_keys(start_greenroom):
    """
    Cut, the second would be answered with the job of the first, and never run.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    ids = []
    for end in ("a", "b", "a"):
        said["key"] = "k" * 300 + end
        answer = await node.request("POST", "jobs", {"type": "unkind.keyed", "payload": {}, "delay": 60})
        ids.append(answer.json["id"])
        assert len(answer.json["unique_key"]) == 200
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("wrong", [FieldError("a", "caf\udce9"), FieldError(7, None)])
async def test_a_mistake_that_cannot_be_told_as_it_is_refuses_all_the_same(start_greenroom, wrong):
    """
    With 422, as the plugin wants.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    said["wrong"] = [wrong]
    answer = await node.request("POST", "jobs", {"type": "unkind.keyed"})
    assert (answer.status, len(answer.fields())) == (422, 1)


async def test_progress_from_a_thread_without_end_waits_nowhere(start_greenroom):
    """
    Of a hundred thousand the latest is kept; what the event loop is told to do has a bound.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    job = await submit(node, "unkind.chatter", {"count": 100_000})
    waiting = []
    with patience(60):
        while (done := (await node.request("GET", f"jobs/{job}")).json)["state"] != "completed":
            for _ in range(20):
                waiting.append(trio.lowlevel.current_statistics().run_sync_soon_queue_size)
                await trio.lowlevel.checkpoint()
    assert max(waiting) < 100
    told = [one["data"]["job"]["progress"] for one in done["history"] if one["event"] == "job_progress"]
    assert told[-1] == 1


async def test_progress_with_half_a_surrogate_pair_is_told_without_it(start_greenroom):
    """
    PostgreSQL could not keep it.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    done = await ended(node, await submit(node, "unkind.complain", {"what": "progress"}))
    assert done["state"] == "completed"
    told = [one["data"]["message"] for one in done["history"] if one["event"] == "job_progress"]
    assert told == ["caf?"]


async def test_progress_that_is_refused_spoils_that_of_no_other_job(start_greenroom):
    """
    Although they are told in one statement. What is refused is not tried again.
    """
    handlers = Handlers()
    node = await start_greenroom(plugins={"test": handlers})

    def forbid() -> None:
        with psycopg.connect(node.conninfo) as connection:
            connection.execute("alter table processing_queue add check (message <> 'no')")

    # It waits for whatever transactions the node has open, and these for the event loop.
    await trio.to_thread.run_sync(forbid)
    told = {await submit(node, "test.wait"): message for message in ("no", "yes")}
    for job in told:
        await handlers.wait_started(job)
    workshop = node.node.workshop
    changes = [workshop.dispatcher.runs[job].progress_change((0.5, told[job])) for job in told]
    assert set(await workshop.keeper.tell_progress(changes)) == set(told)
    shown = [(await node.request("GET", f"jobs/{job}")).json["message"] for job in told]
    assert shown == [None, "yes"]
    handlers.gate.set()
    assert [(await ended(node, job))["state"] for job in told] == ["completed", "completed"]


@pytest.mark.parametrize("by", EXITS)
@pytest.mark.parametrize("kind", ["unkind.leave", "unkind.leave_in_a_thread"])
async def test_a_handler_that_exits_fails_its_job_and_ends_no_node(start_greenroom, kind, by):
    """
    Whatever would end the process is a failure like any other.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    done = await ended(node, await submit(node, kind, {"by": by}))
    assert (done["state"], done["attempt"]) == ("failed", 2)
    assert done["error"] == f"ForeignExitError: {kind} must not end the node: {by} 3"


@pytest.mark.parametrize("by", EXITS)
async def test_a_handler_that_exits_when_it_is_cancelled_ends_no_node(start_greenroom, by):
    """
    The job is cancelled, as was wanted.
    """
    plugin = Unkind()
    node = await start_greenroom(plugins={"unkind": plugin})
    job = await submit(node, "unkind.leave_late", {"by": by})
    await plugin.begun.wait()
    assert (await node.request("POST", f"jobs/{job}/cancel")).status in (200, 202)
    assert (await ended(node, job))["state"] == "cancelled"


async def test_a_handler_that_raises_an_old_cancellation_fails_its_job_and_ends_no_node(start_greenroom):
    """
    Nobody has cancelled it.
    """
    node = await start_greenroom(plugins={"unkind": Unkind()})
    done = await ended(node, await submit(node, "unkind.raise_an_old_one"))
    assert (done["state"], done["attempt"]) == ("failed", 2)
    assert done["error"].startswith(
        "ForeignExitError: unkind.raise_an_old_one must not end the node: Cancelled"
    )


async def test_a_job_for_which_no_thread_becomes_free_says_so(start_greenroom):
    """
    It was not its own handler that took too long.
    """
    plugin = Unkind()
    node = await start_greenroom(plugins={"unkind": plugin})
    errors = []
    for _ in range(3):
        done = await ended(node, await submit(node, "unkind.never_end"))
        assert done["state"] == "failed"
        errors.append(done["error"])
    plugin.release.set()
    assert errors == [
        "it overran its timeout of 0.2 s",
        "it overran its timeout of 0.2 s",
        "no thread was free for it within its timeout of 0.2 s: "
        "2 jobs that were given up still occupy theirs",
    ]


@pytest.mark.parametrize("by", ["its timeout", "somebody"])
async def test_a_handler_that_returns_although_it_was_stopped_has_done_its_job(start_greenroom, by):
    """
    What is done is not done again; nor is it said to be cancelled when it is not.
    """
    plugin = Unkind()
    node = await start_greenroom(plugins={"unkind": plugin})
    timeout = 0.05 if by == "its timeout" else 60
    job = await submit(node, "unkind.finish", timeout=timeout)
    await plugin.begun.wait()
    if by == "somebody":
        assert (await node.request("POST", f"jobs/{job}/cancel")).status == 202
    else:
        run = node.node.workshop.dispatcher.runs[job]
        await until(lambda: run._scope.cancel_called)
    plugin.gate.set()
    done = await ended(node, job)
    assert (done["state"], done["result"], done["attempt"]) == ("completed", "done", 1)


async def test_a_job_that_is_to_be_cancelled_is_not_tried_again(start_greenroom, logs):
    """
    Although its attempt failed before the node heard of the wish.
    """
    plugin = Unkind()
    node = await start_greenroom(plugins={"unkind": plugin})
    job = await submit(node, "unkind.fail_later")
    await plugin.begun.wait()
    workshop = node.node.workshop
    # The wish reaches the row, and not yet the run.
    workshop.desk.wished = lambda wish, author: None
    workshop.keeper.runs = {}
    assert (await node.request("POST", f"jobs/{job}/cancel")).status == 202
    plugin.gate.set()
    done = await ended(node, job)
    assert (done["state"], done["attempt"]) == ("cancelled", 1)
    assert history(done) == ["job_queued", "job_processor_started", "job_cancelled"]
    assert done["history"][-1]["data"]["cancelledBy"] == "alice@example.com"
    logs.entries.clear()
