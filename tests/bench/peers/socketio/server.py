"""The fan-out peer in Python: python-socketio on uvicorn and uvloop, for the same tokens."""

import asyncio
import itertools
import os
from datetime import UTC, datetime
from typing import Any

import socketio
import uvicorn
from joserfc import jwt
from joserfc.jwk import OctKey

io = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])
key = OctKey.import_key(os.environ["SECRET"].encode())
numbers = itertools.count(1)


@io.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    """
    Let whoever has a token hear everything.
    """
    jwt.decode(auth["token"], key, algorithms=["HS256"])
    await io.enter_room(sid, "catalog")
    await io.emit("subscribed", to=sid)


async def publish(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """
    Emit an event of about 200 bytes for each stamp.
    """
    async for line in reader:
        number = next(numbers)
        event = {
            "data": {
                "ts": int(line),
                "publishedBy": "bench",
                "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            },
            "namespace": "/real-time",
            "broadcast": True,
            "id": f"e-{number:07}",
            "topic": f"episode:{number:07}",
            "offset": 1,
            "epoch": "bench",
        }
        await io.emit("bench_published", event, room="catalog")


async def main() -> None:
    """
    Serve until killed.
    """
    publisher = await asyncio.start_server(publish, "127.0.0.1", 0)
    print(f"publishing on {publisher.sockets[0].getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        socketio.ASGIApp(io), host="127.0.0.1", port=0, log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- it offers nothing else
        await asyncio.sleep(0.05)
    print(f"ready on {server.servers[0].sockets[0].getsockname()[1]}", flush=True)
    await serving


if __name__ == "__main__":
    # uvicorn's own run() would choose uvloop by itself.
    import uvloop

    uvloop.run(main())
