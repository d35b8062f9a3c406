"""A WebSocket server that says what a test wants, as a broken node might, or one of another version."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from tests.patience import patience

WELCOME = {"type": "ok", "session": "s", "userId": "u", "userName": "u", "role": "viewer", "expires_at": None}


@attrs.define(eq=False)
class ScriptedNode:
    """
    Its connections, one after the other, and what came in.
    """

    port: int = 0
    # Connections that were welcomed.
    count: int = 0
    socket: Any = None
    received: list[dict[str, Any]] = attrs.field(factory=list)
    # By type of message, what is sent before its `ok`.
    answers: dict[str, list[Any]] = attrs.field(factory=dict)
    # By type of message, what is in one `ok` after the other.
    replies: dict[str, list[Any]] = attrs.field(factory=dict)
    # By type of message, the code of the `error` instead, as often as it stands here.
    refusals: dict[str, list[str]] = attrs.field(factory=dict)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, request: WebSocketRequest) -> None:
        socket = await request.accept()
        self.socket = socket
        self.count += 1
        try:
            await self.send(WELCOME)
            while True:
                message = json.loads(await socket.get_message())
                self.received.append(message)
                if codes := self.refusals.get(message["type"]):
                    no = {"type": "error", "code": codes.pop(0), "message": "no"}
                    await self.send({**no, "ref": message["ref"]})
                else:
                    await self.send(*self.answers.get(message["type"], []))
                    if "ref" in message:
                        more = replies.pop(0) if (replies := self.replies.get(message["type"])) else {}
                        await self.send({"type": "ok", "ref": message["ref"], **more})
                self._news.unpark_all()
        except ConnectionClosed:
            pass

    async def send(self, *messages: Any) -> None:
        for message in messages:
            await self.socket.send_message(message if isinstance(message, str) else json.dumps(message))

    async def close(self, code: int, **bye: Any) -> None:
        if bye:
            await self.send({"type": "bye", "code": code, "reason": "because", **bye})
        await self.socket.aclose(code, "because")

    async def wait_received(self, kind: str, count: int) -> list[dict[str, Any]]:
        """
        Wait until `count` messages of a type came, on all connections together.
        """
        with patience():
            while len(found := [each for each in self.received if each["type"] == kind]) < count:
                await self._news.park()
        return found


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedNode]:
    """
    A scripted node, until the block ends.
    """
    node = ScriptedNode()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, node.serve, "127.0.0.1", 0, None))
        node.port = server.port
        yield node
        nursery.cancel_scope.cancel()
