"""A node on a terminal that is closed: SIGHUP ends it in good order, and does not make it an orphan."""

import os
import pty
import signal
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import trio

from tests.acceptance.conftest import READY, ROOT
from tests.acceptance.outside import SOON, eventually, postgres_below
from tests.patience import patience


async def test_a_node_ends_with_its_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    """
    With 0, after a drain, and nothing is left running; a SIGHUP before that reloads.
    """
    ours, theirs = pty.openpty()
    data_dir = tmp_path / "data"
    command = [sys.executable, "-m", "gateway", "serve", "--data-dir", str(data_dir), "--port", "0"]

    def own_the_terminal() -> None:
        os.setsid()
        ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
        command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=own_the_terminal,
    )  # fmt: skip
    os.close(theirs)
    said = ""

    def hear() -> str:
        nonlocal said
        said += os.read(ours, 65536).decode().replace("\r\n", "\n")
        return said

    try:
        with patience(SOON):
            while not READY.search(await trio.to_thread.run_sync(hear, abandon_on_cancel=True)):
                pass
        process.send_signal(signal.SIGHUP)
        with patience(SOON):
            while "read anew" not in await trio.to_thread.run_sync(hear, abandon_on_cancel=True):
                pass
        assert process.poll() is None
        os.close(ours)
        await eventually(lambda: process.poll() is not None)
        assert process.returncode == 0
        assert postgres_below(data_dir) == set()
    finally:
        process.kill()
        process.wait()
