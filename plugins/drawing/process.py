"""Has a composition drawn by a process of its own: no viewer waits for it, no crash is the node's."""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from plugins.drawing.order import CRASHED, DRAWN, PROGRESS, REFUSED, Drawn, Order, UndrawableError

# -P: nothing is imported from wherever the node was started.
COMMAND = (sys.executable, "-P", "-m", "plugins.drawing.worker")
# What a process needs to find its libraries; the node's own settings and secrets are not among it.
KEPT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "TZ")
# Bytes of one line, at most; the longest tell of a hundred wrong layers.
MAX_LINE = 1024 * 1024
# Seconds for a killed process to be gone.
GONE = 5.0


async def draw(order: Order, told: Callable[[float], Awaitable[None]]) -> Drawn:
    """
    The picture; `told` hears how much of it is done.

    Cancelled, it kills the process. Raises UndrawableError, and RuntimeError for a crash, which another
    attempt may not have.
    """
    process = await trio.lowlevel.open_process(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in KEPT if name in os.environ},
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        # It reads all of this before it writes anything: neither waits for the other.
        try:
            await process.stdin.send_all(_written(order))
            await process.stdin.aclose()
        except trio.BrokenResourceError:
            pass  # what it has to say, or how it ended, tells more
        return await _read(_Lines(process.stdout), told, process)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.move_on_after(GONE, shield=True):
            await process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                await trio.aclose_forcefully(pipe)


async def _read(lines: "_Lines", told: Callable[[float], Awaitable[None]], process: trio.Process) -> Drawn:
    while (line := await lines.next()) is not None:
        word, _, rest = line.partition(b" ")
        value: Any = json.loads(rest)
        if word == PROGRESS:
            await told(value)
        elif word == REFUSED:
            raise UndrawableError(value)
        elif word == CRASHED:
            raise RuntimeError(f"drawing crashed: {value}")
        elif word == DRAWN:
            return Drawn(png=await lines.rest(), warnings=value)
    raise RuntimeError(f"the process that draws ended without a picture, with code {await process.wait()}")


class _Lines:
    """
    What a process writes: some lines, then bytes to the end.
    """

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """
        The next line; None at the end.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            data = await self._stream.receive_some()
            if not data or len(self._buffer) > MAX_LINE:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def rest(self) -> bytes:
        """
        All that follows.
        """
        async for data in self._stream:
            self._buffer += data
        return bytes(self._buffer)


def _written(order: Order) -> bytes:
    return json.dumps(
        {
            "layers": [dict(layer) for layer in order.layers],
            "width": order.width,
            "height": order.height,
            "data_dir": str(order.data_dir),
        }
    ).encode()
