"""A TCP proxy that does to its clients what networks do: cuts, stalls, refuses."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import trio


@attrs.define(eq=False)
class ChaosProxy:
    """
    Between clients and a node's port.
    """

    upstream: int
    port: int = 0
    # Connections that were accepted so far.
    accepted: int = 0
    # New connections are reset at once.
    refusing: bool = False
    _streams: set[trio.SocketStream] = attrs.field(factory=set)
    _flowing: trio.Event = attrs.field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """
        Reset every connection, in both directions.
        """
        for stream in list(self._streams):
            if stream.socket.fileno() >= 0:  # not closed already, waiting for its tasks to notice
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.socket.close()

    def stall(self) -> None:
        """
        Let no byte through any more, and tell nobody.
        """
        self._flowing = trio.Event()

    def flow(self) -> None:
        """
        Go on.
        """
        self._flowing.set()

    async def run(self, listener: trio.SocketListener) -> None:
        await trio.serve_listeners(self._connect, [listener])

    async def _connect(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        if self.refusing:
            self._streams.add(client)
            self.cut()
            self._streams.discard(client)
            return
        node = await trio.open_tcp_stream("127.0.0.1", self.upstream)
        assert isinstance(node, trio.SocketStream)
        self._streams |= {client, node}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, client, node)
                nursery.start_soon(self._pump, node, client)
        finally:
            self._streams -= {client, node}
            for stream in (client, node):
                await trio.aclose_forcefully(stream)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            while data := await source.receive_some(65536):
                await self._flowing.wait()
                await sink.send_all(data)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            await self._flowing.wait()
            await sink.send_eof()


@asynccontextmanager
async def chaos(upstream: int) -> AsyncIterator[ChaosProxy]:
    """
    A proxy to this port, until the block ends.
    """
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = ChaosProxy(upstream, listener.socket.getsockname()[1])
    proxy.flow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run, listener)
        yield proxy
        nursery.cancel_scope.cancel()
