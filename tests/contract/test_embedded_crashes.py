"""The embedded PostgreSQL under kill -9: of the node, of the postmaster, in the middle of anything."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import trio

from engine.store import embedded
from engine.store.embedded import EmbeddedPostgres
from tests.patience import patience

_ROOT = Path(embedded.__file__).parents[2]
_QUICK = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
_HASTY = ((0.0, signal.SIGINT), (0.3, signal.SIGQUIT), (0.6, signal.SIGKILL))
_NODE = """
import sys, time
from pathlib import Path
from engine.store.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]))
print(postgres.start(), postgres.pid, sep="\\n", flush=True)
time.sleep(60)
"""
_NODE_KILLED_DURING_INITDB = """
import os, signal, sys
from pathlib import Path
from engine.store.embedded import EmbeddedPostgres
from engine.store.postgres_cluster import Cluster
spawn = Cluster.spawn
def spawn_and_die(cluster, command, *, inherit):
    process = spawn(cluster, command, inherit=inherit)
    while not any(Path(sys.argv[1]).glob("postgres.new-*/base")):
        assert process.poll() is None
    os.kill(os.getpid(), signal.SIGKILL)
Cluster.spawn = spawn_and_die
EmbeddedPostgres(Path(sys.argv[1])).start()
"""


def execute(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


@pytest.fixture
def postgres(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """
    Not yet started; stopped at the end.
    """
    postgres = EmbeddedPostgres(data_dir, parameters=_QUICK)
    yield postgres
    postgres.stop()


async def wait_restarted(postgres: EmbeddedPostgres, killed: int) -> None:
    while True:
        await trio.sleep(0.01)
        if postgres.pid not in (None, killed):
            with contextlib.suppress(psycopg.OperationalError):
                execute(postgres.conninfo, "SELECT 1")
                return


def test_kill_9_of_greenroom_takes_postgres_along_and_loses_nothing(
    data_dir: Path, processes_below: Callable[[Path], set[int]]
) -> None:
    """
    No orphan keeps running, and the next start has every row whose commit was acknowledged.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _NODE, data_dir], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        conninfo, pid = node.stdout.readline().strip(), int(node.stdout.readline())
        execute(conninfo, "CREATE TABLE kept AS SELECT 1 AS one")
        assert pid in processes_below(data_dir)
        node.kill()
    wait_until(lambda: not processes_below(data_dir))

    postgres = EmbeddedPostgres(data_dir)
    assert postgres.start() == conninfo  # the sockets' directory is found again
    assert execute(conninfo, "SELECT one FROM kept") == [(1,)]
    postgres.stop()


def test_a_start_ends_what_a_killed_node_left_running(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, processes_below: Callable[[Path], set[int]]
) -> None:
    """
    Even a postmaster that cannot answer does not keep the next node from starting.
    """
    monkeypatch.setattr(embedded, "_ENDINGS", _HASTY)
    with subprocess.Popen(
        [sys.executable, "-c", _NODE, data_dir], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        conninfo, left_over = node.stdout.readline().strip(), int(node.stdout.readline())
        os.kill(left_over, signal.SIGSTOP)
        node.kill()
    assert left_over in processes_below(data_dir)

    postgres = EmbeddedPostgres(data_dir)
    assert execute(postgres.start(), "SELECT 1") == [(1,)]
    assert postgres.conninfo == conninfo
    assert left_over not in processes_below(data_dir)
    postgres.stop()


def test_a_stranger_with_the_pid_of_a_dead_postmaster_is_left_alone(
    postgres: EmbeddedPostgres, data_dir: Path
) -> None:
    """
    After a reboot the recorded pid is anybody's: it neither keeps PostgreSQL from starting nor is it shot.
    """
    postgres.start()
    record = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    postgres.stop()
    root = os.geteuid() == 0
    with subprocess.Popen(["sleep", "60"], user="nobody" if root else None) as stranger:
        (data_dir / "postgres" / "postmaster.pid").write_text("\n".join([str(stranger.pid), *record[1:]]))
        assert execute(postgres.start(), "SELECT 1") == [(1,)]
        assert stranger.poll() is None
        stranger.kill()


async def test_kill_9_of_the_postmaster_is_mended_under_supervision(
    postgres: EmbeddedPostgres, nursery: trio.Nursery
) -> None:
    """
    It comes back by itself, at the same address, with every committed row, however often it is killed.
    """
    conninfo = postgres.start()
    await nursery.start(postgres.supervise)
    for round_ in range(2):
        execute(conninfo, f"CREATE TABLE kept_{round_} ()")
        killed = postgres.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        with patience():
            await wait_restarted(postgres, killed)
    assert execute(conninfo, "SELECT to_regclass('kept_0')::text, to_regclass('kept_1')::text") == [
        ("kept_0", "kept_1")
    ]
    nursery.cancel_scope.cancel()


async def test_a_backend_too_busy_to_notice_does_not_keep_it_down(
    postgres: EmbeddedPostgres, nursery: trio.Nursery, processes_below: Callable[[Path], set[int]]
) -> None:
    """
    A backend that computes on after the postmaster was killed holds its shared memory: it is ended.
    """
    conninfo = postgres.start()
    await nursery.start(postgres.supervise)
    with contextlib.closing(psycopg.connect(conninfo, autocommit=True)) as busy:
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 10000000000)")
        state = f"SELECT state FROM pg_stat_activity WHERE pid = {busy.info.backend_pid}"
        wait_until(lambda: execute(conninfo, state) == [("active",)])
        killed = postgres.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        with patience():
            await wait_restarted(postgres, killed)
        assert busy.info.backend_pid not in processes_below(postgres.data_dir)
    nursery.cancel_scope.cancel()


async def test_supervision_goes_on_while_it_cannot_start(
    postgres: EmbeddedPostgres, data_dir: Path, nursery: trio.Nursery
) -> None:
    """
    A cause that an operator can remove – a full disk, a wrong file – needs no restart of the node.
    """
    postgres.start()
    hidden, configuration = data_dir / "hidden", data_dir / "postgres" / "postgresql.conf"
    configuration.rename(hidden)
    await nursery.start(postgres.supervise)
    killed = postgres.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    log = data_dir / "postgres.log"
    with patience():
        while log.read_text().count("could not access the server configuration file") < 2:  # noqa: ASYNC110 - a file tells nobody
            await trio.sleep(0.01)
        hidden.rename(configuration)
        await wait_restarted(postgres, killed)
    nursery.cancel_scope.cancel()


def test_stopping_is_bounded_whatever_postgres_does(
    postgres: EmbeddedPostgres,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes_below: Callable[[Path], set[int]],
) -> None:
    """
    A postmaster that does not answer is killed, with all its children.
    """
    monkeypatch.setattr(embedded, "_ENDINGS", _HASTY)
    postgres.start()
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGSTOP)
    postgres.stop()
    assert postgres.pid is None
    assert not processes_below(data_dir)


def test_a_cluster_that_was_half_made_is_made_again(data_dir: Path) -> None:
    """
    kill -9 in the middle of initdb costs nothing but the next start's second.
    """
    node = subprocess.run([sys.executable, "-c", _NODE_KILLED_DURING_INITDB, data_dir], cwd=_ROOT, timeout=60)
    assert node.returncode == -signal.SIGKILL
    assert not (data_dir / "postgres").exists()
    assert list(data_dir.glob("postgres.new-*"))

    postgres = EmbeddedPostgres(data_dir, parameters=_QUICK)
    assert execute(postgres.start(), "SELECT 1") == [(1,)]
    assert not list(data_dir.glob("postgres.new-*"))
    postgres.stop()
