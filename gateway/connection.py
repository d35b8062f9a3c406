"""One client connection: Hypercorn's protocols, and the deadlines that they lack. Knows no episodes."""

import socket
import ssl
from contextlib import suppress
from math import inf

import attrs
import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, WWWScope
from hypercorn.utils import parse_socket_addr
from wsproto.connection import ConnectionState as WebSocketState

from gateway.asgi import CallTasks
from gateway.frames import close_frame, is_close
from gateway.outlet import Outlet

RECEIVE = 65536
# A write is given its deadline per piece: a slow line may take long over a big response, a dead one not.
PIECE = 65536
# For how long a client may take to hear our last bytes. Closed with its own bytes unread, a socket is reset,
# and the reset overtakes a 413 or a close frame.
LINGER = 2.0


@attrs.frozen(kw_only=True)
class ServerLimits:
    """
    What one client may take: times in seconds, sizes in bytes; `backlog` in connections.
    """

    header_timeout: float
    keep_alive: float
    write_timeout: float
    shutdown_grace: float
    max_header: int
    max_message: int
    backlog: int
    outlet_backlog: int
    outlet_deadline: float


class Http1(H11Protocol):
    """
    Hypercorn's HTTP/1.1, less what a client can hang or crash it with.
    """

    # Set when a WebSocket handshake was answered with 101.
    accepted: trio.Event

    async def initiate(self) -> None:
        self.accepted = trio.Event()

    async def _check_protocol(self, event: h11.Request) -> None:
        pass  # no HTTP/2 without TLS: browsers do not speak it, and the upgrade trusts its headers

    async def _create_stream(self, request: h11.Request) -> None:
        offered = [(name, value) for name, value in request.headers if name != b"sec-websocket-extensions"]
        if len(offered) < len(request.headers):
            # permessage-deflate would cost every connection its windows, and the outlet does not compress.
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=offered,
                http_version=request.http_version,
            )
        await super()._create_stream(request)
        if not isinstance(self.stream, WSStream):
            return
        if self.stream.closed:
            await self.send(Closed())  # the handshake was refused; Hypercorn leaves the socket open
        else:
            # Frames that came with the handshake wait here: Hypercorn would answer them with a second
            # response and crash.
            await self.accepted.wait()

    async def stream_send(self, event: StreamEvent) -> None:
        if (
            isinstance(event, StreamClosed)
            and isinstance(self.stream, WSStream)
            and self.accepted.is_set()
            and self.stream.connection.state is WebSocketState.OPEN
        ):
            # Nobody sent a close frame, so what came were no frames.
            await self.send(RawData(close_frame(1002, "not a WebSocket frame")))
        await super().stream_send(event)


@attrs.define(eq=False, kw_only=True)
class Connection:
    """
    Own one client's socket: its reader, the order of its writes, its deadlines.

    A crash loses this connection and no other.
    """

    app: AppWrapper
    config: Config
    context: WorkerContext
    limits: ServerLimits
    state: ConnectionState
    sock: socket.socket
    tls: ssl.SSLContext | None
    client: tuple[str, int] | None
    # No request is being answered, so nobody is hurt when the connection ends.
    is_idle: bool = attrs.field(default=True, init=False)
    _stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = attrs.field(init=False)
    _protocol: Http1 | H2Protocol = attrs.field(init=False)
    _outlet: Outlet | None = attrs.field(default=None, init=False)
    _is_websocket: bool = attrs.field(default=False, init=False)
    _write_lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    # Our last byte is sent: what still comes is read, so that the client can hear us, and dropped.
    _ending: bool = attrs.field(default=False, init=False)
    # Until when the reader waits; a header must be complete by then, so single bytes do not move it.
    _read_by: float = attrs.field(default=inf, init=False)
    _header_begun: bool = attrs.field(default=True, init=False)
    _receiving: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _handling: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def run(self) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(self.sock))
        try:
            alpn = await self._shake_hands(stream)
            server = parse_socket_addr(self.sock.family, self.sock.getsockname())
            async with CallTasks(self) as tasks:
                kind = H2Protocol if alpn == "h2" else Http1
                self._protocol = kind(
                    self.app,
                    self.config,
                    self.context,
                    tasks,
                    self.state,
                    self.tls is not None,
                    self.client,
                    server,
                    self._protocol_send,
                )
                await self._protocol.initiate()
                try:
                    await self._read()
                except trio.Cancelled:
                    if self._outlet is not None:
                        # The shutdown's grace is over, and the application did not say goodbye.
                        self._outlet.push(close_frame(1001, "going away"))
                    raise
                finally:
                    if self._outlet is not None:
                        self._outlet.is_open = False
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            pass  # the client went, or did not finish the TLS handshake
        finally:
            stream.socket.close()

    def hang_up(self) -> None:
        """
        Send no more. Hear the client out for a moment, so that it hears what was sent.
        """
        if self._ending:
            return
        self._ending = True
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self._wait_until(trio.current_time() + LINGER)
        # The reader may wait for the application or for a response that will not come.
        self._handling.cancel()

    def abort(self) -> None:
        """
        End now, whatever is on the way.
        """
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.hang_up()

    def open_outlet(self, scope: WWWScope, nursery: trio.Nursery) -> Outlet | None:
        if scope["type"] == "websocket" and self.tls is None:
            self._outlet = Outlet(
                socket=self.sock,
                nursery=nursery,
                limit=self.limits.outlet_backlog,
                deadline=self.limits.outlet_deadline,
                on_end=self.hang_up,
            )
        return self._outlet

    def must_close(self) -> bool:
        """
        Whether the response must end the connection: a body that nobody reads is still coming, or we stop.
        """
        if not isinstance(self._protocol, Http1):
            return False
        return self.context.terminated.is_set() or self._protocol.connection.their_state is h11.SEND_BODY

    def accepted(self) -> None:
        if not isinstance(self._protocol, Http1) or self._ending:
            return
        self._is_websocket = True
        if self._outlet is not None:
            self._outlet.is_open = True
        self._protocol.accepted.set()

    async def _shake_hands(self, stream: trio.SocketStream) -> str | None:
        if self.tls is None:
            self._stream = stream
            return None
        secure = trio.SSLStream(stream, self.tls, server_side=True, https_compatible=True)
        self._stream = secure
        with trio.fail_after(self.limits.header_timeout):
            await secure.do_handshake()
        alpn: str | None = secure.selected_alpn_protocol()
        return alpn

    async def _read(self) -> None:
        self._wait_until(trio.current_time() + self.limits.header_timeout)
        while True:
            data = b""
            with (
                suppress(trio.BrokenResourceError, trio.ClosedResourceError),
                trio.CancelScope(deadline=self._read_by) as self._receiving,
            ):
                data = bytes(await self._stream.receive_some(RECEIVE))
            if not data:
                break
            if self._ending:
                continue
            if self.is_idle and not self._header_begun:
                self._header_begun = True
                self._wait_until(trio.current_time() + self.limits.header_timeout)
            with trio.CancelScope() as self._handling:
                await self._protocol.handle(RawData(data))
        self.hang_up()
        await self._protocol.handle(Closed())

    def _wait_until(self, deadline: float) -> None:
        self._read_by = self._receiving.deadline = deadline

    async def _protocol_send(self, event: Event) -> None:
        match event:
            case RawData(data=data) if data:
                await self._write(data)
            case Updated(idle=idle) if not self._ending:
                self.is_idle = idle
                self._header_begun = False
                self._wait_until(trio.current_time() + self.limits.keep_alive if idle else inf)
            case Closed():
                self.hang_up()
                await self._protocol.handle(Closed())

    async def _write(self, data: bytes) -> None:
        closing = self._is_websocket and is_close(data)
        if self._outlet is not None:
            if closing:
                self._outlet.is_open = False
            with suppress(trio.BrokenResourceError):  # its reader has seen the end
                await self._outlet.write(data)
        else:
            await self._write_in_pieces(data)
        if closing:
            self.hang_up()

    async def _write_in_pieces(self, data: bytes) -> None:
        whole = False
        try:
            async with self._write_lock:
                for start in range(0, len(data), PIECE):
                    with trio.fail_after(self.limits.write_timeout):
                        await self._stream.send_all(memoryview(data)[start : start + PIECE])
            whole = True
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the client is told by the end of the stream, the application by its disconnect
        finally:
            if not whole:
                self.abort()
