"""How PostgreSQL goes about what is done with jobs: it looks rows up, however it has planned."""

import json

import pytest

from engine.domain import job as decide
from engine.store.job_rows import change_params, new_job_params
from engine.store.queries import queries
from tests.contract.crew import Crew, new_job

SQL = queries("jobs")
TABLES = ("processing_queue", "episodes")
# So few that one would rather read all of them.
FEW = 300


@pytest.fixture
async def crew(store, studio):
    """
    A crew whose tables are small, and known to be.
    """
    crew = Crew(store)
    await crew.submit(*[new_job() for _ in range(FEW)])
    for _ in range(FEW):
        await studio.create()
    await studio.rows("analyze processing_queue, episodes")
    return crew


@pytest.mark.parametrize("name", ["submit", "submit_once", "claim", "apply"])
async def test_rows_are_looked_up_by_their_keys(crew, store, name):
    """
    Such a plan is kept while the tables grow; one that reads all of them would take ever longer.
    """
    (job,) = await crew.claim(1)
    given = {
        "rooms": [{"type": "test.noop", "room": 1}],
        "changes": [change_params(decide.completed(job, None))],
        "jobs": [new_job_params(new_job())],
    }
    params = {key: json.dumps(value) for key, value in given.items()}
    params |= {"limit": 1, "source": "postgres", "owner": "here/1", "lease": 60.0, "hurried": False}
    params |= {"key": "once", "fingerprint": "of it"}
    async with store.job_pool.connection() as connection:
        found = await connection.execute("explain " + SQL[name], params | {"epoch": store.epoch})
        plan = [line for (line,) in await found.fetchall()]
    scans = [
        at for at, line in enumerate(plan) if " Scan" in line and line.split(" on ")[-1].split()[0] in TABLES
    ]
    assert scans
    for at in scans:
        assert "Cond: " in plan[at + 1], "\n".join(plan)
