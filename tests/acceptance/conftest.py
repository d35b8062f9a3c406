"""The real program as a process of its own, and clients of it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.acceptance.outside import SOON, Listener, Program
from tests.patience import patience

ROOT = Path(__file__).parents[2]
READY = re.compile(r"greenroom ready on http://127\.0\.0\.1:(\d+) .*pid (\d+)\)\n")

# A machine that pauses is no database that is away; whose test is about that says otherwise.
PATIENT = {"GREENROOM_DATABASE_STATEMENT_TIMEOUT": "10s"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than five seconds; deselect with -m 'not slow'")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """
    An environment with nothing of Greenroom's in it; nothing may be left in its TMPDIR.
    """
    # Not below tmp_path: the path of a socket is at most 107 bytes long.
    scratch = Path(tempfile.mkdtemp(prefix="acc-"))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GREENROOM_") and name not in ("DATABASE_URL", "PYTHONPATH")
    }
    yield {**kept, "TMPDIR": str(scratch), "HOME": str(scratch)}
    shutil.rmtree(scratch)


@pytest.fixture
def greenroom(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """
    Run a command to its end: `greenroom("token", "--user", "bob")`.
    """

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *map(str, arguments)],
            cwd=ROOT,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=SOON,
        )

    return run


@pytest.fixture
def programs(environment: dict[str, str]) -> Iterator[list[Program]]:
    """
    What was started. At the end all of it stops in good order, without orphan, litter or traceback.
    """
    started: list[Program] = []
    yield started
    try:
        for program in started:
            if program.process.poll() is None:
                program.process.terminate()
            code = program.process.wait(SOON)
            assert program.killed or code == 0, program.errors.read_text()
        assert not any(program.postgres() for program in started if not program.killed)
        if not any(program.killed for program in started[-1:]):
            assert list(Path(environment["TMPDIR"]).iterdir()) == []
    finally:
        for program in started:
            program.process.kill()
            program.process.wait()
            for pid in program.postgres():
                os.kill(pid, signal.SIGKILL)
    for program in started:
        for line in program.errors.read_text().splitlines():
            expected = program.expected_crash is not None and program.expected_crash in line
            assert "Traceback" not in line or expected, line


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A data directory as a first start and its end leave it: to copy it is faster than to make a cluster.
    """
    directory = tmp_path_factory.mktemp("grown") / "data"
    command = [sys.executable, "-m", "gateway", "serve", "--data-dir", str(directory), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert READY.fullmatch(process.stdout.readline())
        process.terminate()
        assert process.wait(SOON) == 0
    return directory


@pytest.fixture
def serve(
    tmp_path: Path, environment: dict[str, str], programs: list[Program], grown: Path
) -> Callable[..., Awaitable[Program]]:
    """
    Start the program and wait until it is ready: `await serve("--config", file, GREENROOM_FEED_POLL="1s")`.

    It finds a database that has nothing in it yet; in a `data_dir` of the test's own it makes one.
    """

    async def start(*arguments: object, data_dir: Path | None = None, **more: str) -> Program:
        directory = tmp_path / "data" if data_dir is None else data_dir
        if not directory.exists() and data_dir is None and "DATABASE_URL" not in more:
            # With owners: as root, the cluster is another user's.
            subprocess.run(["cp", "-a", grown, directory], check=True)  # noqa: ASYNC221 (40 MB, at once)
        errors = tmp_path / f"stderr-{len(programs)}"
        command = [
            sys.executable,
            "-m",
            "gateway",
            "serve",
            "--data-dir",
            directory,
            "--port",
            "0",
            *arguments,
        ]
        with errors.open("w") as stderr:
            process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
                [str(word) for word in command],
                cwd=ROOT,
                env={**environment, **PATIENT, **more},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        program = Program(process=process, data_dir=directory, errors=errors)
        programs.append(program)
        assert process.stdout is not None
        with patience(SOON):
            line = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
        ready = READY.fullmatch(line)
        assert ready, (line, errors.read_text())
        assert int(ready[2]) == process.pid
        program.port = int(ready[1])
        return program

    return start


@pytest.fixture
def listen(nursery: trio.Nursery) -> Callable[..., Awaitable[Listener]]:
    """
    Connect a WebSocket client and collect what it is told: `await listen(program, user="bob@example.com")`.
    """

    async def run(program: Program, user: str, task_status: trio.TaskStatus[Listener]) -> None:
        url = f"ws://127.0.0.1:{program.port}/real-time"
        bearer = f"Bearer {program.token(user, 'viewer')}".encode()
        async with open_websocket_url(url, extra_headers=[(b"Authorization", bearer)]) as socket:
            listener = Listener(socket)
            task_status.started(listener)
            await listener.listen()

    async def connect(program: Program, user: str = "bob@example.com") -> Listener:
        listener: Listener = await nursery.start(run, program, user)
        # Once this is answered, the session hears the catalog.
        assert (await listener.answer("connected", type="ping"))["type"] == "ok"
        return listener

    return connect
