"""The dispatcher's lives: one takes up what the life before was amid."""

from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from engine.actors.job_run import JobParts
from engine.actors.jobs import Dispatcher, Runnable
from engine.hookspecs import JobHandler
from engine.runtime.child import Restart, RestartPolicy
from engine.runtime.supervisor import Supervisor
from engine.sources.postgres_queue import PostgresQueue
from engine.store.jobs import Claimed


async def nothing(context: object) -> None:
    pass


@attrs.define
class Source:
    """
    A queue that has a bug once.
    """

    lease: float = 60.0
    due_at: float | None = None
    claims: int = 0

    async def claim(self, *given: object) -> Claimed:
        self.claims += 1
        await trio.lowlevel.checkpoint()
        if self.claims == 1:
            raise RuntimeError("a bug")
        return Claimed(jobs=[], events=[])


def dispatcher_of(source: object, concurrency: int) -> Dispatcher:
    handler = JobHandler(type="noop", run=nothing)
    return Dispatcher(
        source=cast(PostgresQueue, cast(Any, source)),
        runnable={"noop": Runnable(handler=handler, function=None, engine=None, limiter=None)},  # type: ignore[arg-type]
        parts=cast(JobParts, None),
        supervisor=cast(Supervisor, None),
        policy=RestartPolicy(
            restart=Restart.PERMANENT,
            max_restarts=1,
            within=1.0,
            backoff_first=1.0,
            backoff_cap=1.0,
            backoff_jitter=0.0,
            grace=1.0,
            cool_down=1.0,
        ),
        concurrency=concurrency,
        poll=3600.0,
        runs={},
    )


async def test_a_claim_that_a_crash_cut_off_is_made_by_the_next_life(nursery: trio.Nursery) -> None:
    """
    At once: what it was to find may wait for nobody else's word.
    """
    source = Source()
    dispatcher = dispatcher_of(source, concurrency=10)
    with pytest.raises(RuntimeError, match="a bug"):
        await dispatcher.run(trio.TASK_STATUS_IGNORED)
    await nursery.start(dispatcher.run)
    await trio.testing.wait_all_tasks_blocked()
    assert source.claims == 2
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("concurrency", "asked"), [(1, 1), (6, 3), (10, 4), (10**20, 4)])
async def test_no_more_is_asked_for_than_there_is_room_for(
    nursery: trio.Nursery, concurrency: int, asked: int
) -> None:
    """
    Of all types, and of each: a number that the database has no room for stopped all jobs.
    """
    limits = []

    class Queue(Source):
        async def claim(self, rooms: dict[str, int], limit: int) -> Claimed:
            limits.append((rooms, limit))
            await trio.lowlevel.checkpoint()
            return Claimed(jobs=[], events=[])

    await nursery.start(dispatcher_of(Queue(), concurrency).run)
    await trio.testing.wait_all_tasks_blocked()
    assert limits == [({"noop": 4}, asked)]
    nursery.cancel_scope.cancel()
