"""The poller of a queue of SQS: receives messages, has them reduced, deletes what is committed."""

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random
from typing import assert_never

import attrs
import structlog
import trio

from conf.settings import Sqs
from engine.domain.envelope import Envelope, decode
from engine.domain.fields import Invalid, said
from engine.errors import SourceUnavailableError, StoreUnavailableError
from engine.runtime.backoff import Backoff
from engine.sources.held import Held
from engine.sources.reduction import Counts, PollerStatistics, Reducer, Verdict
from engine.sources.sqs import BATCH, FEW_RECEIVES, Delivery, MessageId, QueueFacts, SqsQueue, in_tens

log = structlog.get_logger(__name__)

# Messages that are reduced at a time, at most.
REDUCED = 100
# Seconds between two polls that find nothing, at least, should an endpoint answer without waiting.
EMPTY = 0.2
# Seconds until messages are reduced again that were put off.
LATER = 0.1
# Seconds that it is not asked again whether the source is paused.
PAUSE_POLL = 0.5
# Seconds for the questions about the queue before its first poll.
ASKING = 5.0
# Seconds that giving back what is held may take when the poller ends.
GIVING_BACK = 5.0


@attrs.define(eq=False, kw_only=True)
class Poller:
    """
    Own the messages of one queue that this node holds.

    A crash loses nothing: what is held is given back, or seen again after its visibility timeout, and what
    was committed but not deleted changes nothing when it comes again.
    """

    settings: Sqs
    reduce: Reducer
    backoff: Backoff
    chance: Random
    # Whether somebody wants nothing to be asked for; what is held is handled all the same.
    is_paused: Callable[[], Awaitable[bool]]
    open_queue: Callable[[Sqs], Awaitable[SqsQueue]] = SqsQueue.open
    _paused: bool = attrs.field(default=False, init=False)
    _draining: bool = attrs.field(default=False, init=False)
    _asked_pause_at: float = attrs.field(default=-math.inf, init=False)
    _held: Held = attrs.field(factory=Held, init=False)
    _facts: QueueFacts = attrs.field(default=QueueFacts(fifo=False, max_receives=None), init=False)
    _counts: Counts = attrs.field(factory=Counts, init=False)
    _polled_at: float | None = attrs.field(default=None, init=False)
    _last_error: str | None = attrs.field(default=None, init=False)
    # Held, and to be reduced again in a moment.
    _later: set[MessageId] = attrs.field(factory=set, init=False)
    # Set, and replaced, whenever something changed that one of the tasks may wait for.
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Poll until cancelled; then let the poll end, and give back what nothing was decided about.
        """
        # The node serves whether or not SQS is there.
        task_status.started()
        queue = await self.open_queue(self.settings)
        await self._ask(queue)
        self._held = Held()
        try:
            # Four tasks around one set of messages: a slow poll, commit or deletion holds up no other.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive_all, queue)
                nursery.start_soon(self._reduce_all)
                nursery.start_soon(self._delete_all, queue)
                nursery.start_soon(self._keep_all, queue)
        finally:
            with trio.move_on_after(GIVING_BACK, shield=True):
                await self._give_back(queue)

    def drain(self) -> None:
        """
        The node is about to stop: begin no more polls.
        """
        self._draining = True

    def statistics(self) -> PollerStatistics:
        """
        What it did, and how it is.
        """
        age = None if self._polled_at is None else trio.current_time() - self._polled_at
        return PollerStatistics(
            paused=self._paused,
            held=len(self._held),
            last_successful_poll_age=age,
            last_error=self._last_error,
            **attrs.asdict(self._counts),
        )

    async def _ask(self, queue: SqsQueue) -> None:
        try:
            with trio.fail_after(ASKING):
                self._facts = await queue.facts()
        except (SourceUnavailableError, trio.TooSlowError) as error:
            # It may be allowed to receive and delete and nothing else: that is enough.
            log.warning("the queue does not tell how it is set up", reason=str(error))
            return
        if self._facts.max_receives is None:
            log.warning("the queue has no dead-letter queue: what cannot be read comes again and again")
        elif self._facts.max_receives < FEW_RECEIVES:
            log.warning(
                "the queue gives messages up early: a delivery counts although its answer was lost",
                max_receives=self._facts.max_receives,
                better=FEW_RECEIVES,
            )

    async def _receive_all(self, queue: SqsQueue) -> None:
        failures = 0
        while True:
            await self._wait_until(lambda: len(self._held) < self.settings.in_flight)
            await self._wait_resumed()
            if self._draining:
                await trio.sleep_forever()
            asked_at = trio.current_time()
            try:
                deliveries = await queue.receive(min(BATCH, self.settings.in_flight - len(self._held)))
            except SourceUnavailableError as error:
                failures += 1
                await self._bear(error, failures, "messages cannot be received")
                continue
            failures, self._last_error = 0, None
            self._polled_at = trio.current_time()
            # No checkpoint since the thread ended: what came is held, whoever was cancelled meanwhile.
            self._counts.received += len(deliveries)
            self._counts.redelivered += sum(delivery.count > 1 for delivery in deliveries)
            self._held.take(deliveries, until=asked_at + queue.visibility)
            self._touch()
            await trio.sleep_until(asked_at if deliveries else asked_at + EMPTY)

    async def _wait_resumed(self) -> None:
        while trio.current_time() >= self._asked_pause_at + PAUSE_POLL or self._paused:
            try:
                self._paused = await self.is_paused()
                self._asked_pause_at = trio.current_time()
            except StoreUnavailableError:
                # What is asked for now could not be committed.
                await trio.sleep(PAUSE_POLL)
            else:
                await trio.sleep(PAUSE_POLL if self._paused else 0)

    async def _reduce_all(self) -> None:
        failures = 0
        while True:
            with trio.move_on_after(LATER if self._later else math.inf):
                await self._wait_until(lambda: self._held.undecided_count > len(self._later))
            self._later.clear()
            readable = list(self._read(self._held.undecided(REDUCED)))
            try:
                verdicts = await self._reduced([message for _, message in readable])
            except StoreUnavailableError as error:
                failures += 1
                log.warning("messages wait for the database", held=len(self._held), reason=str(error))
                await trio.sleep(self.backoff.delay(failures - 1, self.chance))
                continue
            failures = 0
            for (delivery, _), verdict in zip(readable, verdicts, strict=True):
                self._judge(delivery, verdict)
            self._touch()

    async def _delete_all(self, queue: SqsQueue) -> None:
        failures = 0
        while True:
            await self._wait_until(lambda: bool(self._held.done(1)))
            batch = self._held.done(BATCH)
            try:
                again = await queue.delete(batch)
            except SourceUnavailableError as error:
                failures += 1
                await self._bear(error, failures, "messages cannot be deleted")
                continue
            self._deleted(batch, again)
            failures = failures + 1 if again else 0
            if again:
                await trio.sleep(self.backoff.delay(failures - 1, self.chance))

    async def _keep_all(self, queue: SqsQueue) -> None:
        # Every message is hidden further once a third of its time is over; looking twice as often is enough.
        while True:
            await trio.sleep(queue.visibility / 6)
            due = self._held.due(trio.current_time() + queue.visibility * 2 / 3)
            for batch in in_tens(due):
                asked_at = trio.current_time()
                try:
                    again = await queue.hide(batch, queue.visibility)
                except SourceUnavailableError as error:
                    self._fail(error, "messages cannot be kept hidden")
                    break
                kept = [delivery for delivery in batch if delivery not in again]
                self._held.hidden(kept, until=asked_at + queue.visibility)

    async def _give_back(self, queue: SqsQueue) -> None:
        try:
            for batch in in_tens(self._held.done(len(self._held))):
                self._deleted(batch, await queue.delete(batch))
            for batch in in_tens(self._held.undecided(len(self._held))):
                await queue.hide(batch, 0)
                for delivery in batch:
                    self._held.forget(delivery.id)
                self._counts.given_back += len(batch)
        except SourceUnavailableError as error:
            # Nothing is lost: SQS shows them again after their visibility timeout.
            log.warning("messages could not be given back", held=len(self._held), reason=str(error))

    def _read(self, deliveries: Sequence[Delivery]) -> Iterator[tuple[Delivery, Envelope]]:
        for delivery in deliveries:
            match decode(delivery.body):
                case Invalid(errors):
                    self._judge(delivery, Verdict("refused", said(errors)))
                case message:
                    yield delivery, _in_trace(message, delivery.traceparent)

    async def _reduced(self, messages: Sequence[Envelope]) -> Sequence[Verdict]:
        """
        A message that makes the reducer fail is refused alone, the others are not held up by it.
        """
        if not messages:
            return ()
        try:
            return await self.reduce(messages)
        except StoreUnavailableError:
            raise
        except Exception as error:
            if len(messages) > 1:
                return [verdict for each in messages for verdict in await self._reduced([each])]
            log.error("a message made the reducer fail", id=messages[0].id, exc_info=error)
            return [Verdict("refused", f"{type(error).__name__}: {error}")]

    def _judge(self, delivery: Delivery, verdict: Verdict) -> None:
        match verdict.outcome:
            case "applied":
                self._counts.applied += 1
                self._held.settle(delivery.id)
            case "unchanged":
                self._counts.unchanged += 1
                self._held.settle(delivery.id)
            case "later":
                self._later.add(delivery.id)
            case "refused":
                most = self._facts.max_receives
                last = most is not None and delivery.count >= most
                self._counts.refused += 1
                self._counts.dead_lettered += last
                # Not deleted and not hidden further: SQS brings it again, and counts.
                self._held.forget(delivery.id)
                log.warning(
                    "a message is left for the dead letters" if last else "a message is refused",
                    message=delivery.id,
                    reason=verdict.reason,
                    deliveries=delivery.count,
                    max_receives=most,
                )
            case _:
                assert_never(verdict.outcome)

    def _deleted(self, batch: Sequence[Delivery], again: Sequence[Delivery]) -> None:
        for delivery in batch:
            if delivery not in again:
                self._held.forget(delivery.id)
                self._counts.deleted += 1
        self._touch()

    async def _bear(self, error: SourceUnavailableError, failures: int, what: str) -> None:
        self._fail(error, what)
        await trio.sleep(self.backoff.delay(failures - 1, self.chance))

    def _fail(self, error: SourceUnavailableError, what: str) -> None:
        self._counts.failures += 1
        self._last_error = str(error)
        log.warning(what, queue=self.settings.queue_url, reason=str(error))

    def _touch(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()


def _in_trace(message: Envelope, traceparent: str | None) -> Envelope:
    """
    The message, in the trace that its sender's library names if it names none itself.
    """
    if message.traceparent is not None or traceparent is None:
        return message
    return attrs.evolve(message, traceparent=traceparent)
