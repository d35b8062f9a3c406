"""The programs under test, as processes: started, waited for, asked for their CPU time, stopped."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
from loads import BenchError

from engine.domain.access import Role
from gateway.auth import issue

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# All programs verify the same tokens.
SECRET = "only for benchmarks: 32 bytes or more"
TOKEN_SECONDS = 24 * 3600.0

# The durable defaults are left alone; only the limits that protect a node from one user are lifted.
SETTINGS = f"""
[auth]
secret = "{SECRET}"
[limits]
sessions_per_user = 10000
requests_per_second = 100000
request_burst = 100000
[log]
format = "json"
"""
WITHOUT_EFFECTS = SETTINGS + "[plugins]\nenabled = []\ndiscover = false\n"


@attrs.frozen(kw_only=True)
class Program:
    """
    A running server. `publish` is the port that it takes events on, 0 if it has none.
    """

    process: "subprocess.Popen[str]"
    port: int
    publish: int = 0
    token: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def memory(self) -> float:
        """
        KiB that the server's own process has in memory (proc(5), VmRSS).
        """
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return float(found[1])

    def cpu(self) -> float:
        """
        Seconds of CPU that the server's own process has used; PostgreSQL is not in it.
        """
        # proc(5): the fields after the command's name, which may have spaces in it.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def node(
    directory: Path, settings: str, *, publishing: bool = False, stock: bool = False, core: int | None = None
) -> Iterator[Program]:
    """
    Greenroom on an embedded PostgreSQL and an empty data directory of its own.

    With `publishing`, it stamps what it commits and takes events on a port: bench_node.py. With `stock`, it
    is served by stock Hypercorn: stock_node.py. With a `core`, it and its PostgreSQL run there alone.
    """
    directory.mkdir()
    config = directory / "greenroom.toml"
    config.write_text(settings)
    where = ["--config", str(config), "--data-dir", str(directory / "data")]
    program = ["-m", "gateway"]
    if publishing or stock:
        program = [str(HERE / ("bench_node.py" if publishing else "stock_node.py"))]
    command = [sys.executable, "-u", *program, "serve", "--port", "0", *where]
    with running(command, directory, core=core) as process:
        publish = int(line(process, r"publishing on (\d+)")) if publishing else 0
        port = int(line(process, r"greenroom ready on http://127\.0\.0\.1:(\d+)"))
        yield Program(process=process, port=port, publish=publish, token=token())


def token(user: str = "bench@example.com") -> str:
    """
    A token that every program here accepts.
    """
    return issue(SECRET.encode(), user=user, name=user, role=Role.OPERATOR, ttl=TOKEN_SECONDS)


@contextmanager
def alone(program: Program, core: int) -> Iterator[None]:
    """
    Let a running program's own process have a core for itself: what it started, and what we start from now
    on, runs on the others.
    """
    everywhere = os.sched_getaffinity(0)
    others = everywhere - {core}
    if core in everywhere and others:
        for pid in (os.getpid(), *_descendants(program.pid)):
            _pin(pid, others)
        _pin(program.pid, {core})
    try:
        yield
    finally:
        _pin(os.getpid(), everywhere)


def _descendants(pid: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/status"):
        # A process that ends meanwhile has none.
        with suppress(FileNotFoundError, ProcessLookupError):
            if f"\nPPid:\t{pid}\n" in status.read_text():
                child = int(status.parent.name)
                yield child
                yield from _descendants(child)


def _pin(pid: int, cores: Set[int]) -> None:
    # A thread or process that ends meanwhile needs no core.
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def publisher(directory: Path, command: Sequence[str], core: int | None = None) -> Iterator[Program]:
    """
    A peer that says where it takes events and where it serves.
    """
    directory.mkdir()
    with running(command, directory, {"SECRET": SECRET}, core=core) as process:
        publish = int(line(process, r"publishing on (\d+)"))
        port = int(line(process, r"ready on (\d+)"))
        yield Program(process=process, port=port, publish=publish)


@contextmanager
def running(
    command: Sequence[str],
    directory: Path,
    more: Mapping[str, str] | None = None,
    *,
    core: int | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """
    A process, until the block's end; what it said on stderr is told when the benchmark fails.
    """
    errors = directory / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment() | dict(more or {}),
            text=True,
            preexec_fn=None if core is None else partial(os.sched_setaffinity, 0, {core}),
        ) as process,
    ):
        try:
            yield process
        except BenchError as error:
            raise BenchError(f"{error}\n{errors.read_text()[-2000:]}".rstrip()) from None
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _environment() -> dict[str, str]:
    # What runs is this checkout, with its defaults: no settings from outside.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    kept.pop("DATABASE_URL", None)
    return {**kept, "PYTHONPATH": str(ROOT)}


def line(process: "subprocess.Popen[str]", pattern: str) -> str:
    """
    Wait until the process says something like this; answers the pattern's group.
    """
    assert process.stdout is not None
    for text in process.stdout:
        if (found := re.search(pattern, text)) is not None:
            return found[1]
    raise BenchError("the server did not start:")
