"""A client of an event stream, as strict as the standard: HTTP by h11 on a raw socket, blocks by hand."""

import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio

from tests.gateway.node_fixture import RunningNode, query
from tests.patience import patience


@attrs.frozen(kw_only=True)
class Block:
    """
    What an EventSource dispatches, and the id it would come back with.
    """

    event: str
    data: Any
    last_id: str


@attrs.define(eq=False)
class EventSource:
    """
    One stream. Reads only when it is told to.
    """

    stream: trio.SocketStream
    status: int = 0
    headers: Mapping[str, str] = attrs.field(factory=dict)
    retry: int | None = None
    last_id: str = ""
    # Lines that begin with a colon.
    comments: int = 0
    ended: bool = False
    _http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT))
    _text: bytes = b""
    _blocks: deque[Block] = attrs.field(factory=deque)

    async def open(self, target: str, headers: Mapping[str, str]) -> None:
        request = h11.Request(method="GET", target=target, headers=[("Host", "test"), *headers.items()])
        await self.stream.send_all(
            (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        )
        response = await self._next_http()
        assert isinstance(response, h11.Response)
        self.status = response.status_code
        self.headers = {name.decode(): value.decode() for name, value in response.headers}

    async def receive(self) -> Block:
        """
        The next block that is dispatched.
        """
        with patience():
            while not self._blocks:
                assert not self.ended, "the stream has ended"
                await self._read()
        return self._blocks.popleft()

    async def take(self, count: int) -> list[Block]:
        return [await self.receive() for _ in range(count)]

    async def read_until(self, condition: Any) -> None:
        """
        Read on until something shows that is no block: a comment, an id, the end.
        """
        with patience():
            while not condition():
                await self._read()

    async def rest(self) -> list[Block]:
        """
        What comes until the server ends the stream.
        """
        await self.read_until(lambda: self.ended)
        blocks, self._blocks = list(self._blocks), deque()
        return blocks

    async def body(self) -> bytes:
        data = b""
        while not isinstance(event := await self._next_http(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            data += event.data
        return data

    async def _next_http(self) -> Any:
        with patience():
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(bytes(await self.stream.receive_some()))
        return event

    async def _read(self) -> None:
        try:
            event = await self._next_http()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            self.ended = True  # cut off amid a chunked body
            return
        if isinstance(event, h11.EndOfMessage):
            self.ended = True
            return
        self._text += bytes(event.data)
        while b"\n\n" in self._text:
            block, _, self._text = self._text.partition(b"\n\n")
            self._dispatch(block.decode())

    def _dispatch(self, block: str) -> None:
        name, data = "message", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    self.comments += 1
                case "id":
                    self.last_id = value
                case "retry":
                    self.retry = int(value)
                case "event":
                    name = value
                case "data":
                    data.append(value)
                case _:
                    raise AssertionError(line)
        if data:
            self._blocks.append(Block(event=name, data=json.loads("\n".join(data)), last_id=self.last_id))


@asynccontextmanager
async def listen_to(
    greenroom: RunningNode,
    *topics: str,
    token: str | None = None,
    last_id: str = "",
    receive_buffer: int | None = None,
    target: str = "",
    user: str = "bob@example.com",
) -> AsyncIterator[EventSource]:
    """
    An event stream of these topics.
    """
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await sock.connect(("127.0.0.1", greenroom.port))
    async with trio.SocketStream(sock) as stream:
        source = EventSource(stream, last_id=last_id)
        chosen = "&".join(query(topic=topic)[1:] for topic in topics)
        headers = {"Authorization": f"Bearer {token or greenroom.token(user, 'viewer')}"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        await source.open(target or f"/api/v1/stream?{chosen}".removesuffix("?"), headers)
        yield source
