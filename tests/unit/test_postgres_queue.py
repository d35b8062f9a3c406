"""The Postgres queue: when it looks again for what was delayed."""

from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from engine.errors import StoreUnavailableError
from engine.sources.postgres_queue import PostgresQueue
from engine.store.jobs import Claimed, Jobs


@attrs.define
class Table:
    """
    The jobs of a store in which nothing waits: answers in how many seconds the next is due.
    """

    seconds: float | None = None
    # What happens elsewhere while it is asked.
    meanwhile: Callable[[], None] = lambda: None
    looks: int = 0
    away: bool = False

    async def look_for_due(self) -> float | None:
        self.looks += 1
        self.meanwhile()
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailableError("away")
        return self.seconds

    async def claim(self, *given: object, **more: object) -> Claimed:
        await trio.lowlevel.checkpoint()
        return Claimed(jobs=[], events=[])


def queue_over(table: Table) -> PostgresQueue:
    return PostgresQueue(jobs=cast(Jobs, cast(Any, table)), owner="node/1", lease=60.0)


@pytest.mark.parametrize(("seconds", "expected"), [(None, 5.0), (60.0, 5.0), (2.0, 2.0)])
async def test_what_is_delayed_while_it_looks_is_not_forgotten(
    autojump_clock: trio.testing.MockClock, seconds: float | None, expected: float
) -> None:
    """
    The look may have been too early for it; the sooner of both counts.
    """
    table = Table(seconds)
    queue = queue_over(table)
    table.meanwhile = lambda: queue.look_again(5.0)
    await queue.claim({"noop": 1}, 1)
    assert queue.due_at is not None
    assert queue.due_at - trio.current_time() == pytest.approx(expected)
    await queue.claim({"noop": 1}, 1)
    assert table.looks == 1


async def test_a_look_that_failed_is_repeated(autojump_clock: trio.testing.MockClock) -> None:
    """
    With the next claim.
    """
    table = Table(away=True)
    queue = queue_over(table)
    with pytest.raises(StoreUnavailableError):
        await queue.claim({"noop": 1}, 1)
    table.away = False
    await queue.claim({"noop": 1}, 1)
    assert table.looks == 2
    await queue.claim({"noop": 1}, 1)
    assert (table.looks, queue.due_at) == (2, None)
