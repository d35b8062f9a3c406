"""One attempt at a job: calls its handler, within its time, and decides what becomes of the job."""

import enum
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import attrs
import msgspec
import structlog
import trio

from engine.actors.job_settler import Settler
from engine.actors.job_statistics import JobStatistics
from engine.actors.messages import Tell
from engine.domain import job as decide
from engine.domain.event import Event, UserId
from engine.domain.job import MAX_MESSAGE, Job, JobChange
from engine.domain.job_request import TOO_DEEP, unstorable
from engine.domain.json_text import storable
from engine.errors import EngineError, StoreUnavailableError
from engine.hookspecs import Discard, Engine, JobHandler, JobStoppedError, JobTransaction, Retry
from engine.runtime.backoff import Backoff
from engine.runtime.child import cause
from engine.runtime.foreign import Function, Runner, said, told
from engine.store import job_transaction
from engine.store.jobs import RefusedError

log = structlog.get_logger(__name__)

# Bytes that a result may have: it is shown on screens, and kept in the log.
MAX_RESULT = 65_536
# Seconds that giving back may take: of all runs when the node stops, or of one that is ended.
GIVE_BACK = 3.0


class Stop(enum.Enum):
    """
    Why a handler is stopped before it has returned.
    """

    CANCELLED = enum.auto()
    LOST = enum.auto()
    DRAINED = enum.auto()


@attrs.define(eq=False, kw_only=True)
class JobParts:
    """
    What every run needs of the node. `chance` spreads the retries.
    """

    settler: Settler
    runner: Runner
    statistics: JobStatistics
    begin: Callable[[Job, str], job_transaction.JobTransaction]
    data_dir: Path
    committed: Tell
    # Told that a run has progress to tell; and what tells it.
    progressed: Callable[[], None]
    tell_progress: Callable[[Sequence[JobChange]], Awaitable[object]]
    # Told in how many seconds the job is due again.
    due: Callable[[float], None]
    transaction_budget: float
    chance: random.Random
    # Told of an attempt that is over: when it began, by Trio's clock, and how it ended; None: it was lost.
    on_ran: Callable[[Job, float, Event | None], None] | None = attrs.field(default=None, init=False)


@attrs.define(eq=False, kw_only=True)
class JobRun:
    """
    Own one attempt at one job; fulfils hookspecs.JobContext.

    A crash of it, or of the node, loses the attempt and nothing else: the lease ends, and it is tried again.
    Ended from outside, by an operator, it gives the job back.
    """

    job: Job
    handler: JobHandler
    function: Function
    engine: Engine
    limiter: trio.CapacityLimiter
    parts: JobParts
    # When the lease ends, by trio's clock, unless it is renewed.
    lease_until: float
    # Called when the handler has ended, however.
    on_handled: Callable[["JobRun"], None]
    stopped: Stop | None = attrs.field(default=None, init=False)
    cancelled_by: UserId | None = attrs.field(default=None, init=False)
    # The latest progress that was not told yet, and when the last was.
    news: tuple[float, str | None] | None = attrs.field(default=None, init=False)
    told_at: float = attrs.field(default=float("-inf"), init=False)
    # What the handler's thread said last.
    _from_thread: tuple[float, str | None] | None = attrs.field(default=None, init=False)
    # How far it got.
    _reached: float | None = attrs.field(default=None, init=False)
    # The number of the progress that was told last; those of the job's former runs were smaller.
    _told_seq: int = attrs.field(init=False)
    handled: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _token: trio.lowlevel.TrioToken | None = attrs.field(default=None, init=False)
    _writes: job_transaction.JobTransaction | None = attrs.field(default=None, init=False)
    # The handler has ended, or was given up; a thread may not know yet.
    _is_over: bool = attrs.field(default=False, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)
    # Why its time was shortened: it has written, and so holds up the log.
    _is_short: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._told_seq = self.job.told_seq

    @property
    def name(self) -> str:
        """
        What its child in the supervision tree is called.
        """
        return f"{self.job.type} {self.job.id}/{self.job.fence}"

    @property
    def data_dir(self) -> Path:
        """
        The node's data directory.
        """
        return self.parts.data_dir

    async def progress(self, fraction: float, message: str | None = None) -> None:
        """
        Tell how far it has got.
        """
        await trio.lowlevel.checkpoint()
        self._check_stopped()
        self._note(*_progress(fraction, message))

    def progress_from_thread(self, fraction: float, message: str | None = None) -> None:
        """
        The same, from the handler's thread.
        """
        self._check_stopped()
        assert self._token is not None, "a handler runs"
        if self.parts.runner.in_threads:
            self._from_thread = _progress(fraction, message)
            # Once for however many: the event loop takes the latest.
            self._token.run_sync_soon(self._note_from_thread, idempotent=True)
        else:
            self._note(*_progress(fraction, message))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[JobTransaction]:
        """
        The job's one transaction; it commits with the completion.
        """
        if self._writes is None:
            self._writes = self.parts.begin(self.job, self.function.owner)
            self._writes.on_begin = self._shorten
        yield self._writes

    def stop(self, reason: Stop, by: UserId | None = None) -> None:
        """
        Stop the handler; the first reason counts.
        """
        if not self.handled and self.stopped is None:
            self.stopped, self.cancelled_by = reason, by
            self._scope.cancel()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Run the handler, and have what becomes of the job committed.
        """
        task_status.started()
        self.parts.statistics.began(self.job)
        began = trio.current_time()
        try:
            change = await self._attempt()
            self.parts.statistics.took(self.job.type, trio.current_time() - began)
            await self._conclude(change, began)
        finally:
            # Not because of what the handler did, nor `stop`: whoever ended the run wants the job run anew.
            if not self.handled and self.stopped is None and trio.current_effective_deadline() == -math.inf:
                with trio.move_on_after(GIVE_BACK, shield=True):
                    await self._conclude(decide.released(self.job, "its run was ended by an operator"), began)
            if self._writes is not None:
                await self._writes.rollback()

    async def _conclude(self, change: JobChange | None, began: float) -> None:
        self.handled = True
        self.on_handled(self)
        event = await self._settle(change)
        if event is not None and change is not None and change.delay is not None:
            self.parts.due(change.delay)
        self.parts.statistics.count(self.job.type, None if event is None else event.type)
        if self.parts.on_ran is not None:
            self.parts.on_ran(self.job, began, event)

    async def _attempt(self) -> JobChange | None:
        """
        What becomes of the job; None when it is not ours any more.
        """
        self._token = trio.lowlevel.current_trio_token()
        result: Any = None
        error: Exception | None = None
        self._scope.deadline = trio.current_time() + self.job.timeout
        try:
            with self._scope:
                result = await self.parts.runner.run(self._noted(), self, limiter=self.limiter)
        # Outside of the scope, which has taken the Cancelled out of a mixed group by now.
        except Exception as raised:
            error = cause(raised)
        finally:
            self._is_over = True
        match self.stopped:
            case _ if error is None and not self._scope.cancelled_caught and self.stopped is not Stop.LOST:
                return self._completed(result)
            case Stop.LOST:
                return None
            case Stop.CANCELLED:
                return decide.cancelled(self._as_left(), user=self.cancelled_by)
            case Stop.DRAINED:
                return decide.released(self.job, "the node that ran it stops")
            case None:
                return self._failed(error)

    def _noted(self) -> Function:
        """
        The handler, which notes that it has begun; a plain function has to wait for a thread.
        """
        if self.function.is_async:
            self._has_begun = True
            return self.function
        handle = self.function.call

        # The thread has the handler's name.
        @wraps(handle)
        def call(context: JobRun) -> Any:
            self._has_begun = True
            return handle(context)

        return attrs.evolve(self.function, call=call)

    def _completed(self, result: Any) -> JobChange:
        if result is None:
            return decide.completed(self.job, None)
        try:
            encoded = msgspec.json.encode(result)
        except (TypeError, ValueError, RecursionError) as error:
            return self._failed(Discard(f"the handler's answer is no JSON: {error}"))
        if len(encoded) > MAX_RESULT:
            return self._failed(
                Discard(f"the handler's answer has {len(encoded)} bytes; at most {MAX_RESULT} are kept")
            )
        try:
            plain = msgspec.json.decode(encoded)
        except RecursionError:
            return self._failed(Discard(f"the handler's answer {TOO_DEEP}"))
        if (mistake := unstorable(plain)) is not None:
            return self._failed(Discard(f"the handler's answer {mistake}"))
        return decide.completed(self.job, plain)

    def _failed(self, error: Exception | None) -> JobChange:
        after, final = None, False
        match error:
            case None if self._is_short:
                budget = self.parts.transaction_budget
                text = f"it kept its transaction open for more than {budget:g} s (jobs.transaction_budget)"
            case None if not self._has_begun:
                occupied = f"{self.limiter.borrowed_tokens:g} jobs that were given up still occupy theirs"
                text = f"no thread was free for it within its timeout of {self.job.timeout:g} s: {occupied}"
            case None:
                text = f"it overran its timeout of {self.job.timeout:g} s"
            case Retry():
                text, after = said(error), error.after
            case Discard():
                text, final = said(error), True
            case EngineError():
                text = told(error)
            case _:
                text = told(error)
                log.warning(
                    "a job's attempt failed", job=self.job.id, type=self.job.type, error=text, exc_info=error
                )
        if after is None:
            after = retry_delay(self.handler, self.job.attempt, self.parts.chance)
        return decide.attempt_failed(self._as_left(), text, delay=after, final=final)

    async def _settle(self, change: JobChange | None) -> Event | None:
        if change is None:
            log.warning("a job was lost: its lease had ended", job=self.job.id, type=self.job.type)
            return None
        if change.event.type == "job_completed":
            await self._tell_last_progress()
            if self._writes is not None and self._writes.used:
                return await self._complete_with_writes(change)
        # What a handler wrote that did not complete is undone, before anybody hears that it did not.
        if self._writes is not None:
            await self._writes.rollback()
        try:
            return await self.parts.settler.settle(change)
        except RefusedError as error:
            return await self.parts.settler.settle(self._failed(error))

    async def _complete_with_writes(self, change: JobChange) -> Event | None:
        assert self._writes is not None
        try:
            event = await self._writes.complete(change)
        except (StoreUnavailableError, RefusedError) as error:
            # If it was committed without our hearing of it, this finds the job completed: nothing changes.
            return await self.parts.settler.settle(self._failed(error))
        if event is not None:
            self.parts.committed(*self._writes.events, event)
        return event

    async def _tell_last_progress(self) -> None:
        news, self.news = self.news, None
        if news is not None:
            await self.parts.tell_progress([self.progress_change(news)])

    def progress_change(self, news: tuple[float, str | None]) -> JobChange:
        """
        The transition that tells of progress. One that comes to the database after a later one is nothing.
        """
        self._told_seq += 1
        # The lease is the keeper's to renew: as long as it was.
        lease = max(0.0, self.lease_until - trio.current_time())
        return decide.numbered(decide.progressed(self.job, *news, lease=lease), self._told_seq)

    def _note_from_thread(self) -> None:
        # The thread may say more meanwhile, and then asks anew.
        if (latest := self._from_thread) is not None:
            self._note(*latest)

    def _as_left(self) -> Job:
        return attrs.evolve(self.job, progress=self._reached)

    def _note(self, fraction: float, message: str | None) -> None:
        if not self.handled:
            self.news, self._reached = (fraction, message), fraction
            self.parts.progressed()

    def _check_stopped(self) -> None:
        if self.stopped is not None or self._is_over:
            raise JobStoppedError(f"job {self.job.id} was stopped: nothing that is done from now on counts")

    def _shorten(self) -> None:
        # What has been written in an open transaction holds up the log, and so every plugin.
        at = trio.current_time() + self.parts.transaction_budget
        if at < self._scope.deadline:
            self._is_short = True
            self._scope.deadline = at


def retry_delay(handler: JobHandler | None, attempt: int, chance: random.Random) -> float:
    """
    Seconds to wait after a failed attempt of this number (from 1): exponential, all of it random.
    """
    first, cap = (1.0, 300.0) if handler is None else (handler.backoff_first, handler.backoff_cap)
    return Backoff(first=first, cap=cap, jitter=1.0).delay(attempt - 1, chance)


def _progress(fraction: float, message: str | None) -> tuple[float, str | None]:
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise ValueError(f"progress is a number from 0 to 1, not {fraction!r}")
    if message is not None and not isinstance(message, str):
        raise ValueError(f"the message that comes with progress is a text, not {message!r}")
    text = None if message is None else storable(message)[:MAX_MESSAGE]
    return float(fraction), text
