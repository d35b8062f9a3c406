"""An HTTP proxy that does to a poller's requests what SQS and networks do: fails, dawdles, garbles."""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio

Answer = tuple[int, bytes]


@attrs.define(eq=False)
class SqsProxy:
    """
    Between a poller and the endpoint. A fault meets every request of its operation while it is set.

    Operations are called as in the API: ReceiveMessage, DeleteMessageBatch, …; "" stands for all of them.
    """

    upstream: int
    port: int = 0
    # New connections are reset at once, and those that exist are too.
    away: bool = False
    # Every request that came, in order, and how it was answered.
    requests: list[tuple[str, int]] = attrs.field(factory=list)
    # Answer instead of the endpoint, which never hears of it.
    instead: dict[str, Answer] = attrs.field(factory=dict)
    # Seconds before the endpoint's answer is passed on.
    slow: dict[str, float] = attrs.field(factory=dict)
    # Rewrites the endpoint's answer.
    rewrite: dict[str, Callable[[dict[str, Any]], object]] = attrs.field(factory=dict)
    # Faults that meet one request each, before any other.
    once: dict[str, deque[Answer]] = attrs.field(factory=dict)
    _streams: set[trio.SocketStream] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, operation: str) -> int:
        """
        How many requests of this operation came.
        """
        return sum(each == operation for each, _ in self.requests)

    async def go_away(self) -> None:
        """
        Refuse everybody, until `away` is false again.
        """
        self.away = True
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    async def serve(self, stream: trio.SocketStream) -> None:
        if self.away:
            await trio.aclose_forcefully(stream)
            return
        self._streams.add(stream)
        try:
            await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass  # as it goes in networks
        finally:
            self._streams.discard(stream)
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while (request := await _read(connection, stream)) is not None:
            head, body = request
            headers = {name.decode(): value.decode() for name, value in head.headers}
            operation = headers.get("x-amz-target", "").rpartition(".")[2]
            status, answer = await self._answer(operation, head, body)
            self.requests.append((operation, status))
            told = [("content-type", "application/x-amz-json-1.0"), ("content-length", str(len(answer)))]
            response = h11.Response(status_code=status, headers=told)
            for event in (response, h11.Data(data=answer), h11.EndOfMessage()):
                await stream.send_all(connection.send(event) or b"")
            connection.start_next_cycle()

    async def _answer(self, operation: str, head: h11.Request, body: bytes) -> Answer:
        if waiting := self.once.get(operation):
            return waiting.popleft()
        for name in (operation, ""):
            if name in self.instead:
                return self.instead[name]
        status, answer = await self._forward(head, body)
        if operation in self.rewrite and status == 200:
            rewritten = self.rewrite[operation](json.loads(answer or b"{}"))
            answer = rewritten if isinstance(rewritten, bytes) else json.dumps(rewritten).encode()
        await trio.sleep(self.slow.get(operation, 0))
        return status, answer

    async def _forward(self, head: h11.Request, body: bytes) -> Answer:
        async with await trio.open_tcp_stream("127.0.0.1", self.upstream) as stream:
            connection = h11.Connection(h11.CLIENT)
            headers = [each for each in head.headers if each[0] not in (b"connection", b"expect")]
            again = h11.Request(
                method=head.method, target=head.target, headers=[*headers, (b"connection", b"close")]
            )
            for event in (again, h11.Data(data=body), h11.EndOfMessage()):
                await stream.send_all(connection.send(event) or b"")
            answer = await _read(connection, stream)
            assert answer is not None
            return answer[0].status_code, answer[1]


async def _read(connection: h11.Connection, stream: trio.SocketStream) -> tuple[Any, bytes] | None:
    head, body = None, b""
    while True:
        event = connection.next_event()
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            case h11.Request() | h11.Response():
                head = event
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                return head, body
            case h11.ConnectionClosed():
                return None


@asynccontextmanager
async def between(upstream: int) -> AsyncIterator[SqsProxy]:
    """
    A proxy to this port, until the block ends.
    """
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = SqsProxy(upstream, listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
