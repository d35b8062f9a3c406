"""kill -9 of the node in the middle of hundreds of jobs, again and again: each ends, and happens, once."""

import os
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.acceptance.outside import Program, eventually

Serve = Callable[..., Awaitable[Program]]
# By hand with more; the variables are the test's, not the program's.
JOBS = int(os.environ.get("ACCEPTANCE_JOBS", "500"))
KILLS = int(os.environ.get("ACCEPTANCE_KILLS", "6"))
SEED = int(os.environ.get("ACCEPTANCE_SEED", "0")) or random.randrange(10**6)

# Every seventh job fails at first, every eleventh for good; each writes a row as it begins and as it ends.
PLUGIN = """
import random
import trio
from engine.hookspecs import Discard, JobHandler, hookimpl


@hookimpl
async def engine_started(engine):
    async with engine.transaction() as transaction:
        await transaction.execute("create table if not exists happened (job uuid, attempt int, what text)")


async def work(context):
    job, number = context.job, context.job.payload["number"]
    await trio.sleep(random.random() / 5)
    await context.progress(0.3)
    if number % 7 == 0 and job.attempt == 1:
        raise RuntimeError("not at the first attempt")
    async with context.transaction() as transaction:
        row = [job.id, job.attempt]
        await transaction.execute("insert into happened values (%s, %s, 'begun')", row)
        await trio.sleep(random.random() / 10)
        if number % 11 == 0:
            raise Discard("never")
        await transaction.execute("insert into happened values (%s, %s, 'ended')", row)
    await context.progress(1)
    return number


async def tell(context):
    async with context.engine.transaction() as transaction:
        rows = await transaction.fetch(
            "select job::text, attempt, what from happened order by job, attempt, what offset %s limit 500",
            [context.job.payload["offset"]],
        )
    return [[row["job"], row["attempt"], row["what"]] for row in rows]


@hookimpl
def job_handlers():
    return [
        JobHandler(
            type="crash.work", run=work, concurrency=16, max_attempts=50, backoff_first=0.02, backoff_cap=0.2
        ),
        JobHandler(type="crash.tell", run=tell),
    ]
"""
SETTINGS = """
[plugins]
enabled = ["activity", "notifications", "audit", "crashing"]

[jobs]
transactions = 8
"""
# Queued; begun and given up any number of times; begun; ended once. A letter stands for an event.
LETTERS = {
    "job_queued": "q",
    "job_processor_started": "s",
    "job_progress": "p",
    "job_retry": "r",
    "job_completed": "c",
    "job_failed": "f",
}
RIGHT = re.compile(r"q(sp*r)*sp*[cf]")


@pytest.mark.slow
async def test_every_job_ends_once_and_has_happened_once_whenever_the_node_is_killed(
    serve: Serve, tmp_path: Path
) -> None:
    """
    No transition twice or out of order; what a handler wrote is there once for each that completed, and for
    no other.
    """
    chance = random.Random(SEED)
    print("seed", SEED)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "crashing.py").write_text(PLUGIN)
    settings = tmp_path / "greenroom.toml"
    settings.write_text(SETTINGS)

    async def start() -> Program:
        started = await serve("--config", settings, PYTHONPATH=str(plugins))
        started.expected_crash = "not at the first attempt"
        return started

    program = await start()
    episode = (await program.create())["id"]
    jobs = await submit_all(program, episode)
    for number in range(KILLS):
        # From right after the start to when a good part of what is left may be done.
        await trio.sleep(chance.random() * (0.3, 1.2)[number % 2])
        await program.kill()
        program = await start()
    await eventually(lambda: is_done(program, len(jobs)))
    assert await assert_ended_once(program, jobs), "it was never killed in the middle"
    await check_logs(program, episode)
    await program.wait_recorded()


async def submit_all(program: Program, episode: str) -> list[str]:
    """
    Every third job belongs to the episode. All of them are there before the first begins.
    """
    steer = "/api/v1/engine/jobs/types/crash.work"
    assert (await program.ask("POST", f"{steer}/pause")).status == 200

    def submit() -> list[str]:
        connection = program.connect()
        jobs = []
        for number in range(JOBS):
            job = {
                "type": "crash.work",
                "payload": {"number": number},
                "episode_id": episode if number % 3 == 0 else None,
            }
            answer = program.ask_with(connection, "POST", "/api/v1/jobs", job)
            assert answer.status == 202, answer.body
            jobs.append(answer.json["id"])
        connection.close()
        return jobs

    jobs = await trio.to_thread.run_sync(submit)
    assert (await program.ask("POST", f"{steer}/resume")).status == 200
    return jobs


async def assert_ended_once(program: Program, jobs: list[str]) -> int:
    """
    Each job ended as its number wants it, and wrote what it did once; answers how many attempts were lost.
    """
    rows = await happened(program)
    lost = 0
    for job in jobs:
        shown = (await program.ask("GET", f"/api/v1/jobs/{job}")).json
        lost += check_history(shown)
        fails = shown["payload"]["number"] % 11 == 0
        assert shown["state"] == ("failed" if fails else "completed"), shown
        expected = [] if fails else [(shown["attempt"], "begun"), (shown["attempt"], "ended")]
        assert sorted(rows.get(job, [])) == expected, shown
    print(lost, "attempts were lost")
    return lost


async def is_done(program: Program, count: int) -> bool:
    answer = await program.ask("GET", "/api/v1/engine/jobs")
    work = answer.json["types"].get("crash.work", {})
    return sum(work.get(state, 0) for state in ("queued", "running", "retry")) == 0


async def happened(program: Program) -> dict[str, list[tuple[int, str]]]:
    """
    What the handlers have written, by job.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    offset, rows = 0, None
    while rows != []:
        wanted = {"type": "crash.tell", "payload": {"offset": offset}}
        job = (await program.ask("POST", "/api/v1/jobs", wanted)).json["id"]

        async def is_told(job: str = job) -> bool:
            return (await program.ask("GET", f"/api/v1/jobs/{job}")).json["state"] == "completed"

        await eventually(is_told)
        rows = (await program.ask("GET", f"/api/v1/jobs/{job}")).json["result"]
        for name, attempt, what in rows:
            found.setdefault(name, []).append((attempt, what))
        offset += len(rows)
    return found


def check_history(job: dict[str, Any]) -> int:
    """
    What happened to a job is one right way through its states; answers how many attempts a killed node lost.
    """
    history = job["history"]
    way = "".join(LETTERS[frame["event"]] for frame in history)
    assert RIGHT.fullmatch(way), (way, job)
    offsets = [frame["offset"] for frame in history]
    assert offsets == sorted(set(offsets)), job
    begun = [
        frame["data"]["job"]["attempt"] for frame in history if frame["event"] == "job_processor_started"
    ]
    assert begun == list(range(1, len(begun) + 1)), job
    return sum("was lost" in frame["data"].get("error", "") for frame in history)


async def check_logs(program: Program, episode: str) -> None:
    """
    The episode's log has no hole.
    """
    since, offsets = 0, []
    while True:
        answer = await program.ask("GET", f"/api/v1/episodes/{episode}/events?since={since}&limit=200")
        offsets += [frame["offset"] for frame in answer.json["data"]]
        if not answer.json["more"]:
            break
        since = offsets[-1]
    assert offsets == list(range(1, len(offsets) + 1))
