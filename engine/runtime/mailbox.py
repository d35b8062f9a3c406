"""Mailbox, tell and ask: how tasks talk to an actor; knows nothing of who runs it."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import attrs
import outcome
import trio

from engine.errors import ActorStoppedError, EngineError, MailboxFullError

M = TypeVar("M")
T = TypeVar("T")


@attrs.define(eq=False)
class Reply(Generic[T]):
    """
    The place for one answer. It travels inside a message, as its attribute `reply`.

    Whoever answers first wins: the actor, or the mailbox when the actor ends without an answer.
    """

    # The asker waits no more: cancelled, or out of patience. What it asked for is not to be done for it.
    given_up: bool = attrs.field(default=False, init=False)
    _answer: outcome.Outcome[T] | None = attrs.field(default=None, init=False)
    _answered: trio.Event = attrs.field(factory=trio.Event, init=False)
    # Set by the mailbox that hands the message out, so that it remembers only what is still open.
    _on_answer: "Callable[[Reply[T]], None] | None" = attrs.field(default=None, init=False)

    def set(self, value: T) -> None:
        """
        Answer with a value.
        """
        self._settle(outcome.Value(value))

    def fail(self, error: Exception) -> None:
        """
        Answer with an error, which `wait` raises.
        """
        self._settle(outcome.Error(error))

    async def wait(self) -> T:
        """
        The answer. For the asker only: an answer can be taken once.
        """
        await self._answered.wait()
        assert self._answer is not None
        return self._answer.unwrap()

    def _settle(self, answer: "outcome.Outcome[T]") -> None:
        if self._answer is None:
            self._answer = answer
            self._answered.set()
            if self._on_answer is not None:
                self._on_answer(self)


@attrs.frozen(kw_only=True)
class MailboxStatistics:
    """
    A mailbox at one moment; `oldest_age` in seconds, 0 when it is empty.
    """

    capacity: int
    depth: int
    oldest_age: float
    told_total: int
    received_total: int
    refused_total: int
    high_water: int


@attrs.define(eq=False)
class Mailbox(Generic[M]):
    """
    An actor's bounded inbox. It outlives a crash of its actor: what is unread waits for the next life.

    The message being handled at a crash is not delivered again: it may be what crashed the actor. Every
    `Reply` that the actor then has in hand fails, however long ago it was received.
    """

    capacity: int
    # Named in errors, for whoever reads them.
    name: str = attrs.field(default="mailbox", kw_only=True)
    # Seconds without a message after which `receive_or_idle` returns.
    idle: float = attrs.field(default=math.inf, kw_only=True)
    # Each with the time it was told.
    _unread: deque[tuple[M, float]] = attrs.field(factory=deque, init=False)
    # Tellers who wait for room, longest first. A message enters for its teller as soon as one leaves:
    # so nobody can overtake them.
    _tellers: OrderedDict[trio.lowlevel.Task, M] = attrs.field(factory=OrderedDict, init=False)
    _readers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    # Received, not answered: what must fail when the actor ends. Weak, because an actor that forgets a
    # Reply whose asker has given up must not keep it here for ever.
    _in_hand: WeakSet[Reply[Any]] = attrs.field(factory=WeakSet, init=False)
    # Makes the error with which messages are refused; None: they are accepted.
    _refusal: Callable[[], EngineError] | None = attrs.field(default=None, init=False)
    _quiet_since: float = attrs.field(default=-math.inf, init=False)
    _told_total: int = attrs.field(default=0, init=False)
    _received_total: int = attrs.field(default=0, init=False)
    _refused_total: int = attrs.field(default=0, init=False)
    _high_water: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        return len(self._unread)

    @property
    def accepts(self) -> bool:
        """
        Whether it takes messages, room provided: neither closed nor refusing.
        """
        return self._refusal is None

    def tell_nowait(self, message: M) -> None:
        """
        Put a message in.

        Raises MailboxFullError; ActorStoppedError when closed; or what `refuse` was given.
        """
        self._check_refusal()
        if len(self._unread) >= self.capacity:
            self._refused_total += 1
            raise MailboxFullError(
                f"{self.name} is full: {self.capacity} messages wait, the actor does not keep up"
            )
        self._put(message)

    async def tell(self, message: M) -> None:
        """
        Put a message in, waiting for room: the caller owns the deadline.

        Raises ActorStoppedError when closed, or what `refuse` was given, also while it waits. If cancelled,
        it told nothing.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_refusal()
        # No checkpoint from here until the message has its place: the registry relies on it.
        if len(self._unread) < self.capacity:
            self._put(message)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        task = trio.lowlevel.current_task()
        self._tellers[task] = message

        def give_up(_: object) -> trio.lowlevel.Abort:
            del self._tellers[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    async def receive(self) -> M:
        """
        The next message. Raises ActorStoppedError when the mailbox is closed.
        """
        await trio.lowlevel.checkpoint()
        while not self._unread:
            if self._refusal is not None:
                raise self._refusal()
            await self._readers.park()
        return self._take()

    async def receive_or_idle(self) -> M | None:
        """
        The next message, or None when none came for `idle` seconds: an actor nobody needs may return then.
        """
        if self._unread:
            return await self.receive()
        with trio.move_on_at(self._quiet_since + self.idle):
            return await self.receive()
        self._quiet_since = trio.current_time()
        return None

    def drain_nowait(self, limit: int) -> list[M]:
        """
        What waits now, at most `limit` messages: for turns that batch.
        """
        return [self._take() for _ in range(min(limit, len(self._unread)))]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """
        Around an actor's life: at its end, however it ends, every Reply it still holds fails.
        """
        self._quiet_since = trio.current_time()
        try:
            yield
        finally:
            self._fail_in_hand(lambda: ActorStoppedError(f"{self.name}: the actor ended before it answered"))

    def refuse(self, refusal: Callable[[], EngineError]) -> None:
        """
        Until `accept`: refuse tells, waiting ones included, and fail every ask. Other messages stay.

        `refusal` makes a new error for each, because a shared one would gather their tracebacks.
        """
        self._refusal = refusal
        while self._tellers:
            task, _ = self._tellers.popitem(last=False)
            trio.lowlevel.reschedule(task, outcome.Error(refusal()))
        kept: deque[tuple[M, float]] = deque()
        for message, told_at in self._unread:
            if (reply := _reply_of(message)) is None:
                kept.append((message, told_at))
            else:
                reply.fail(refusal())
        self._unread = kept
        self._fail_in_hand(refusal)

    def resize(self, capacity: int) -> None:
        """
        Hold so many messages from now on. Those that are there stay, also when there are more.
        """
        self.capacity = capacity
        self._admit()

    def accept(self) -> None:
        """
        Take messages again.
        """
        self._refusal = None

    def close(self) -> list[M]:
        """
        Refuse from now on and fail every ask with ActorStoppedError. Returns what was never read.
        """
        unread = [message for message, _ in self._unread]
        self.refuse(lambda: ActorStoppedError(f"{self.name}: the actor has stopped"))
        self._unread.clear()
        self._readers.unpark_all()
        return unread

    def statistics(self) -> MailboxStatistics:
        """
        Depth, age and totals, for metrics and the tree.
        """
        return MailboxStatistics(
            capacity=self.capacity,
            depth=len(self._unread),
            oldest_age=trio.current_time() - self._unread[0][1] if self._unread else 0.0,
            told_total=self._told_total,
            received_total=self._received_total,
            refused_total=self._refused_total,
            high_water=self._high_water,
        )

    def _check_refusal(self) -> None:
        if self._refusal is not None:
            self._refused_total += 1
            raise self._refusal()

    def _put(self, message: M) -> None:
        self._unread.append((message, trio.current_time()))
        self._told_total += 1
        self._high_water = max(self._high_water, len(self._unread))
        self._readers.unpark()

    def _take(self) -> M:
        message, _ = self._unread.popleft()
        self._received_total += 1
        self._admit()
        if (reply := _reply_of(message)) is not None:
            self._in_hand.add(reply)
            reply._on_answer = self._in_hand.discard
        self._quiet_since = trio.current_time()
        return message

    def _admit(self) -> None:
        while self._tellers and len(self._unread) < self.capacity:
            task, waiting = self._tellers.popitem(last=False)
            self._put(waiting)
            trio.lowlevel.reschedule(task)

    def _fail_in_hand(self, refusal: Callable[[], EngineError]) -> None:
        while self._in_hand:
            self._in_hand.pop().fail(refusal())


async def ask(mailbox: Mailbox[M], make: Callable[[Reply[T]], M]) -> T:
    """
    Tell the message that `make` builds around a Reply, and wait for the answer: the caller owns the deadline.

    Raises ActorStoppedError when the actor ends, or the mailbox closes, before the answer. The message of one
    that is cancelled stays: the actor sees by the Reply that nobody waits for it.
    """
    reply: Reply[T] = Reply()
    message = make(reply)
    # Without the attribute nobody could fail the Reply, and this would wait for ever.
    assert _reply_of(message) is reply, f"{type(message).__name__} must carry its Reply as `reply`"
    await mailbox.tell(message)
    try:
        return await reply.wait()
    except trio.Cancelled:
        reply.given_up = True
        raise


def _reply_of(message: object) -> Reply[Any] | None:
    reply = getattr(message, "reply", None)
    return reply if isinstance(reply, Reply) else None
