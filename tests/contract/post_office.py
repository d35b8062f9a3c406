"""A poller between a real queue and a reducer of the tests' own, who writes down what it was given."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from conf.settings import Sqs, load
from engine.actors.poller import Poller
from engine.domain.envelope import Envelope, Submit, encode
from engine.domain.event import utc_now
from engine.runtime.backoff import Backoff
from engine.sources.reduction import Verdict
from tests.patience import patience
from tests.queue_service import QueueService, TestQueue
from tests.sqs_proxy import SqsProxy, between


def message(id_: str) -> str:
    """
    A message that is right.
    """
    return encode(Envelope(id=id_, source="tests", time=utc_now(), body=Submit(data={})))


@attrs.define(eq=False)
class Clerk:
    """
    A reducer that commits to memory: an id that came before changes nothing.
    """

    applied: list[str] = attrs.field(factory=list)
    seen: list[str] = attrs.field(factory=list)
    # The traceparent of each message, by its id.
    traces: dict[str, str | None] = attrs.field(factory=dict)
    # What it raises before it does anything, as long as it is set.
    trouble: Exception | None = None
    # Ids that it puts off, each so many times.
    later: dict[str, int] = attrs.field(factory=dict)
    # Ids that it cannot bear.
    poison: set[str] = attrs.field(factory=set)
    # Nobody gets past it until it is set.
    open: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.open.set()

    async def __call__(self, messages: Sequence[Envelope]) -> Sequence[Verdict]:
        self.seen += [each.id for each in messages]
        self.traces |= {each.id: each.traceparent for each in messages}
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        if any(each.id in self.poison for each in messages):
            raise ZeroDivisionError("a bug")
        return [self._judge(each.id) for each in messages]

    def _judge(self, id_: str) -> Verdict:
        if self.later.get(id_, 0):
            self.later[id_] -= 1
            return Verdict("later")
        if id_ in self.applied:
            return Verdict("unchanged")
        self.applied.append(id_)
        return Verdict("applied")


@attrs.define(eq=False, kw_only=True)
class PostOffice:
    """
    A queue, a proxy before it, and a poller that is started and stopped at will.
    """

    queue: TestQueue
    proxy: SqsProxy
    settings: Sqs
    nursery: trio.Nursery
    clerk: Clerk = attrs.field(factory=Clerk)
    # Somebody wants nothing to be asked for.
    paused: bool = False
    poller: Poller = attrs.field(init=False)
    _scope: trio.CancelScope | None = None
    _ended: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.poller = Poller(
            settings=self.settings,
            reduce=self.clerk,
            is_paused=self._is_paused,
            backoff=Backoff(first=0.05, cap=0.4, jitter=0.2),
            chance=Random(7),
        )

    async def start(self) -> None:
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        await self.nursery.start(self._live, self._scope, self._ended)

    async def stop(self) -> None:
        assert self._scope is not None
        self._scope.cancel()
        await self._ended.wait()

    async def _is_paused(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.paused

    async def _live(
        self, scope: trio.CancelScope, ended: trio.Event, task_status: trio.TaskStatus[None]
    ) -> None:
        try:
            with scope:
                await self.poller.run(task_status)
        finally:
            ended.set()

    async def until(self, condition: Callable[[], object]) -> None:
        with patience():
            while not condition():  # noqa: ASYNC110 (what others count wakes nobody)
                await trio.sleep(0.02)

    async def until_empty(self) -> None:
        """
        Nothing in the queue, seen or hidden.
        """
        with patience():
            while await trio.to_thread.run_sync(self.queue.counts) != (0, 0):  # noqa: ASYNC110 (likewise)
                await trio.sleep(0.1)

    async def send(self, *bodies: str, group: str | None = None) -> None:
        await trio.to_thread.run_sync(lambda: self.queue.send(*bodies, group=group))


@asynccontextmanager
async def post_office(
    service: QueueService, *, fifo: bool = False, max_receives: int | None = None, **settings: object
) -> AsyncIterator[PostOffice]:
    """
    Open one, with a poller that does not run yet.
    """
    queue = await trio.to_thread.run_sync(lambda: service.queue(fifo=fifo, max_receives=max_receives))
    async with between(service.port) as proxy, trio.open_nursery() as nursery:
        told = {"wait": 1.0, "request_timeout": 10.0, "visibility_timeout": 30.0, **settings}
        sqs = attrs.evolve(
            load(None, environ={}).settings.sqs, queue_url=queue.url, endpoint=proxy.url, **told
        )
        yield PostOffice(queue=queue, proxy=proxy, settings=sqs, nursery=nursery)
        nursery.cancel_scope.cancel()
