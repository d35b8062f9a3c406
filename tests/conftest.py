"""One PostgreSQL for the whole run, a fresh database for whoever asks; a data directory to be left clean."""

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psycopg
import psycopg.conninfo
import psycopg.sql
import pytest
import structlog

from engine.store.embedded import EmbeddedPostgres
from engine.store.migrate import migrate

if TYPE_CHECKING:
    from tests.queue_service import QueueService

_numbers = itertools.count(1)

# A machine that pauses is no mistake of the code's, and the same examples each time let a run judge a change.
# To look for new ones: pytest --hypothesis-profile=search.
_SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("search", deadline=None, suppress_health_check=_SLOW)
hypothesis.settings.register_profile(
    "same", hypothesis.settings.get_profile("search"), derandomize=True, database=None
)
hypothesis.settings.load_profile("same")

# Logged as plain text: structlog's own default draws every traceback with all its variables.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(colors=False),
    ]
)


@pytest.fixture(scope="session")
def postgres_conninfo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """
    An empty database, shared by all tests, on a PostgreSQL that forgets everything in a power cut.
    """
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("data"), parameters=quick)
    yield postgres.start()
    postgres.stop()


@pytest.fixture
def empty_database(postgres_conninfo: str) -> Iterator[str]:
    """
    An empty database of the test's own, dropped afterwards with whoever is still connected.
    """
    with _database(postgres_conninfo, f"test_{next(_numbers)}") as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def migrated_template(postgres_conninfo: str) -> Iterator[str]:
    """
    The name of a database with the schema and nothing else, to be copied: that is faster than to migrate.
    """
    name = "migrated"
    with _database(postgres_conninfo, name) as conninfo:
        migrate(conninfo)
        yield name


@pytest.fixture
def migrated_database(postgres_conninfo: str, migrated_template: str) -> Iterator[str]:
    """
    A database of the test's own with the present schema.
    """
    with _database(postgres_conninfo, f"test_{next(_numbers)}", migrated_template) as conninfo:
        yield conninfo


@contextlib.contextmanager
def _database(server: str, name: str, template: str = "template1") -> Iterator[str]:
    create = psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    drop = psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)")
    identifier = psycopg.sql.Identifier(name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(create.format(identifier, psycopg.sql.Identifier(template)))
        yield psycopg.conninfo.make_conninfo(server, dbname=name)
        connection.execute(drop.format(identifier))


@pytest.fixture(scope="session")
def _ministack(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[QueueService]":
    # Not before somebody needs it: boto3 takes its time.
    from tests.queue_service import serving

    with serving(tmp_path_factory.mktemp("sqs")) as service:
        yield service


@pytest.fixture
def queue_service(_ministack: "QueueService", monkeypatch: pytest.MonkeyPatch) -> "QueueService":
    """
    A real SQS endpoint, shared by all tests, and credentials for it where boto3 looks for them.
    """
    from tests.queue_service import CREDENTIALS

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return _ministack


@pytest.fixture
def data_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes_below: Callable[[Path], set[int]]
) -> Iterator[Path]:
    """
    A data directory that a test must leave without processes, and without sockets elsewhere.
    """
    sockets = Path(tempfile.mkdtemp(prefix="t-"))
    monkeypatch.setenv("TMPDIR", str(sockets))
    monkeypatch.setattr(tempfile, "tempdir", None)
    path = tmp_path / "data"
    path.mkdir(0o700)
    yield path
    orphans, litter = processes_below(path), list(sockets.iterdir())
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(sockets)
    assert not orphans
    assert not litter


@pytest.fixture
def processes_below() -> Callable[[Path], set[int]]:
    """
    Who works in a directory: a way to find a cluster's processes that is not the product's own.
    """

    def working(directory: Path) -> set[int]:
        found = set[int]()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
                if (process / "cwd").readlink().is_relative_to(directory):
                    found.add(int(process.name))
        return found

    return working
