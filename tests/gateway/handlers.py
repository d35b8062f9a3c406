"""A plugin with job handlers for tests: each does one thing that a handler may do, when the test lets it."""

import threading
import time
from collections import Counter
from typing import Any

import attrs
import trio

from engine.domain.fields import FieldError
from engine.hookspecs import Discard, JobContext, JobHandler, Retry, hookimpl
from tests.patience import patience


@attrs.define(eq=False)
class Handlers:
    """
    The plugin; `runs` counts the attempts by job, `gate` holds back those that wait.
    """

    runs: Counter[str] = attrs.field(factory=Counter)
    started: dict[str, trio.Event] = attrs.field(factory=dict)
    cancelled: list[str] = attrs.field(factory=list)
    gate: trio.Event = attrs.field(factory=trio.Event)
    # Of threads that were given up.
    stopped_threads: list[str] = attrs.field(factory=list)
    release: threading.Event = attrs.field(factory=threading.Event)
    at_once: Counter[str] = attrs.field(factory=Counter)
    most_at_once: Counter[str] = attrs.field(factory=Counter)

    def begun(self, context: JobContext) -> None:
        job = context.job
        self.runs[job.id] += 1
        self.started.setdefault(job.id, trio.Event()).set()

    async def wait_started(self, job: str) -> None:
        with patience():
            await self.started.setdefault(job, trio.Event()).wait()

    async def echo(self, context: JobContext) -> Any:
        self.begun(context)
        await trio.lowlevel.checkpoint()
        return context.job.payload.get("answer")

    async def wait(self, context: JobContext) -> Any:
        """
        Waits for the gate; leaves a note when it is cancelled.
        """
        self.begun(context)
        kind = context.job.type
        self.at_once[kind] += 1
        self.most_at_once[kind] = max(self.most_at_once[kind], self.at_once[kind])
        try:
            await self.gate.wait()
        except trio.Cancelled:
            self.cancelled.append(context.job.id)
            raise
        finally:
            self.at_once[kind] -= 1
        return "waited"

    async def steps(self, context: JobContext) -> None:
        """
        Tells progress as often as it is told to.
        """
        self.begun(context)
        count = context.job.payload["count"]
        for number in range(count):
            await context.progress((number + 1) / count, f"step {number + 1}")
            await trio.sleep(context.job.payload.get("pause", 0))

    async def two_steps(self, context: JobContext) -> None:
        """
        Tells progress before and after the gate.
        """
        self.begun(context)
        await context.progress(0.5)
        await self.gate.wait()
        await context.progress(0.9)

    async def halfway(self, context: JobContext) -> None:
        await context.progress(0.5)
        raise Discard("got no further")

    async def fail(self, context: JobContext) -> None:
        self.begun(context)
        await trio.lowlevel.checkpoint()
        raise RuntimeError(f"attempt {context.job.attempt} came to nothing")

    async def wish(self, context: JobContext) -> str:
        """
        Says how it wants to go on: discard, or retry after so many seconds, the first time.
        """
        self.begun(context)
        await trio.lowlevel.checkpoint()
        if context.job.payload.get("discard"):
            raise Discard("no use")
        if context.job.attempt == 1:
            raise Retry("not yet", after=context.job.payload.get("after"))
        return "at last"

    async def write(self, context: JobContext) -> str:
        """
        Writes a row in the job's transaction, waits for the gate if it is to, fails if it is to.
        """
        self.begun(context)
        async with context.transaction() as transaction:
            await transaction.execute(
                "insert into written (job, attempt) values (%s, %s)", [context.job.id, context.job.attempt]
            )
        if context.job.payload.get("wait"):
            await self.gate.wait()
        if context.job.payload.get("fails") == context.job.attempt:
            raise RuntimeError("after it had written")
        return "written"

    async def block(self, context: JobContext) -> None:
        self.begun(context)
        await trio.lowlevel.checkpoint()
        time.sleep(30)  # noqa: ASYNC251

    def thread(self, context: JobContext) -> str:
        """
        A plain function: runs in a thread, and tells progress until it is stopped.
        """
        try:
            for number in range(10_000):
                context.progress_from_thread(number / 10_000, f"{number}")
                if self.release.wait(0.01):
                    return threading.current_thread().name
        except Exception as error:
            self.stopped_threads.append(type(error).__name__)
            raise
        return "never released"

    @hookimpl
    def job_handlers(self) -> list[JobHandler]:
        quick = {"backoff_first": 0.01, "backoff_cap": 0.05, "max_attempts": 3}
        return [
            JobHandler(type="test.echo", run=self.echo, concurrency=50, check=_check, unique=_unique),
            JobHandler(type="test.wait", run=self.wait, concurrency=2, timeout=60, **quick),
            JobHandler(type="test.hurry", run=self.wait, timeout=0.1, **quick),
            JobHandler(type="test.steps", run=self.steps),
            JobHandler(type="test.two_steps", run=self.two_steps),
            JobHandler(type="test.halfway", run=self.halfway),
            JobHandler(type="test.fail", run=self.fail, **quick),
            JobHandler(type="test.wish", run=self.wish, **quick),
            JobHandler(type="test.write", run=self.write, concurrency=20, **quick),
            JobHandler(type="test.block", run=self.block, **{**quick, "max_attempts": 1}),
            JobHandler(type="test.thread", run=self.thread, **quick),
        ]


def _check(payload: Any) -> list[FieldError]:
    return [FieldError("answer", "must not be wrong")] if payload.get("answer") == "wrong" else []


def _unique(payload: Any) -> str | None:
    return payload.get("only")
