"""The ASGI application as one connection calls it. Knows no sockets and no bytes on the wire."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, cast

import attrs
import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope, WWWScope

from gateway.outlet import Outlet

log = structlog.get_logger()

OUTLET_EXTENSION = "greenroom.outlet"

_Send = Callable[[ASGISendEvent | None], Awaitable[None]]


class Caller(Protocol):
    """
    What a call asks of its connection.
    """

    def open_outlet(self, scope: WWWScope, nursery: trio.Nursery) -> Outlet | None: ...

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
    _disconnect: ASGIReceiveEvent | None = attrs.field(default=None, init=False)

    async def run(self, app: AppWrapper) -> None:
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
        await self.answer(message)
        if message["type"] == "websocket.accept":
            self.caller.accepted()


class CallTasks(TaskGroup):
    """
    Where a connection's tasks run; takes the place of Hypercorn's, whose calls can get stuck.
    """

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self._caller = caller

    async def spawn_app(
        self, app: AppWrapper, config: Config, scope: Scope, send: _Send
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        assert self._nursery is not None
        assert scope["type"] != "lifespan"
        outlet = self._caller.open_outlet(scope, self._nursery)
        if outlet is not None:
            # Hypercorn types the values as dicts; ASGI leaves them to the server.
            cast(dict[str, Any], scope["extensions"])[OUTLET_EXTENSION] = outlet
        inbox, received = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)
        call = Call(scope=scope, caller=self._caller, answer=send, inbox=inbox, received=received)
        self._nursery.start_soon(call.run, app)
        return call.put
