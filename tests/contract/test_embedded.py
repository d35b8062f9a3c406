"""The embedded PostgreSQL: it starts anywhere, survives every kill, and leaves nothing behind."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import trio

from engine.errors import StartupError
from engine.store import embedded, postgres_binaries
from engine.store.embedded import EmbeddedPostgres
from engine.store.postgres_cluster import Cluster
from tests.patience import patience

_ROOT = Path(embedded.__file__).parents[2]
_QUICK = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
_NODE_OF_AN_ORDINARY_USER = """
import os, sys
from pathlib import Path
import psycopg
from engine.store import postgres_cluster
from engine.store.embedded import EmbeddedPostgres
from engine.store.postgres_binaries import account, runnable_directory
who = account("nobody")
binaries = runnable_directory(who)
postgres_cluster.runnable_directory = lambda _: binaries
os.setgroups([]); os.setgid(who.gid); os.setuid(who.uid)
for _ in range(2):
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    with psycopg.connect(postgres.start()) as connection:
        print(connection.execute("SELECT current_user").fetchone()[0])
    postgres.stop()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def execute(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def postgres(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """
    Not yet started; stopped at the end.
    """
    postgres = EmbeddedPostgres(data_dir, parameters=_QUICK)
    yield postgres
    postgres.stop()


def test_what_was_committed_is_there_after_a_restart(data_dir: Path) -> None:
    """
    The first start makes the cluster, every later one finds it, each with the same call.
    """
    first = EmbeddedPostgres(data_dir)
    conninfo = first.start()
    assert first.conninfo == conninfo
    execute(conninfo, "CREATE TABLE kept AS SELECT 1 AS one")
    first.stop()
    assert first.pid is None

    second = EmbeddedPostgres(data_dir)
    assert execute(second.start(), "SELECT one FROM kept") == [(1,)]
    second.stop()


def test_it_is_durable_and_reachable_from_this_machine_only(data_dir: Path) -> None:
    """
    What an operator would set by hand for data that matters is set.
    """
    postgres = EmbeddedPostgres(data_dir)
    conninfo = postgres.start()
    for setting, value in {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "jit": "off",
    }.items():
        assert execute(conninfo, f"SHOW {setting}") == [(value,)], setting
    assert execute(conninfo, "SELECT current_user::text, current_database()::text") == [
        ("greenroom", "greenroom")
    ]
    postgres.stop()


def test_parameters_of_the_operator_win(data_dir: Path) -> None:
    """
    Every setting of ours can be overridden.
    """
    postgres = EmbeddedPostgres(data_dir, parameters={**_QUICK, "max_connections": "7"})
    assert execute(postgres.start(), "SHOW max_connections") == [("7",)]
    postgres.stop()


@as_root
def test_as_root_it_runs_as_nobody_behind_closed_doors(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    """
    PostgreSQL gives up root, and still reaches a directory whose parents are root's alone.
    """
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700 and data_dir.stat().st_uid == 0
    postgres.start()
    nobody = pwd.getpwnam("nobody").pw_uid
    assert Path(f"/proc/{postgres.pid}").stat().st_uid == nobody
    assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "postgres.log").stat().st_mode) == 0o600


@as_root
def test_only_greenrooms_own_user_is_let_in(postgres: EmbeddedPostgres) -> None:
    """
    Who can open the socket still has to be the operating system's user that Greenroom runs as.
    """
    who = postgres_binaries.account("nobody")
    binaries = postgres_binaries.runnable_directory(who)
    conninfo = postgres.start()
    Path(tempfile.gettempdir()).chmod(0o755)

    def psql(user: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binaries / "bin" / "psql", conninfo, "-XAtc", "SELECT 'in'"],
            user=user,
            cwd="/",
            env={"LC_ALL": "C"},
            capture_output=True,
            text=True,
        )

    assert psql(0).stdout == "in\n"
    refused = psql(who.uid)
    assert refused.stdout == "" and "Peer authentication failed" in refused.stderr


@as_root
def test_an_ordinary_user_runs_it_too(processes_below: Callable[[Path], set[int]]) -> None:
    """
    Without root nothing is dropped, chowned or copied, and it works the same.
    """
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="t-") as own:
        os.chown(own, nobody.pw_uid, nobody.pw_gid)
        node = subprocess.run(
            [sys.executable, "-c", _NODE_OF_AN_ORDINARY_USER, own],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert node.stdout == "greenroom\ngreenroom\n", node.stderr
        assert not processes_below(Path(own))
        assert {entry.stat().st_uid for entry in Path(own).iterdir()} == {nobody.pw_uid}


def test_stopping_what_never_ran_does_nothing(data_dir: Path) -> None:
    """
    A node that failed early stops what it has without asking how far it came.
    """
    postgres = EmbeddedPostgres(data_dir)
    postgres.stop()
    postgres.stop()
    assert list(data_dir.iterdir()) == []


def test_another_versions_cluster_is_refused_and_kept(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    """
    Data of an older PostgreSQL is named as such; nothing touches it.
    """
    _cluster_of_version(data_dir, "16")
    with pytest.raises(StartupError, match=r"was made by PostgreSQL 16, this is PostgreSQL 18"):
        postgres.start()
    assert [entry.name for entry in (data_dir / "postgres").iterdir()] == ["PG_VERSION"]


def test_a_directory_that_is_no_cluster_is_refused_and_kept(
    postgres: EmbeddedPostgres, data_dir: Path
) -> None:
    """
    What has the cluster's name but is none may be somebody's data: it is not overwritten.
    """
    _cluster_of_version(data_dir, None)
    with pytest.raises(StartupError, match="is no PostgreSQL cluster"):
        postgres.start()


@as_root
def test_another_users_cluster_is_refused(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    """
    A cluster made as one user and started as another says whose it is, instead of changing hands.
    """
    _cluster_of_version(data_dir, "18")
    os.chown(data_dir / "postgres", 1, 1)
    with pytest.raises(StartupError, match="belongs to the user with the id 1"):
        postgres.start()


def _cluster_of_version(data_dir: Path, major: str | None) -> None:
    cluster = data_dir / "postgres"
    cluster.mkdir(0o700)
    if major is not None:
        (cluster / "PG_VERSION").write_text(f"{major}\n")
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(cluster, nobody.pw_uid, nobody.pw_gid)


def test_a_failing_postgres_says_why(data_dir: Path) -> None:
    """
    The operator reads PostgreSQL's own words, not "see the log", and nothing is left running.
    """
    postgres = EmbeddedPostgres(data_dir, parameters={**_QUICK, "shared_buffers": "plenty"})
    with pytest.raises(StartupError, match='invalid value for parameter "shared_buffers": "plenty"'):
        postgres.start()
    assert postgres.pid is None


@as_root
@pytest.mark.parametrize(
    ("run_as", "complaint"), [("root", "refuses to run as 'root'"), ("nemo", "no user 'nemo'")]
)
def test_a_user_it_cannot_run_as_is_refused(data_dir: Path, run_as: str, complaint: str) -> None:
    """
    The name in the settings is checked before anything is made.
    """
    with pytest.raises(StartupError, match=complaint):
        EmbeddedPostgres(data_dir, run_as=run_as).start()
    assert list(data_dir.iterdir()) == []


@pytest.mark.parametrize(("ours", "mode"), [(True, 0o755), pytest.param(False, 0o700, marks=as_root)])
def test_a_socket_directory_that_is_not_private_is_not_trusted(
    postgres: EmbeddedPostgres, data_dir: Path, tmp_path: Path, ours: bool, mode: int
) -> None:
    """
    After a crash the sockets' directory is used again only if nobody else can have made it or enter it.
    """
    planted = tmp_path / "planted"
    planted.mkdir()
    if os.geteuid() == 0:
        os.chown(planted, pwd.getpwnam("nobody").pw_uid if ours else 1, -1)
    planted.chmod(mode)
    (data_dir / "postgres.socket").symlink_to(planted)
    conninfo = postgres.start()
    sockets = (data_dir / "postgres.socket").resolve()
    assert sockets != planted and str(sockets) in conninfo
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert list(planted.iterdir()) == []


def test_a_temporary_directory_too_long_for_sockets_is_named(
    postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A Unix socket's path has 107 bytes; who set TMPDIR learns that it has to be shorter.
    """
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(StartupError, match="set TMPDIR to a shorter one"):
        postgres.start()
    assert list(deep.iterdir()) == []


async def test_the_log_stays_bounded_while_postgres_writes_to_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """
    What was logged before the bound was reached is kept once, and new lines still arrive.
    """
    monkeypatch.setattr("engine.store.postgres_cluster._LOG_BYTES", 5_000)
    postgres = EmbeddedPostgres(data_dir, parameters={**_QUICK, "log_statement": "all"})
    conninfo, log = postgres.start(), data_dir / "postgres.log"
    await nursery.start(postgres.supervise)
    execute(conninfo, f"SELECT '{'old ' * 2_000}'")
    with patience():
        while log.stat().st_size > 5_000:  # noqa: ASYNC110 - a file tells nobody
            await trio.sleep(0.01)
    assert "old old" in (data_dir / "postgres.log.1").read_text()
    execute(conninfo, "SELECT 'new'")
    assert "SELECT 'new'" in log.read_text()
    assert b"\0" not in log.read_bytes()
    nursery.cancel_scope.cancel()
    postgres.stop()


@as_root
def test_binaries_behind_closed_doors_are_copied_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A virtual environment in root's home serves: what PostgreSQL's user cannot reach is copied once.
    """
    installed = postgres_binaries.wheel_directory()
    wheel = tmp_path / installed.parent.name / installed.name
    shutil.copytree(installed, wheel, ignore=shutil.ignore_patterns("include"))
    libraries = f"{installed.parent.name}.libs"
    shutil.copytree(installed.parents[1] / libraries, tmp_path / libraries)
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    reachable = Path(tempfile.mkdtemp(prefix="t-", dir="/var/tmp"))
    reachable.chmod(0o755)
    foreign, own = reachable / "foreign", reachable / "own"
    foreign.mkdir()
    os.chown(foreign, 1, 1)
    monkeypatch.setattr(postgres_binaries, "wheel_directory", lambda: wheel)
    monkeypatch.setattr(postgres_binaries, "COPIES", (foreign, own))
    try:
        postgres = EmbeddedPostgres(data_dir, parameters=_QUICK)
        assert execute(postgres.start(), "SELECT 1") == [(1,)]
        assert Path(f"/proc/{postgres.pid}/exe").readlink().is_relative_to(own)
        postgres.stop()
        made = own.stat().st_mtime_ns
        postgres_binaries.runnable_directory(postgres_binaries.account("nobody"))
        assert own.stat().st_mtime_ns == made
        assert list(foreign.iterdir()) == []

        monkeypatch.setattr(postgres_binaries, "COPIES", (foreign,))
        with pytest.raises(
            StartupError,
            match=r"'nobody' cannot run its binaries: .* is not a directory that only root can write",
        ):
            postgres.start()
    finally:
        shutil.rmtree(reachable)


def test_another_clusters_processes_are_not_taken_for_ours(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """
    Two nodes with a data directory each may run on one machine; neither ends the other's PostgreSQL.
    """
    postgres.start()
    other = tmp_path / "other"
    (other / "postgres").mkdir(parents=True)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(other / "postgres", nobody.pw_uid, nobody.pw_gid)
    assert postgres.pid in Cluster(postgres.data_dir).processes()
    assert Cluster(other).processes() == set()
