"""One WebSocket connection of a client: its handshake, its requests and their replies, its end."""

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from engine.error_groups import first
from gateway.client.messages import FINAL_CODES, ClientError, RefusedError

# A snapshot of a crowded episode is larger than anything a client sends.
MAX_MESSAGE = 16 * 2**20
# Messages that wait to be sent; who wants to send more waits.
OUTBOX = 16
# Seconds for the close handshake.
CLOSE_GRACE = 1.0
# HTTP statuses of a handshake that would be refused again.
FINAL_STATUSES = frozenset({401, 403})


class LostError(ClientError):
    """
    The connection is gone; the next one brings everything that was missed.
    """


@attrs.frozen(kw_only=True)
class Ending:
    """
    How a connection ended: by which code, why, and whether and after how many seconds to come back.
    """

    code: int | None
    reason: str
    after: float = 0.0
    returns: bool = True


@attrs.define(eq=False)
class _Wire(trio.abc.Stream):
    """
    A stream that says when it ended: trio-websocket would wait for the rest of a handshake.
    """

    _stream: trio.abc.Stream
    _on_end: Callable[[], None]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self._on_end()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self._on_end()
        return data

    async def aclose(self) -> None:
        self._on_end()
        await self._stream.aclose()


@attrs.define(eq=False)
class _Request:
    # Called by the reader, so that what follows the reply finds it done.
    on_ok: Callable[[Mapping[str, Any]], None] | None
    done: trio.Event = attrs.field(factory=trio.Event)
    reply: Mapping[str, Any] | None = None


@attrs.define(eq=False, kw_only=True)
class Session:
    """
    Own one connection and the requests that wait for a reply on it. Its end loses these and nothing else.
    """

    url: str
    token: str
    ping_interval: float
    ping_timeout: float
    connect_timeout: float
    # Told every message that is no reply.
    on_message: Callable[[Mapping[str, Any]], Awaitable[None]]
    # Runs beside the reader while the connection stands.
    on_welcome: "Callable[[Session, Mapping[str, Any]], Awaitable[None]]"
    # Whether the reader waits for the user: silence then proves nothing.
    is_blocked: Callable[[], bool]
    ending: Ending | None = attrs.field(default=None, init=False)
    _bye: Ending | None = attrs.field(default=None, init=False)
    # Ends all of it; and the reader alone, so that a close handshake can follow.
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _reading: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _stream: trio.abc.Stream | None = attrs.field(default=None, init=False)
    _nursery: trio.Nursery = attrs.field(init=False)
    _websocket: WebSocketConnection | None = attrs.field(default=None, init=False)
    _refs: "count[int]" = attrs.field(factory=lambda: count(1), init=False)
    _requests: dict[int, _Request] = attrs.field(factory=dict, init=False)
    # One task writes: a user who gives up waiting must not leave half a frame behind.
    _outbox: trio.MemorySendChannel[str] = attrs.field(init=False)
    _outgoing: trio.MemoryReceiveChannel[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._outbox, self._outgoing = trio.open_memory_channel[str](OUTBOX)

    async def run(self) -> Ending:
        """
        Connect, and live until the connection ends.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    with self._reading:
                        await self._connect()
                        await self._read()
                    if self._reading.cancelled_caught and self._websocket is not None:
                        with trio.move_on_after(CLOSE_GRACE):
                            await self._websocket.aclose()
                    self._nursery.cancel_scope.cancel()
        except* (OSError, HandshakeError, trio.TooSlowError, trio.BrokenResourceError, LostError) as group:
            self.ending = self.ending or self._failure(group)
        finally:
            self._end_requests()
            if self._stream is not None:
                await trio.aclose_forcefully(self._stream)
        return self.ending or Ending(code=None, reason="the connection was closed")

    def start_soon(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """
        Run a task that ends with the connection. It must not raise.
        """
        if self.ending is None and not self._scope.cancel_called:
            self._nursery.start_soon(task, *arguments)

    async def ask(
        self, message: Mapping[str, Any], on_ok: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Mapping[str, Any]:
        """
        Send a message and wait for its reply. Raises RefusedError, LostError.
        """
        ref = next(self._refs)
        request = self._requests[ref] = _Request(on_ok)
        try:
            await self._send({**message, "ref": ref})
            await request.done.wait()
        finally:
            self._requests.pop(ref, None)
        if request.reply is None:
            raise LostError("the connection was lost before the node replied")
        if request.reply["type"] == "error":
            raise RefusedError(request.reply["code"], request.reply["message"])
        return request.reply

    def tell_nowait(self, message: Mapping[str, Any]) -> None:
        """
        Send a message that nobody waits for; nothing happens when that is impossible now.
        """
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._outbox.send_nowait(_encode(message))

    def close_soon(self) -> None:
        """
        Let the connection end in good order, within CLOSE_GRACE.
        """
        self.ending = self.ending or Ending(code=None, reason="closed by this client", returns=False)
        self._reading.cancel()

    def abort(self, reason: str) -> None:
        """
        Give the connection up.
        """
        self.ending = self.ending or Ending(code=None, reason=reason)
        self._scope.cancel()

    async def _send(self, message: Mapping[str, Any]) -> None:
        try:
            await self._outbox.send(_encode(message))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LostError("the connection is gone") from None

    async def _connect(self) -> None:
        parts = urlsplit(self.url)
        host, secure = parts.hostname or "", parts.scheme == "wss"
        port = parts.port or (443 if secure else 80)
        resource = parts.path + (f"?{parts.query}" if parts.query else "")
        with trio.fail_after(self.connect_timeout):
            if secure:
                self._stream = await trio.open_ssl_over_tcp_stream(host, port, https_compatible=True)
            else:
                self._stream = await trio.open_tcp_stream(host, port)
            with trio.CancelScope() as handshake:
                self._websocket = await wrap_client_stream(
                    self._nursery,
                    _Wire(self._stream, handshake.cancel),  # type: ignore[arg-type]  # any stream will do
                    parts.netloc.rpartition("@")[2],
                    resource,
                    extra_headers=[(b"Authorization", f"Bearer {self.token}".encode())],
                    max_message_size=MAX_MESSAGE,
                )
            if self._websocket is None:
                raise LostError("the server hung up during the handshake")

    async def _read(self) -> None:
        assert self._websocket is not None
        self._nursery.start_soon(self._write)
        try:
            while True:
                text = await self._websocket.get_message()
                try:
                    message = msgspec.json.decode(text, type=dict[str, Any])
                    await self._understand(message)
                except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
                    raise LostError(f"the server sent what is not understood: {error!r}") from error
        except ConnectionClosed as closed:
            self.ending = self.ending or self._closed(closed)

    async def _understand(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        if kind in ("ok", "error") and (request := self._requests.get(message.get("ref", 0))) is not None:
            request.reply = message
            if kind == "ok" and request.on_ok is not None:
                request.on_ok(message)
            request.done.set()
        elif kind == "ok" and "session" in message:
            self._nursery.start_soon(self.on_welcome, self, message)
            self._nursery.start_soon(self._watch)
        elif kind == "bye":
            self._bye = Ending(
                code=message["code"],
                reason=message["reason"],
                after=max(0.0, float(message["reconnect_after"])),
                returns=bool(message["resume"]),
            )
        else:
            await self.on_message(message)

    async def _write(self) -> None:
        assert self._websocket is not None
        async with self._outgoing:
            try:
                async for text in self._outgoing:
                    await self._websocket.send_message(text)
            except ConnectionClosed:
                pass  # the reader hears of it, too

    async def _watch(self) -> None:
        """
        Give signs of life, or others would see us inactive, and find out when nobody is there to hear them.
        """
        while True:
            await trio.sleep(self.ping_interval)
            if self.is_blocked():
                self.tell_nowait({"type": "ping"})  # the reply waits behind what the user has to take
                continue
            with trio.move_on_after(self.ping_timeout) as patience:
                try:
                    await self.ask({"type": "ping"})
                except ClientError:
                    return
            if patience.cancelled_caught and not self.is_blocked():
                self.abort(f"the server did not answer a ping within {self.ping_timeout:g} s")

    def _closed(self, closed: ConnectionClosed) -> Ending:
        code = None if closed.reason is None else closed.reason.code
        said = "" if closed.reason is None else closed.reason.reason or ""
        ending = self._bye or Ending(code=code, reason=said or "the connection broke off")
        return attrs.evolve(ending, returns=ending.returns and ending.code not in FINAL_CODES)

    def _failure(self, group: BaseException) -> Ending:
        match error := first(group):
            case ConnectionRejected(status_code=status):
                returns = status not in FINAL_STATUSES
                return Ending(
                    code=None, reason=f"the handshake was answered with HTTP {status}", returns=returns
                )
            case trio.TooSlowError():
                return Ending(code=None, reason=f"no connection within {self.connect_timeout:g} s")
            case OSError():
                # Trio gathers what each of the host's addresses said.
                cause = first(error.__cause__ or error)
                number = getattr(cause, "errno", None) or 0
                return Ending(code=None, reason=os.strerror(number) if number > 0 else str(cause))
            case _:
                return self._bye or Ending(code=None, reason=str(error) or repr(error))

    def _end_requests(self) -> None:
        self.ending = self.ending or self._bye
        for request in self._requests.values():
            request.done.set()
        self._outbox.close()
        self._outgoing.close()


def _encode(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
