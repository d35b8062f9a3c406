"""The ASGI application as Hypercorn's protocols call it. Knows no sockets and no bytes on the wire."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, cast

import attrs
import structlog
import trio
from hypercorn.config import Config
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope, WWWScope

from gateway.http.endings import Endings
from gateway.http.exchange import BODY_PIECE
from gateway.http.websocket import ABNORMAL

log = structlog.get_logger()

# A WebSocket that has done what it was to do.
NORMAL = 1000

_Send = Callable[[ASGISendEvent | None], Awaitable[None]]


class Caller(Protocol):
    """
    What a call asks of its connection.
    """

    def must_close(self) -> bool: ...

    def accepted(self) -> None: ...


@attrs.define(eq=False, kw_only=True)
class Call:
    """
    One request or one WebSocket: what came from the client and the application has not received yet.

    A crash of the application becomes a 500 or close code 1011; it loses this call and nothing else.
    """

    scope: WWWScope
    caller: Caller
    # Hypercorn's side; None means that the application has ended.
    answer: _Send
    inbox: trio.MemorySendChannel[ASGIReceiveEvent]
    received: trio.MemoryReceiveChannel[ASGIReceiveEvent]
    body_timeout: float
    # Of a WebSocket: its stream, and where is kept how it ends.
    stream: WSStream | None
    endings: Endings
    # The code of a WebSocket without a close frame; one whose handshake was refused has ended well.
    _code: int = attrs.field(default=ABNORMAL, init=False)
    # A body may still come, and how long and how much of its current piece the client has had.
    _is_coming: bool = attrs.field(init=False)
    _waited: float = attrs.field(default=0, init=False)
    _piece: int = attrs.field(default=0, init=False)
    _is_answered: bool = attrs.field(default=False, init=False)
    _is_accepted: bool = attrs.field(default=False, init=False)
    _disconnect: ASGIReceiveEvent | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._is_coming = self.scope["type"] == "http"

    async def run(self, app: AppWrapper) -> None:
        """
        Let the application answer.
        """
        if self.stream is None:
            await self._run(app)
            return
        self.endings.began()
        try:
            await self._run(app)
        finally:
            self.endings.ended(self.stream, self._code)

    async def _run(self, app: AppWrapper) -> None:
        try:
            await app(self.scope, self.receive, self.send, trio.to_thread.run_sync, trio.from_thread.run)
        except* Exception as group:
            error = group.exceptions[0] if len(group.exceptions) == 1 else group
            log.error("application failed", path=self.scope["path"], exc_info=error)
        await self.answer(None)

    async def put(self, message: ASGIReceiveEvent) -> None:
        """
        Hand on what the client sent; waits while the application is behind, except with a disconnect.

        Hypercorn's own put waits even then, and a full inbox keeps the connection for ever.
        """
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            self._disconnect = message
            self.inbox.close()
            return
        with suppress(trio.ClosedResourceError):  # told of the disconnect meanwhile
            await self.inbox.send(message)

    async def receive(self) -> ASGIReceiveEvent:
        if not self._is_coming:
            return await self._receive()
        began = trio.current_time()
        with trio.move_on_after(self.body_timeout - self._waited):
            message = await self._receive()
            if message["type"] == "http.request":
                self._is_coming = message["more_body"]
                self._waited += trio.current_time() - began
                self._piece += len(message["body"])
                if self._piece >= BODY_PIECE:
                    self._waited, self._piece = 0, 0
            return message
        self._is_coming = False
        if not self._is_answered:
            await self.send({"type": "http.response.start", "status": 408, "headers": []})
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        await self.put({"type": "http.disconnect"})
        return await self._receive()

    async def _receive(self) -> ASGIReceiveEvent:
        try:
            return await self.received.receive()
        except trio.EndOfChannel:
            # The channel raises this at once: a loop that ignores disconnects must still let others run.
            await trio.lowlevel.checkpoint()
            assert self._disconnect is not None
            return self._disconnect

    async def send(self, message: ASGISendEvent) -> None:
        if self._disconnect is not None:
            # Hypercorn returns without a checkpoint here, and a send loop would never let others run.
            await trio.lowlevel.checkpoint()
            return
        if message["type"] == "http.response.start" and self.caller.must_close():
            headers = [*message.get("headers", ()), (b"connection", b"close")]
            message = cast(ASGISendEvent, {**message, "headers": headers})
        self._is_answered = True
        await self.answer(message)
        match message["type"]:
            case "websocket.accept":
                self._is_accepted = True
                self.caller.accepted()
            case "websocket.close" | "websocket.http.response.body" if not self._is_accepted:
                self._code = NORMAL


class CallTasks(TaskGroup):
    """
    Where a connection's tasks run; takes the place of Hypercorn's, whose calls can get stuck.
    """

    def __init__(self, caller: Caller, body_timeout: float, endings: Endings) -> None:
        super().__init__()
        self._caller = caller
        self._body_timeout = body_timeout
        self._endings = endings

    async def spawn_app(
        self, app: AppWrapper, config: Config, scope: Scope, send: _Send
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        assert self._nursery is not None
        assert scope["type"] != "lifespan"
        # What the application sends is taken by a method of the stream.
        stream = getattr(send, "__self__", None)
        assert isinstance(stream, WSStream) == (scope["type"] == "websocket")
        inbox, received = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)
        call = Call(
            scope=scope,
            caller=self._caller,
            answer=send,
            inbox=inbox,
            received=received,
            body_timeout=self._body_timeout,
            stream=stream if isinstance(stream, WSStream) else None,
            endings=self._endings,
        )
        self._nursery.start_soon(call.run, app)
        return call.put
