"""The real program on stock Hypercorn: the same application behind `hypercorn.trio.serve`, not our server."""

import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework

import gateway.__main__
import gateway.gateway


async def serve_stock(
    app: ASGIFramework,
    sockets: Sequence[socket.socket],
    limits: Any,
    *,
    shutdown: trio.Event,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    **_ours: object,
) -> None:
    """
    Stand in for gateway.http.server.serve; what only that one does is left out.
    """
    config = Config()
    # Hypercorn closes what it is given, and so does its caller.
    config.bind = [f"fd://{os.dup(sock.fileno())}" for sock in sockets]
    config.loglevel = "WARNING"
    config.graceful_timeout = limits.shutdown_grace
    await serve(app, config, shutdown_trigger=shutdown.wait, task_status=task_status)  # type: ignore[arg-type]


if __name__ == "__main__":
    gateway.gateway.serve = serve_stock  # type: ignore[attr-defined]
    gateway.__main__.main()
