"""PostgreSQL goes away under load, in each way that it can: 503 meanwhile, nothing acknowledged is lost."""

import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import psycopg.conninfo
import pytest
import trio

from engine.store.embedded import EmbeddedPostgres
from tests.acceptance.outside import Listener, Load, Program, eventually

pytestmark = pytest.mark.slow

Serve = Callable[..., Awaitable[Program]]
Listen = Callable[..., Awaitable[Listener]]
OUTAGE = 10
# Seconds until any answer, less than an outage; a second or two on a machine that does not pause.
PROMPT = 8
# The program's own; tests of anything else have the patience for a machine that pauses.
DEFAULT = {"GREENROOM_DATABASE_STATEMENT_TIMEOUT": "1500ms"}
# Created before and after.
SOME = 30


async def test_a_postmaster_killed_again_and_again(serve: Serve, listen: Listen) -> None:
    """
    (a) kill -9 of the embedded PostgreSQL, whenever it has come back.
    """
    program = await serve(**DEFAULT)
    pid_file = program.data_dir / "postgres" / "postmaster.pid"

    async def outage() -> None:
        for _ in range(3):
            postmaster = int(pid_file.read_text().split()[0])
            os.kill(postmaster, signal.SIGKILL)
            await eventually(lambda old=postmaster: ready_postmaster(pid_file) not in (None, old))
            await eventually(lambda: answers_again(program))

    await ride_out(program, await listen(program), outage)


async def test_a_postgres_that_hangs(serve: Serve, listen: Listen) -> None:
    """
    (b) Every process of it is stopped for ten seconds and goes on: the connections stay open and say nothing.
    """
    program = await serve(**DEFAULT)

    async def outage() -> None:
        pids = program.postgres()
        assert len(pids) > 5
        signal_all(pids, signal.SIGSTOP)
        try:
            await trio.sleep(OUTAGE)
        finally:
            signal_all(pids, signal.SIGCONT)

    await ride_out(program, await listen(program), outage)


async def test_a_database_of_ones_own_that_is_restarted(
    serve: Serve, listen: Listen, database: EmbeddedPostgres
) -> None:
    """
    (c) A database named by DATABASE_URL is shut down, stays away for ten seconds, and is started again.
    """
    program = await serve(**DEFAULT, DATABASE_URL=url_of(database))
    assert not program.postgres()

    async def outage() -> None:
        assert database.pid is not None
        with suppress(psycopg.OperationalError), psycopg.connect(database.conninfo) as connection:
            # So that the shutdown comes in the middle of statements.
            connection.execute("lock table episodes")
            waiting = "select 1 from pg_locks where not granted"
            await eventually(lambda: connection.execute(waiting).fetchone())
            os.kill(database.pid, signal.SIGINT)
            await eventually(lambda: database.pid is None)
        await trio.sleep(OUTAGE)
        database.start()

    await ride_out(program, await listen(program), outage)


async def ride_out(program: Program, listener: Listener, outage: Callable[[], Awaitable[None]]) -> None:
    """
    Create episodes before, during and after the outage, and hold the node to all that it promises.
    """
    creating = Load(program=program, workers=4, pause=0.05)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(creating.run)
        await creating.wait_created(SOME)
        await outage()
        await creating.wait_created(len(creating.created) + SOME)
        creating.stop()
    assert not creating.broken
    refused = [answer for answer in creating.answers if answer.status != 201]
    assert refused, "nobody noticed"
    for answer in refused:
        assert answer.status == 503, answer.body
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"
    assert max(answer.seconds for answer in creating.answers) < PROMPT
    await listener.wait(lambda: set(creating.created) <= set(listener.created()))
    assert listener.closed is None
    ids = [frame["id"] for frame in listener.frames()]
    assert len(ids) == len(set(ids))
    await program.assert_recorded_once(creating.created)
    assert program.process.poll() is None


async def answers_again(program: Program) -> bool:
    return (await program.ask("GET", "/readyz")).status == 200


def ready_postmaster(pid_file: Path) -> int | None:
    """
    The pid of the postmaster, once it takes connections.
    """
    with suppress(FileNotFoundError):
        lines = pid_file.read_text().splitlines()
        if len(lines) > 7 and lines[7].strip() == "ready":
            return int(lines[0])
    return None


def signal_all(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def url_of(database: EmbeddedPostgres) -> str:
    """
    Where it is, as operators write it.
    """
    parts = psycopg.conninfo.conninfo_to_dict(database.conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={quote(str(parts['host']))}&port={parts['port']}"


@pytest.fixture
def database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> Iterator[EmbeddedPostgres]:
    """
    A PostgreSQL that Greenroom knows by its URL only.
    """
    monkeypatch.setattr(tempfile, "tempdir", environment["TMPDIR"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    postgres = EmbeddedPostgres(elsewhere)
    postgres.start()
    yield postgres
    postgres.stop()
