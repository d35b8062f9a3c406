"""HTTP/1.1 of one client without TLS: parsed by llhttp, answered in the connection's own task, in order."""

import re
from math import inf

import attrs
import httptools
import trio

from gateway.http.exchange import Exchange
from gateway.http.handshake import handshake_refusal
from gateway.http.request import Request, field
from gateway.http.response import refusal
from gateway.http.serving import Serving
from gateway.http.websocket import WebSocket
from gateway.http.wire import Wire

_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/1\.[01]\r\n")


@attrs.define(eq=False)
class Http1:
    """
    Own one client's requests.

    A crash loses this connection and no other.
    """

    serving: Serving
    wire: Wire
    # No request is being answered, so nobody is hurt when the connection ends.
    is_idle: bool = True
    # It has been heard: from then on it waits at no door.
    _is_known: bool = False
    _parser: httptools.HttpRequestParser | None = None
    # What was parsed and not yet answered: as many as one read holds.
    _requests: list[Request] = attrs.field(factory=list)
    # What the parser is at: the request whose head is complete, or the beginnings of one.
    _current: Request | None = None
    _in_message: bool = False
    _target: bytes = b""
    _headers: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    # Bytes of a head that is not complete; not those that came with an earlier request's.
    _unfinished: int = 0
    # With what to refuse what comes after the good requests.
    _bad: int = 0

    @property
    def client(self) -> tuple[str, int] | None:
        return self.wire.client

    async def run(self) -> None:
        """
        Serve until either side ends.
        """
        self._parser = httptools.HttpRequestParser(self)
        try:
            websocket = await self._serve_requests()
            self._forget()
            if websocket is not None:
                await websocket.run()
            elif not self.wire.heard_end:
                await self.wire.linger()
        finally:
            self._forget()
            self.wire.close()

    def abort(self) -> None:
        self.wire.abort()

    def wake_late(self, now: float) -> None:
        self.wire.wake_late(now)

    async def _serve_requests(self) -> WebSocket | None:
        """
        Answer one request after the other, up to the connection's last or a WebSocket handshake.
        """
        limits, wire = self.serving.limits, self.wire
        wire.read_by = trio.current_time() + limits.header_timeout
        while (request := await self._next_request()) is not None:
            self.is_idle = False
            wire.read_by = inf
            if status := request.refusal(limits.max_header):
                await self._refuse(status)
                break
            exchange = Exchange(self.serving, wire, request, self._feed)
            if request.is_websocket:
                if status := handshake_refusal(request):
                    more = b"sec-websocket-version: 13\r\n" if status == 426 else b""
                    await self._refuse(status, more)
                    break
                if not await self.serving.door.wait_begun() or self.serving.is_draining:
                    await self._refuse(503, b"retry-after: %d\r\n" % max(1, round(limits.retry_after)))
                    break
                return WebSocket(self.serving, wire, exchange)
            if not await exchange.run():
                break
            self.is_idle = not self._requests
            wire.read_by = trio.current_time() + (
                limits.header_timeout if self._in_message else limits.keep_alive
            )
        return None

    async def _next_request(self) -> Request | None:
        if self._requests:
            # Many small requests in one segment must not keep others waiting.
            await trio.lowlevel.checkpoint()
        first = self._current is None
        while not self._requests:
            if self._bad:
                await self._refuse(self._bad)
                return None
            try:
                data = await (self.wire.read() if self._is_known else self._arrive())
            except trio.TooSlowError:
                if self._in_message:
                    await self._refuse(408)
                return None
            if data is None:
                continue
            if not data:
                return None
            was_in_message = self._in_message
            self._feed(data)
            if self._in_message and not was_in_message and not first:
                self.wire.read_by = trio.current_time() + self.serving.limits.header_timeout
        return self._requests.pop(0)

    async def _arrive(self) -> bytes | None:
        """
        The connection's first bytes, when it is its turn to be heard.
        """
        if not await self.wire.wait_readable():
            return None
        await self.serving.door.wait_heard()
        self._is_known = True
        return self.wire.read_nowait()

    async def _refuse(self, status: int, more: bytes = b"") -> None:
        await self.wire.write(refusal(status, self.serving.date_line(), more))

    def _forget(self) -> None:
        # The parser refers to us: without this, each connection would wait for the garbage collector.
        self._parser = None
        self._current = None
        self._headers = []
        self._requests = []

    def _feed(self, data: bytes) -> None:
        """
        Parse what was read, until something is bad.
        """
        if self._current is not None and self._current.wants_upgrade:
            self._current.rest += data
            return
        if self._bad:
            return
        assert self._parser is not None
        if self._current is None or self._current.is_complete:
            self._unfinished += len(data)
        starts, known = not self._in_message, len(self._requests)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserInvalidMethodError:
            # A method that nobody knows is no garbage.
            is_first = starts and known == len(self._requests)
            self._bad = 501 if is_first and _REQUEST_LINE.match(data) else 400
        except httptools.HttpParserError:
            self._bad = 400
        if self._unfinished > self.serving.limits.max_header and not self._bad:
            self._bad = 431
        if self._bad and self._current is not None and not self._current.is_complete:
            self._current.bad = self._bad

    def _upgrade(self, rest: bytes) -> None:
        request = self._current
        assert request is not None and self._requests
        if request.is_websocket:
            if request.value(b"content-length") or request.value(b"transfer-encoding"):
                self._requests.pop()
                self._bad = 400  # llhttp took the body for frames
            request.rest = rest
        elif request.method == b"CONNECT":
            pass  # refused for its method
        else:
            # llhttp stops here, body or not. To go on in our own protocol is what the client expects of a
            # server that does not know the other one.
            self._requests.pop()
            self._current = None
            self._parser = httptools.HttpRequestParser(self)
            self._feed(request.without_upgrade() + rest)

    # What llhttp calls.

    def on_message_begin(self) -> None:
        self._in_message = True
        self._current = None
        self._target = b""
        self._headers = []

    def on_url(self, data: bytes) -> None:
        self._target += data

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._current is None:  # else a trailer: nobody wants those
            self._headers.append(field(name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._unfinished = 0
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers) + 16
        self._current = Request(
            self._parser.get_method(),
            self._target,
            self._parser.get_http_version(),
            self._headers,
            self._parser.should_keep_alive(),
            self._parser.should_upgrade(),
            size,
        )
        self._requests.append(self._current)

    def on_chunk_header(self) -> None:
        assert self._current is not None
        self._current.chunks += 1

    def on_body(self, data: bytes) -> None:
        assert self._current is not None
        self._current.parts.append(data)
        self._current.size += len(data)

    def on_message_complete(self) -> None:
        assert self._current is not None
        self._current.is_complete = True
        self._in_message = False
