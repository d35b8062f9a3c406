"""One WebSocket of one client without TLS (RFC 6455): its outlet writes, wsproto reads. Knows no episodes."""

import io
from contextlib import suppress
from math import inf
from typing import Any, cast

import attrs
import structlog
import trio
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from gateway.http.exchange import Exchange
from gateway.http.frames import PING, binary_frame, close_frame, pong_frame, text_frame
from gateway.http.handshake import accepting
from gateway.http.outlet import OUTLET_EXTENSION, TOO_SLOW, Outlet
from gateway.http.serving import Serving
from gateway.http.wire import RECEIVE, Wire

log = structlog.get_logger()

# So many frames are looked at in one turn: a flood of pings, or of fragments of a byte, lets others run.
_TURN = 100

# The client went without a close frame (RFC 6455, section 7.1.5).
ABNORMAL = 1006


class _Closing(Exception):  # noqa: N818 -- the ordinary end of a connection, not an error
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@attrs.define(eq=False)
class WebSocket:
    """
    Own one WebSocket from its handshake to its end.

    The application reads the socket itself when it receives, so what it does not receive is not read.
    """

    serving: Serving
    wire: Wire
    # The handshake; forgotten when it is answered.
    _exchange: Exchange | None
    _outlet: Outlet = attrs.field(init=False)
    _frames: FrameProtocol = attrs.field(init=False)
    _path: str = ""
    # The message that is being assembled, and its size in bytes.
    _message: io.StringIO | io.BytesIO | None = None
    _size: int = 0
    _is_connected: bool = False
    # How it ended; 0 while it has not.
    _code: int = 0
    _reason: str = ""
    # The application closed: it hears of the disconnect when the client has gone.
    _hears_out: bool = False
    # Frames were left for another turn.
    _is_behind: bool = False
    # A ping was sent, and nothing has come since.
    _is_doubted: bool = False

    def __attrs_post_init__(self) -> None:
        limits = self.serving.limits
        assert self._exchange is not None
        self._outlet = Outlet(
            socket=self.wire.sock,
            nursery=self.serving.nursery,
            limit=limits.outlet_backlog,
            deadline=limits.outlet_deadline,
            on_slow=self._fall_behind,
            behind=self.serving.traffic.behind,
            on_end=self._outlet_ended,
        )
        self._frames = FrameProtocol(client=False, extensions=[])
        self._frames.receive_bytes(self._exchange.request.rest)

    async def run(self) -> None:
        """
        Let the application have it, until both sides have ended.
        """
        traffic = self.serving.traffic
        traffic.websockets += 1
        try:
            try:
                # No variable holds the scope: the application may forget it, and with it all headers.
                await self.serving.app(self._scope(), self.receive, self.send)  # type: ignore[arg-type]
            except Exception as error:
                log.error("application failed", path=self._path, exc_info=error)
            if self._exchange is not None:
                await self._exchange.refuse(500)
            elif not self._code:
                await self._close(1011, "")
            while self._code == TOO_SLOW and not self._outlet.is_dead:
                await self._drop()
            if not self.wire.heard_end:
                await self.wire.linger()
        except trio.Cancelled:
            # The shutdown's grace is over, and the application did not say goodbye.
            self._outlet.push(close_frame(1001, "going away"))
            raise
        finally:
            self._code = self._code or ABNORMAL
            traffic.websockets -= 1
            traffic.closes[self._code] += 1
            self._outlet.kill()

    async def receive(self) -> dict[str, Any]:
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        has_read = False
        try:
            while not self._code:
                message = self._next_message() if self._exchange is None else None
                if message is not None:
                    if not has_read:
                        await trio.lowlevel.checkpoint()
                    return message
                if self._is_behind:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._read()
                has_read = True
        except _Closing as closing:
            await self.serving.door.wait_cleared()
            await self._close(closing.code, closing.reason)
        if self._hears_out and not self.wire.heard_end:
            await self.wire.linger()
        # A loop that ignores the disconnect must still let others run.
        await trio.lowlevel.checkpoint()
        return {"type": "websocket.disconnect", "code": self._code, "reason": self._reason}

    async def send(self, message: Any) -> None:
        kind = message["type"]
        # The application may have shut the outlet before it closes: nothing else is to come in between.
        is_shut = self._exchange is None and not self._outlet.is_open and kind != "websocket.close"
        if self._code or is_shut:
            await trio.lowlevel.checkpoint()
        elif self._exchange is not None:
            await self._answer(self._exchange, message)
        elif kind == "websocket.send":
            text = message.get("text")
            frame = binary_frame(message["bytes"]) if text is None else text_frame(text.encode())
            with suppress(trio.BrokenResourceError):  # the next receive tells
                await self._outlet.write(frame)
        elif kind == "websocket.close":
            self._hears_out = True
            await self._close(message.get("code") or 1000, message.get("reason") or "")
        else:
            raise RuntimeError(f"{kind} is not expected on an open WebSocket")

    def _scope(self) -> dict[str, Any]:
        assert self._exchange is not None
        wire = self.wire
        scope = self._exchange.request.websocket_scope(wire.client, wire.server, self.serving.state)
        scope["extensions"][OUTLET_EXTENSION] = self._outlet
        self._path = scope["path"]
        return scope

    async def _answer(self, exchange: Exchange, message: Any) -> None:
        """
        Answer the handshake as the application wishes.
        """
        kind = message["type"]
        if kind == "websocket.accept":
            head = accepting(exchange.request, message.get("subprotocol"), message.get("headers", ()))
            self._exchange = None
            self._size = 0
            if await self.wire.write(head):
                self._outlet.is_open = True
                self.wire.is_patient = True
                self.wire.read_by = trio.current_time() + self.serving.limits.ping_interval
            else:
                self._lose()
        elif kind == "websocket.close":
            await exchange.refuse(403)
            self._code = 1000
        elif kind in ("websocket.http.response.start", "websocket.http.response.body"):
            await exchange.send({**message, "type": kind.removeprefix("websocket.")})
            if exchange.is_over:
                self._code = 1000
        else:
            raise RuntimeError(f"{kind} is not expected before the handshake is answered")

    def _next_message(self) -> dict[str, Any] | None:
        """
        The next message of what was read; None if there is no whole one. Answers the pings before it.
        """
        pongs = b""
        self._is_behind = False
        try:
            for count, frame in enumerate(self._frames.received_frames(), 1):
                if frame.opcode is Opcode.PING:
                    pongs += pong_frame(bytes(frame.payload))  # type: ignore[arg-type]
                elif frame.opcode is Opcode.CLOSE:
                    code, reason = cast(tuple[int, str], frame.payload)
                    raise _Closing(code, reason)
                elif frame.opcode is not Opcode.PONG:
                    message = self._assemble(frame)
                    if message is not None:
                        return message
                if count == _TURN:
                    self._is_behind = True
                    break
        except ParseFailed as error:
            raise _Closing(error.code, str(error)) from None
        finally:
            if pongs:
                self._outlet.push(pongs)
        return None

    def _assemble(self, frame: Frame) -> dict[str, Any] | None:
        data = frame.payload
        if isinstance(data, str):
            self._size += len(data) if data.isascii() else len(data.encode())
        else:
            self._size += len(data)
        if self._size > self.serving.limits.max_message:
            raise _Closing(1009, f"a message has at most {self.serving.limits.max_message} bytes")
        if self._message is not None or not frame.message_finished:
            if self._message is None:
                self._message = io.StringIO(newline="") if isinstance(data, str) else io.BytesIO()
            self._message.write(data)  # type: ignore[arg-type]
            if not frame.message_finished:
                return None
            data = self._message.getvalue()
            self._message = None
        self._size = 0
        if isinstance(data, str):
            return {"type": "websocket.receive", "text": data, "bytes": None}
        return {"type": "websocket.receive", "text": None, "bytes": data}

    async def _read(self) -> None:
        wire, limits = self.wire, self.serving.limits
        try:
            data = await wire.read()
        except trio.TooSlowError:
            if self._is_doubted:
                raise _Closing(4408, "no pong") from None
            self._is_doubted = True
            self._outlet.push(PING)
            wire.read_by = trio.current_time() + limits.ping_timeout
            return
        if data:
            self._frames.receive_bytes(data)
            if self._exchange is None:
                self._is_doubted = False
                wire.read_by = trio.current_time() + limits.ping_interval
            else:
                self._size += len(data)
                if self._size > RECEIVE:
                    self._lose()  # frames before the handshake was answered, and more of them
        elif data is not None:
            await self.serving.door.wait_cleared()
            self._lose()

    async def _drop(self) -> None:
        # The outlet sends its last frame to a client that is too slow, and wakes us when that is over.
        self.wire.read_by = inf
        if await self.wire.read() == b"":
            self._lose()

    async def _close(self, code: int, reason: str) -> None:
        """
        Send the last frame, ours or the echo of the client's.
        """
        self._code, self._reason = int(code), reason
        self._outlet.is_open = False
        with suppress(trio.BrokenResourceError):
            await self._outlet.write(close_frame(int(code), reason))
        self.wire.finish()

    def _lose(self) -> None:
        self._code = ABNORMAL
        self._outlet.kill()

    def _fall_behind(self) -> None:
        self._code, self._reason = TOO_SLOW, "too slow"
        self.wire.wake()

    def _outlet_ended(self) -> None:
        self._code = self._code or ABNORMAL
        self.wire.finish()
        self.wire.wake()
