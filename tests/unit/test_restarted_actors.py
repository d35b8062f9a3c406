"""What operators, and crashes, may cut off anywhere: whoever lives next must know what was not done."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from engine.actors.catalog import Brought
from engine.actors.feed import Feed
from engine.actors.job_run import JobParts, JobRun
from engine.actors.jobs import Dispatcher, Runnable
from engine.actors.messages import Channels
from engine.actors.retention import Retention
from engine.actors.topic_log import TopicLog
from engine.domain.event import Epoch, Event, LogPlace, Offset, Topic
from engine.domain.presence import SessionId
from engine.hookspecs import JobHandler
from engine.runtime.child import Restart, RestartPolicy
from engine.runtime.mailbox import Mailbox
from engine.runtime.supervisor import Supervisor
from engine.sources.postgres_queue import PostgresQueue
from engine.store.bell import Bell
from engine.store.events import EventLog
from engine.store.jobs import Claimed
from tests.contract.stage import Client, Plain
from tests.patience import patience
from tests.unit.test_catalog_turn import event

NEVER = 3600.0


@attrs.define(eq=False)
class WrittenLog:
    """
    A log of a few events, as whoever reads it sees it.
    """

    events: Sequence[Event]

    async def after(self, place: LogPlace, limit: int, told: Any = None) -> list[Event]:
        await trio.lowlevel.checkpoint()
        return [event for event in self.events if event.place > place][:limit]

    async def since(self, topic: Topic, offset: Offset, limit: int) -> list[Event]:
        await trio.lowlevel.checkpoint()
        return [event for event in self.events if event.topic == topic and event.offset > offset][:limit]


class Nobody:
    """
    Stands for registries of actors none of which lives, and for a bell that nobody hears.
    """

    def tell_running_nowait(self, key: str, message: object) -> bool:
        return False

    async def ring(self) -> None:
        await trio.lowlevel.checkpoint()


async def cut_off(run: Callable[[trio.TaskStatus[None]], Awaitable[None]]) -> None:
    """
    Begin a life, and end it as soon as it waits for something.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: run(task_status))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_what_the_catalog_had_no_room_for_the_feed_s_next_life_brings() -> None:
    """
    The place moves when the catalog has the events, not before: nobody else would bring them.
    """
    events = [event(1, "pilot"), event(2, "finale")]
    catalog: Mailbox[Any] = Mailbox(1, name="catalog")
    log, nobody = cast(EventLog, WrittenLog(events)), cast(Any, Nobody())
    feed = Feed(
        log=log,
        bell=cast(Bell, nobody),
        episodes=nobody,
        users=nobody,
        jobs=nobody,
        catalog=catalog,
        effects=[],
        retention=Retention(log=log, age=NEVER, count=1000, interval=NEVER),
        place=LogPlace(0, 0),
        poll=NEVER,
        batch=10,
    )
    catalog.tell_nowait("something that fills it")
    await cut_off(feed.run)
    assert catalog.drain_nowait(10) == ["something that fills it"]
    await cut_off(feed.run)
    assert catalog.drain_nowait(10) == [Brought(tuple(events))]
    await cut_off(feed.run)
    assert catalog.drain_nowait(10) == []


async def test_events_that_an_actor_was_about_to_publish_are_published_by_its_next_life() -> None:
    """
    Cut off before the first push, it must not have noted them as heard.
    """
    hub, written = Channels(), event(1, "pilot")
    viewer = Client(SessionId("viewer"), Plain())
    hub.subscribe(written.topic, viewer.session, viewer, viewer.format)
    # It was subscribed when the log was empty.
    hub.note_position(written.topic, Offset(0))

    def life() -> TopicLog:
        async def head() -> Offset:
            await trio.lowlevel.checkpoint()
            return Offset(1)

        async def snapshot() -> tuple[Offset, dict[str, object]]:
            raise AssertionError("nothing was cut")

        return TopicLog(
            topic=written.topic,
            epoch=Epoch("epoch"),
            hub=hub,
            log=cast(EventLog, WrittenLog([written])),
            head=head,
            snapshot=snapshot,
            replay_limit=10,
            replay_size=10_000,
            ring=deque(maxlen=10),
        )

    first = life()
    first.note(written)
    with trio.CancelScope() as scope:
        scope.cancel()
        await first.publish_ready()
    assert scope.cancelled_caught
    await life().begin()
    assert viewer.offsets == [1]


@attrs.define(eq=False)
class EmptyQueue:
    """
    A source in which there is nothing, whoever asks; tells how often it was asked.
    """

    # Called while a claim is on its way.
    meanwhile: Callable[[], None] = lambda: None
    claims: int = 0
    due_at: float | None = None
    lease: float = NEVER
    broken: bool = False

    async def claim(self, rooms: Mapping[str, int], limit: int) -> Claimed:
        await trio.lowlevel.checkpoint()
        self.claims += 1
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise RuntimeError("a bug")
        return Claimed(jobs=[], events=[])

    def look_again(self, delay: float = 0.0) -> None: ...


def dispatcher(source: EmptyQueue) -> Dispatcher:
    """
    A dispatcher of one type of job, with room for ten.
    """
    policy = RestartPolicy(
        restart=Restart.TEMPORARY,
        max_restarts=0,
        within=1,
        backoff_first=0,
        backoff_cap=0,
        backoff_jitter=0,
        grace=1,
        cool_down=1,
    )

    class Parts:
        def committed(self, *events: Event) -> None: ...

    runnable = Runnable(
        handler=JobHandler(type="test.job", run=print),
        function=cast(Any, None),
        engine=cast(Any, None),
        limiter=trio.CapacityLimiter(1),
    )
    return Dispatcher(
        source=cast(PostgresQueue, source),
        runnable={"test.job": runnable},
        parts=cast(JobParts, Parts()),
        supervisor=Supervisor("jobs"),
        policy=policy,
        concurrency=10,
        poll=NEVER,
        runs={},
    )


async def test_a_job_that_is_submitted_while_others_are_claimed_is_claimed_next() -> None:
    """
    The claim on its way may have looked before it was there, and what it answers says nothing of it.
    """
    source = EmptyQueue()
    jobs = dispatcher(source)
    source.meanwhile = jobs.wake
    await cut_off(jobs.run)
    assert source.claims == 2


async def test_jobs_that_run_do_not_end_with_a_crash_of_their_dispatcher() -> None:
    """
    Its next life counts them as running; only the end of the node gives them back.
    """
    source = EmptyQueue(broken=True)
    jobs = dispatcher(source)

    class Running:
        stopped: list[object] = []  # noqa: RUF012 -- of this one

        def stop(self, reason: object) -> None:
            self.stopped.append(reason)

    run = Running()
    jobs.runs[cast(Any, "job")] = cast(JobRun, run)
    with patience():
        try:
            await jobs.run(trio.TASK_STATUS_IGNORED)
        except RuntimeError as error:
            assert str(error) == "a bug"
    assert run.stopped == []
