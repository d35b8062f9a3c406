"""The peers, installed by the benchmark itself outside of the repository. Knows no measurement."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import psycopg.conninfo
from loads import BenchError
from programs import HERE, SECRET, Program, line, publisher, running, token

from engine.store.embedded import EmbeddedPostgres

PEERS = HERE / "peers"
# Seconds that a package manager has.
PATIENCE = 300


def check() -> None:
    """
    Look for what the peers are installed and run with. Raises BenchError.
    """
    _tool("node")
    _tool("npm")


@contextmanager
def socketio_on_node(
    directory: Path, core: int | None = None, *, data_only: bool = False
) -> Iterator[Program]:
    """
    Socket.IO on Node: peers/socketio/server.js. It emits whole frames, or their data only.
    """
    command = [*_node("socketio/server.js"), *(["data"] if data_only else [])]
    with publisher(directory, command, core) as program:
        yield program


@contextmanager
def socketio_on_python(directory: Path) -> Iterator[Program]:
    """
    python-socketio on uvicorn: peers/socketio/server.py.
    """
    with publisher(directory, [_python(), "-u", str(PEERS / "socketio/server.py")]) as program:
        yield program


@contextmanager
def express(directory: Path, *, tokens: bool) -> Iterator[Program]:
    """
    Express, pg and Socket.IO on a PostgreSQL with the binaries and the settings of Greenroom's own.

    With `tokens` it verifies those of its requests, as Greenroom does.
    """
    directory.mkdir()
    command = _node("express/server.js")
    postgres = EmbeddedPostgres(directory / "data")
    postgres.data_dir.mkdir(mode=0o711)
    conninfo = psycopg.conninfo.conninfo_to_dict(postgres.start())
    try:
        with psycopg.connect(postgres.conninfo) as connection:
            connection.execute((PEERS / "express/schema.sql").read_bytes())
        where = {
            "PGHOST": str(conninfo["host"]),
            "PGPORT": str(conninfo["port"]),
            "PGUSER": str(conninfo["user"]),
            "PGDATABASE": str(conninfo["dbname"]),
            "NODE_ENV": "production",
            "SECRET": SECRET if tokens else "",
        }
        with running(command, directory, where) as process:
            yield Program(process=process, port=int(line(process, r"ready on (\d+)")), token=token())
    finally:
        postgres.stop()


def _node(program: str) -> Sequence[str]:
    """
    The command that runs one of the peers' programs, its packages installed as the lock file says.
    """
    node, npm = _tool("node"), _tool("npm")

    def install(directory: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PEERS / name, directory)
        _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], directory)

    installed = _installed("node", (PEERS / "package-lock.json").read_bytes(), install)
    # Node looks for packages beside the program, so the program goes there.
    there = installed / program
    there.parent.mkdir(exist_ok=True)
    shutil.copy(PEERS / program, there)
    return [node, str(there)]


def _python() -> str:
    """
    The interpreter of an environment with the peers' packages.
    """
    requirements = PEERS / "requirements.txt"

    def install(directory: Path) -> None:
        _run([sys.executable, "-m", "venv", str(directory)], directory)
        _run(
            [str(directory / "bin/python"), "-m", "pip", "install", "-q", "-r", str(requirements)], directory
        )

    version = f"{sys.executable} {sys.version}\n".encode()
    return str(_installed("python", version + requirements.read_bytes(), install) / "bin/python")


def _installed(kind: str, what: bytes, install: Callable[[Path], None]) -> Path:
    """
    The directory where `what` is installed; it is kept for the next run.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "greenroom-bench"
    directory = cache / f"{kind}-{hashlib.sha256(what).hexdigest()[:16]}"
    complete = directory / "complete"
    if not complete.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        install(directory)
        complete.touch()
    return directory


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise BenchError(f"a peer cannot be installed: {' '.join(command)}\n{done.stderr[-1000:]}")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BenchError(
            f"{name} is needed for the peers that run on Node, and there is none here: "
            "install Node 20 or later (Debian: apt-get install nodejs npm)"
        )
    return found
