"""One connection over TLS: Hypercorn's protocols, and the deadlines that they lack. Knows no episodes."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from math import inf

import attrs
import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.utils import parse_socket_addr
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import CloseConnection
from wsproto.events import Event as WebSocketEvent

from gateway.http.asgi import CallTasks
from gateway.http.endings import Endings
from gateway.http.frames import PING, close_frame, is_close
from gateway.http.patient import PatientStream
from gateway.http.serving import Serving
from gateway.http.wire import LINGER, PIECE, RECEIVE


class Http1(H11Protocol):
    """
    Hypercorn's HTTP/1.1, less what a client can hang or crash it with.
    """

    endings: Endings
    # Set when a WebSocket handshake was answered with 101.
    accepted: trio.Event
    # What wsproto has made of the client's frames.
    last_event: WebSocketEvent | None = None

    async def initiate(self) -> None:
        self.accepted = trio.Event()

    async def _check_protocol(self, event: h11.Request) -> None:
        pass  # no HTTP/2 without TLS: browsers do not speak it, and the upgrade trusts its headers

    async def _create_stream(self, request: h11.Request) -> None:
        offered = [(name, value) for name, value in request.headers if name != b"sec-websocket-extensions"]
        if len(offered) < len(request.headers):
            # permessage-deflate would cost every connection its windows.
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

    def begin_websocket(self) -> None:
        """
        A WebSocket handshake was answered with 101.
        """
        assert isinstance(self.stream, WSStream)
        wsproto = self.stream.connection
        events = wsproto.events

        # The last of them tells what was wrong with a frame; Hypercorn drops it.
        def noted() -> Iterator[WebSocketEvent]:
            for self.last_event in events():
                yield self.last_event

        wsproto.events = noted  # type: ignore[method-assign, assignment]
        self.accepted.set()

    async def stream_send(self, event: StreamEvent) -> None:
        if (
            isinstance(event, StreamClosed)
            and isinstance(self.stream, WSStream)
            and isinstance(self.last_event, CloseConnection)
            and self.stream.connection.state is WebSocketState.OPEN
        ):
            # Nobody sent a close frame, so what came were no frames.
            code, reason = self.last_event.code, self.last_event.reason or ""
            self.endings.closed(self.stream, code)
            await self.send(RawData(close_frame(code, reason)))
        self.endings.sent(self.stream, event)
        await super().stream_send(event)


class Http2(H2Protocol):
    """
    Hypercorn's HTTP/2; it is noted with which codes its WebSockets end.
    """

    endings: Endings

    async def stream_send(self, event: StreamEvent) -> None:
        self.endings.sent(self.streams.get(event.stream_id), event)
        await super().stream_send(event)


@attrs.define(eq=False)
class Secure:
    """
    Own one client's socket over TLS: its reader, the order of its writes, its deadlines.

    A crash loses this connection and no other.
    """

    serving: Serving
    sock: socket.socket
    client: tuple[str, int] | None
    # No request is being answered, so nobody is hurt when the connection ends.
    is_idle: bool = attrs.field(default=True, init=False)
    _transport: PatientStream = attrs.field(init=False)
    _stream: trio.SSLStream[PatientStream] = attrs.field(init=False)
    _protocol: Http1 | Http2 = attrs.field(init=False)
    _is_websocket: bool = attrs.field(default=False, init=False)
    # HTTP/2, and something is open: a WebSocket or a stream may be silent for long, its client must not.
    _is_pinged: bool = attrs.field(default=False, init=False)
    # A ping was sent, and nothing has come since.
    _is_doubted: bool = attrs.field(default=False, init=False)
    _write_lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    # Our last byte is sent: what still comes is read, so that the client can hear us, and dropped.
    _ending: bool = attrs.field(default=False, init=False)
    # Until when the reader waits; a header must be complete by then, so single bytes do not move it.
    _read_by: float = attrs.field(default=inf, init=False)
    _header_begun: bool = attrs.field(default=True, init=False)
    _receiving: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _handling: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def run(self) -> None:
        """
        Serve until either side ends.
        """
        serving = self.serving
        self._transport = PatientStream(self.sock, serving.readers)
        try:
            # The handshake of TLS is the dearest of beginnings.
            await serving.door.wait_heard()
            alpn = await self._shake_hands()
            endings = Endings(serving.traffic)
            async with CallTasks(self, serving.limits.body_timeout, endings) as tasks:
                kind = Http2 if alpn == "h2" else Http1
                self._protocol = kind(
                    ASGIWrapper(serving.app),
                    serving.config,
                    serving.context,
                    tasks,
                    serving.state,
                    True,
                    self.client,
                    parse_socket_addr(self.sock.family, self.sock.getsockname()),
                    self._protocol_send,
                )
                self._protocol.endings = endings
                await self._protocol.initiate()
                await self._read()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            pass  # the client went, or did not finish the TLS handshake
        finally:
            self._transport.close()

    def wake_late(self, now: float) -> None:
        pass  # its waits have cancel scopes of their own

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

    def must_close(self) -> bool:
        """
        Whether the response must end the connection: a body that nobody reads is still coming, or we stop.
        """
        if not isinstance(self._protocol, Http1):
            return False
        return self.serving.is_draining or self._protocol.connection.their_state is h11.SEND_BODY

    def accepted(self) -> None:
        """
        A WebSocket handshake was answered with 101.
        """
        if isinstance(self._protocol, Http1) and not self._ending:
            self._is_websocket = True
            self._protocol.begin_websocket()
            self._wait_until(trio.current_time() + self.serving.limits.ping_interval)

    async def _shake_hands(self) -> str | None:
        assert self.serving.tls is not None
        self._stream = trio.SSLStream(
            self._transport, self.serving.tls, server_side=True, https_compatible=True
        )
        with trio.fail_after(self.serving.limits.header_timeout):
            await self._stream.do_handshake()
        alpn: str | None = self._stream.selected_alpn_protocol()
        return alpn

    async def _read(self) -> None:
        limits = self.serving.limits
        self._wait_until(trio.current_time() + limits.header_timeout)
        while True:
            data = None
            with trio.CancelScope(deadline=self._read_by) as self._receiving:
                try:
                    data = bytes(await self._stream.receive_some(RECEIVE))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    data = b""
            if data is None and (self._is_websocket or self._is_pinged) and not self._ending:
                await self._doubt()
                continue
            if not data:
                break
            if self._ending:
                continue
            if self._is_websocket or self._is_pinged:
                self._is_doubted = False
                self._wait_until(trio.current_time() + limits.ping_interval)
            elif self.is_idle and not self._header_begun:
                self._header_begun = True
                self._wait_until(trio.current_time() + limits.header_timeout)
            with trio.CancelScope() as self._handling:
                await self._protocol.handle(RawData(data))
        if not self.is_idle:
            await self.serving.door.wait_cleared()
        self.hang_up()
        await self._protocol.handle(Closed())

    async def _doubt(self) -> None:
        """
        Ask a client that has been silent whether it is there; the second time, end.
        """
        if self._is_doubted and self._is_pinged:
            self.abort()
        elif self._is_doubted:
            if isinstance(self._protocol, Http1):
                self._protocol.endings.closed(self._protocol.stream, 4408)
            await self._write(close_frame(4408, "no pong"))
        else:
            self._is_doubted = True
            self._wait_until(trio.current_time() + self.serving.limits.ping_timeout)
            await self._write(self._ping())

    def _ping(self) -> bytes:
        if not isinstance(self._protocol, H2Protocol):
            return PING
        self._protocol.connection.ping(bytes(8))
        data: bytes = self._protocol.connection.data_to_send()
        return data

    def _wait_until(self, deadline: float) -> None:
        self._read_by = self._receiving.deadline = deadline

    async def _protocol_send(self, event: Event) -> None:
        match event:
            case RawData(data=data) if data:
                await self._write(data)
            case Updated(idle=idle) if not self._ending:
                self.is_idle = idle
                self._transport.is_patient = not idle
                self._header_begun = False
                self._is_pinged = not idle and isinstance(self._protocol, H2Protocol)
                self._is_doubted = False
                limits = self.serving.limits
                patience = limits.keep_alive if idle else limits.ping_interval if self._is_pinged else inf
                self._wait_until(trio.current_time() + patience)
            case Closed():
                self.hang_up()
                await self._protocol.handle(Closed())

    async def _write(self, data: bytes) -> None:
        whole = False
        try:
            async with self._write_lock:
                for start in range(0, len(data), PIECE):
                    with trio.fail_after(self.serving.limits.write_timeout):
                        await self._stream.send_all(memoryview(data)[start : start + PIECE])
            whole = True
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the client is told by the end of the stream, the application by its disconnect
        finally:
            if not whole:
                self.abort()
        if self._is_websocket and is_close(data):
            self.hang_up()
