"""Jobs against bare loops of SQL on the same PostgreSQL, in turns. Run by jobs.py; prints JSON."""

import argparse
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import psycopg
import trio

from conf.settings import load
from engine.domain.event import JobId, Request, UserId
from engine.domain.job_request import NewJob
from engine.hookspecs import JobContext, JobHandler, hookimpl
from engine.node import Node
from engine.plugin_host.host import PluginHost
from engine.runtime.garbage import short_pauses
from engine.store.embedded import EmbeddedPostgres
from engine.store.migrate import migrate

BATCH = 10
# Seconds between two wake-ups: what is woken was asleep, and has done with the last.
PAUSE = 0.02
KIND = "bench.noop"

BARE = """
create table bare_queue (
    id uuid primary key default gen_random_uuid(), seq bigint generated always as identity,
    state text not null default 'queued', payload jsonb not null default '{}', owner text, result jsonb);
create index bare_queue_claim on bare_queue (seq) where state = 'queued'
"""
CLAIM = """
update bare_queue set state = 'running', owner = 'bench'
where id in (select id from bare_queue where state = 'queued' order by seq limit %s for update skip locked)
returning id
"""
COMPLETE = "update bare_queue set state = 'completed', result = '{}' where id = any(%s)"


@attrs.define(eq=False)
class Noop:
    """
    A plugin whose job does nothing, and notes when it began.
    """

    began: float = 0.0
    ran: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, context: JobContext) -> None:
        self.began = time.perf_counter()
        await trio.lowlevel.checkpoint()
        self.ran.set()

    @hookimpl
    def job_handlers(self) -> list[JobHandler]:
        return [JobHandler(type=KIND, run=self.run, concurrency=1000)]


def bare_rate(conninfo: str, count: int) -> float:
    """
    Jobs a second of a loop that claims ten, and completes them.
    """
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=0) as connection:
        connection.execute("truncate bare_queue")
        connection.execute(
            "insert into bare_queue (payload) select '{}' from generate_series(1, %s)", [count]
        )
        began, done = time.perf_counter(), 0
        while ids := [row[0] for row in connection.execute(CLAIM, [BATCH])]:
            connection.execute(COMPLETE, [ids])
            done += len(ids)
        assert done == count
        return count / (time.perf_counter() - began)


@contextmanager
def bare_worker(conninfo: str, claimed: "list[float]", got: threading.Semaphore) -> Iterator[None]:
    """
    Somebody who listens, and claims one job for each notification.
    """
    ready, over = threading.Event(), threading.Event()

    def work() -> None:
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=0) as connection:
            connection.execute("listen bare")
            ready.set()
            while not over.is_set():
                heard = list(connection.notifies(timeout=0.5, stop_after=1))
                if heard and connection.execute(CLAIM, [1]).fetchone():
                    claimed.append(time.perf_counter())
                    got.release()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def bare_wake_up(conninfo: str, count: int) -> list[float]:
    """
    Seconds from before an INSERT with a NOTIFY until the listener has claimed the job.
    """
    claimed: list[float] = []
    got, times = threading.Semaphore(0), []
    with (
        bare_worker(conninfo, claimed, got),
        psycopg.connect(conninfo, autocommit=True, prepare_threshold=0) as connection,
    ):
        connection.execute("truncate bare_queue")
        for _ in range(count):
            time.sleep(PAUSE)
            began = time.perf_counter()
            connection.execute(
                "with job as (insert into bare_queue (payload) values ('{}')) select pg_notify('bare', '')"
            )
            got.acquire()
            times.append(claimed[-1] - began)
    return times


def new_jobs(count: int) -> list[NewJob]:
    """
    Jobs that do nothing.
    """
    return [
        NewJob(
            id=JobId(str(uuid.uuid4())),
            type=KIND,
            payload={},
            max_attempts=3,
            timeout=60.0,
            source="rest",
            user=UserId("bench"),
            # As over REST: each submission is a mutation of its own.
            request=Request(mutation_id=str(uuid.uuid4())),
        )
        for _ in range(count)
    ]


async def our_rate(node: Node, count: int) -> float:
    """
    Jobs a second, claimed, run and completed, with their events in the log.
    """
    await node.store.job_list.pause("type", KIND, UserId("bench"))
    for _ in range(0, count, 500):
        await node.store.jobs.submit(new_jobs(500))
    counts = node.workshop.statistics.of(KIND)
    # What follows from submitting them is not measured.
    node.feed.wake()
    await quiet(node)
    await node.store.job_list.resume("type", KIND)
    before, began = counts.completed, time.perf_counter()
    node.workshop.dispatcher.wake()
    while counts.completed < before + count:  # noqa: ASYNC110 -- no event tells of it
        await trio.sleep(0.005)
    return count / (time.perf_counter() - began)


async def quiet(node: Node) -> None:
    """
    Wait until the feed, and every plugin, has handled everything.
    """
    end = (await node.store.log.end()).xid
    while node.feed.place.xid < end and await node.store.log.after(node.feed.place, 1):  # noqa: ASYNC110
        await trio.sleep(0.02)
    for actor in node.effects.values():
        while await node.store.cursors.lag(actor.cursor.place):  # noqa: ASYNC110
            await trio.sleep(0.05)


async def our_wake_up(node: Node, noop: Noop, count: int) -> list[float]:
    """
    Seconds from before a job is submitted until its handler begins.
    """
    times = []
    for _ in range(count):
        await trio.sleep(PAUSE)
        noop.ran = trio.Event()
        # As the bare loop's row is written down before its clock starts.
        jobs = new_jobs(1)
        began = time.perf_counter()
        for event in await node.store.jobs.submit(jobs):  # type: ignore[union-attr]
            node.feed.committed(event)
        node.workshop.dispatcher.due(0.0)
        await noop.ran.wait()
        times.append(noop.began - began)
    return times


async def measure(
    conninfo: str, plugins: tuple[str, ...], jobs: int, wakes: int, rounds: int
) -> dict[str, Any]:
    """
    Each in its turn, so often.
    """
    overrides = {"plugins.enabled": list(plugins), "jobs.concurrency": 100, "plugins.discover": False}
    settings = load(None, environ={}, overrides=overrides).settings
    host = PluginHost(decision_budget=1.0)
    host.load(plugins, discover=False)
    noop = Noop()
    host.register(noop, "noop")
    node = await Node.open(settings, conninfo, host)

    async def gateway(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    found: dict[str, list[float]] = {"bare": [], "ours": [], "bare_wake": [], "our_wake": []}
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: node.run(gateway, task_status=task_status))
        await our_rate(node, 500)
        await our_wake_up(node, noop, 20)
        for _ in range(rounds):
            found["bare"].append(await trio.to_thread.run_sync(bare_rate, conninfo, jobs))
            found["ours"].append(await our_rate(node, jobs))
            await quiet(node)
            found["bare_wake"].append(median(await trio.to_thread.run_sync(bare_wake_up, conninfo, wakes)))
            found["our_wake"].append(median(await our_wake_up(node, noop, wakes)))
            await quiet(node)
        await node.stop()
    return found


def main() -> None:
    """
    Start a PostgreSQL as the node does, measure, print.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--wakes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--plugins", default="")
    given = parser.parse_args()
    given.directory.mkdir(mode=0o700, exist_ok=True)
    postgres = EmbeddedPostgres(given.directory)
    conninfo = postgres.start()
    try:
        migrate(conninfo)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(BARE)
        plugins = tuple(filter(None, given.plugins.split(",")))
        # As `greenroom serve` runs a node.
        with short_pauses():
            found = trio.run(measure, conninfo, plugins, given.jobs, given.wakes, given.rounds)
    finally:
        postgres.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
