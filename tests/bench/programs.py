"""The programs under test, as processes: started, waited for, asked for their CPU time, stopped."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from loads import BenchError

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
USER = "bench@example.com"

# The durable defaults are left alone; only the limits that protect a node from one user are lifted.
SETTINGS = """
[limits]
sessions_per_user = 2000
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

    def cpu(self) -> float:
        """
        Seconds of CPU that the server's own process has used; PostgreSQL is not in it.
        """
        # proc(5): the fields after the command's name, which may have spaces in it.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def node(directory: Path, settings: str, *, publishing: bool = False) -> Iterator[Program]:
    """
    Greenroom on an embedded PostgreSQL and an empty data directory of its own.

    With `publishing`, it stamps what it commits and takes events on a port: bench_node.py.
    """
    directory.mkdir()
    config = directory / "greenroom.toml"
    config.write_text(settings)
    where = ["--config", str(config), "--data-dir", str(directory / "data")]
    program = [str(HERE / "bench_node.py")] if publishing else ["-m", "gateway"]
    with _running([*program, "serve", "--port", "0", *where], directory) as process:
        publish = int(_line(process, r"publishing on (\d+)")) if publishing else 0
        port = int(_line(process, r"greenroom ready on http://127\.0\.0\.1:(\d+)"))
        token = subprocess.check_output(
            [sys.executable, "-m", "gateway", "token", "--user", USER, *where], env=_environment(), text=True
        ).strip()
        yield Program(process=process, port=port, publish=publish, token=token)


@contextmanager
def plain_loop(directory: Path) -> Iterator[Program]:
    """
    The peer: `await websocket.send` for each subscriber under Quart-Trio on stock Hypercorn.
    """
    directory.mkdir()
    with _running([str(HERE / "plain_loop.py")], directory) as process:
        publish = int(_line(process, r"publishing on (\d+)"))
        port = int(_line(process, r"ready on (\d+)"))
        yield Program(process=process, port=port, publish=publish)


@contextmanager
def _running(command: Sequence[str], directory: Path) -> Iterator["subprocess.Popen[str]"]:
    errors = directory / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-u", *command],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(),
            text=True,
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


def _line(process: "subprocess.Popen[str]", pattern: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if (found := re.search(pattern, line)) is not None:
            return found[1]
    raise BenchError("the server did not start:")
