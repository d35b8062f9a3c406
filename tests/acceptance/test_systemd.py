"""The real program under a service manager: ready, alive, reloading, stopping."""

import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from tests.acceptance.outside import Program, eventually


async def test_a_service_manager_hears_when_it_is_ready_alive_and_stopping(
    serve: Callable[..., Awaitable[Program]], tmp_path: Path
) -> None:
    """
    READY once it serves, WATCHDOG while the loop gets round, RELOADING on SIGHUP, STOPPING before the drain.
    """
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        def hear() -> list[str]:
            try:
                while True:
                    said.append(manager.recv(4096).decode().splitlines()[0])
            except BlockingIOError:
                return said

        program = await serve(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
        await eventually(lambda: hear().count("WATCHDOG=1") >= 3)
        assert said[0] == "READY=1"
        os.kill(program.process.pid, signal.SIGHUP)
        await eventually(lambda: hear().count("READY=1") == 2)
        assert said.index("RELOADING=1") < len(said) - 1
        assert await program.stop() == 0
        await trio.lowlevel.checkpoint()
        assert "STOPPING=1" in hear()
