"""The rescuer takes jobs from who is gone, and none of them stands in the way of the others."""

import random

import psycopg
import pytest
import trio

from engine.actors.job_rescuer import JobRescuer
from engine.domain.event import Event
from engine.store.store import Store
from tests.contract.crew import Crew


@pytest.fixture
def crew(store: Store) -> Crew:
    return Crew(store=store)


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

    rescuer = JobRescuer(
        jobs=crew.store.patient_jobs,
        job_list=crew.store.patient_job_list,
        handlers={},
        owner="there/2",
        node="there",
        alone=False,
        lease=1.0,
        committed=committed,
        due=lambda delay: None,
        chance=random.Random(0),
    )
    await nursery.start(rescuer.run)
    with trio.fail_after(30):
        await both.wait()
    assert {event.data["job"]["id"] for event in told} == {job.id for job in others}
    assert {event.type for event in told} == {"job_failed"}
