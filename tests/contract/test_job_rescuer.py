"""The rescuer takes jobs from who is gone, and none of them stands in the way of the others."""

import random
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import trio

from engine.actors import job_rescuer
from engine.actors.job_rescuer import JobRescuer
from engine.domain.event import Event
from engine.store.store import Store
from tests.contract.crew import Crew
from tests.patience import patience


@pytest.fixture
def crew(store: Store) -> Crew:
    return Crew(store=store)


def rescuer_of(crew: Crew, committed: Callable[[Event], None], **other: Any) -> JobRescuer:
    """
    The rescuer of another node.
    """
    usual: dict[str, Any] = {
        "jobs": crew.store.patient_jobs,
        "job_list": crew.store.patient_job_list,
        "handlers": {},
        "owner": "there/2",
        "node": "there",
        "alone": False,
        "lease": 1.0,
        "committed": committed,
        "due": lambda delay: None,
        "chance": random.Random(0),
    }
    return JobRescuer(**{**usual, **other})


async def test_a_job_that_cannot_be_rescued_holds_up_no_other(
    crew: Crew, migrated_database: str, nursery: trio.Nursery
) -> None:
    """
    One whose fence cannot grow any more is refused by PostgreSQL, and with it the statement for all.
    """
    for _ in range(3):
        await crew.add(max_attempts=1)
    broken, *others = await crew.claim(lease=0)
    with psycopg.connect(migrated_database) as connection:
        connection.execute(
            "update processing_queue set fence = 9223372036854775807 where id = %s", [broken.id]
        )
    told: list[Event] = []
    both = trio.Event()

    def committed(event: Event) -> None:
        told.append(event)
        if len(told) == len(others):
            both.set()

    await nursery.start(rescuer_of(crew, committed).run)
    with patience():
        await both.wait()
    assert {event.data["job"]["id"] for event in told} == {job.id for job in others}
    assert {event.type for event in told} == {"job_failed"}


async def test_jobs_of_a_former_life_that_cannot_be_rescued_are_not_asked_for_for_ever(
    crew: Crew, migrated_database: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As many as one step takes: whose lease has ended meanwhile is rescued all the same.
    """
    monkeypatch.setattr(job_rescuer, "STEP", 2)
    for _ in range(3):
        await crew.add(max_attempts=1)
    *broken, other = await crew.claim(lease=0)
    with psycopg.connect(migrated_database) as connection:
        # Of these the leases go on.
        connection.execute(
            "update processing_queue set fence = 9223372036854775807, lease_until = now() + interval '1 day'"
            " where id = any(%s::uuid[])",
            [[job.id for job in broken]],
        )
    told: list[Event] = []
    heard = trio.Event()

    def committed(event: Event) -> None:
        told.append(event)
        heard.set()

    await nursery.start(rescuer_of(crew, committed, owner="here/2", node="here").run)
    with patience():
        await heard.wait()
    assert [event.data["job"]["id"] for event in told] == [other.id]
