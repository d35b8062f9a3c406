"""The peers of the fan-out: `await websocket.send` on Quart-Trio and stock Hypercorn, as one writes first."""

import itertools
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import websocket
from quart_trio import QuartTrio

app = QuartTrio(__name__)
# How each subscriber is sent to.
subscribers: set[Callable[[str], Awaitable[None]]] = set()
# Events that may wait for one subscriber.
QUEUE = 100
SUBSCRIBED = '{"type":"ok","ref":"subscribed"}'
_numbers = itertools.count(1)


@app.websocket("/one-loop")
async def one_loop() -> None:
    """
    Be sent to by the publisher, which sends to one subscriber after the other.
    """
    me = websocket._get_current_object()  # type: ignore[attr-defined]
    await websocket.accept()
    subscribers.add(me.send)
    try:
        await me.send(SUBSCRIBED)
        while True:
            await websocket.receive()
    finally:
        subscribers.discard(me.send)


@app.websocket("/loop-each")
async def loop_each() -> None:
    """
    Take from a queue of one's own, and send: the way of Quart's own tutorial.
    """
    channel, inbox = trio.open_memory_channel[str](QUEUE)
    await websocket.accept()
    subscribers.add(channel.send)
    try:
        await websocket.send(SUBSCRIBED)
        async for text in inbox:
            await websocket.send(text)
    finally:
        subscribers.discard(channel.send)


async def publish(stream: trio.SocketStream) -> None:
    """
    Send each event to all; its bytes are those that Greenroom sends, made once.
    """
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            text = _frame(int(line))
            for send in list(subscribers):
                await send(text)


def _frame(stamp: int) -> str:
    number = next(_numbers)
    at = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    frame = {
        "event": "bench_published",
        "data": {"ts": stamp, "publishedBy": "bench", "timestamp": at},
        "namespace": "/real-time",
        "broadcast": True,
        "id": f"e-{number:07}",
        "topic": f"episode:{number:07}",
        "offset": 1,
        "epoch": "bench",
    }
    return json.dumps(frame, separators=(",", ":"))


async def main() -> None:
    """
    Serve until killed.
    """
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "WARNING"
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"publishing on {listeners[0].socket.getsockname()[1]}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, publish, listeners)
        binds: list[str] = await nursery.start(partial(serve, app, config))
        print(f"ready on {binds[0].rpartition(':')[2]}")


if __name__ == "__main__":
    trio.run(main)
