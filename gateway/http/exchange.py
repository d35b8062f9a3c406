"""One HTTP/1.1 request and its answer, as the application receives and sends them. Knows no parser."""

from collections.abc import Callable
from math import inf
from typing import Any

import attrs
import structlog
import trio

from gateway.http.request import Request
from gateway.http.response import Head, refusal
from gateway.http.serving import Serving
from gateway.http.wire import RECEIVE, Wire

log = structlog.get_logger()

# So much of a body, or the rest of it, must come within server.body_timeout: single bytes do not move it.
BODY_PIECE = 16384


@attrs.define(eq=False)
class Exchange:
    """
    Own one answer, and how far its request was read.

    The application runs in the connection's task, and reads the socket itself when it receives.
    """

    serving: Serving
    wire: Wire
    request: Request
    # Parse what was read: this request's body, and requests behind it.
    feed: Callable[[bytes], None]
    # The answer is the connection's last.
    closes: bool = False
    _head: Head | None = None
    # All of the answer is sent, or the client is gone; at least something is sent.
    is_over: bool = False
    _begun: bool = False
    # How the body is framed: bytes that Content-Length still promises, or chunks; or there must be none.
    _left: int | None = None
    _chunked: bool = False
    _bodiless: bool = False
    _expected: bool = False
    _delivered: bool = False
    # Seconds that the client has for the current piece of the body, and where that began.
    _patience: float = 0
    _piece: int = 0
    # Bytes of later requests that came while this one is answered.
    _ahead: int = 0
    _receiving: bool = False
    # For those who must not read on; most answers need none.
    _answered: trio.Event | None = None

    async def run(self) -> bool:
        """
        Let the application answer; whether the connection can go on.
        """
        serving, wire = self.serving, self.wire
        scope = self.request.scope(wire.client, wire.server, serving.state)
        try:
            await serving.app(scope, self.receive, self.send)  # type: ignore[arg-type]
        except Exception as error:
            log.error("application failed", path=scope["path"], exc_info=error)
        if not self.is_over:
            await self.refuse(500)
        return wire.is_open and self.request.is_complete and not self.closes and not serving.is_draining

    async def receive(self) -> dict[str, Any]:
        request = self.request
        while not self.is_over:
            if request.parts or (request.is_complete and not self._delivered):
                self._delivered = request.is_complete
                return {
                    "type": "http.request",
                    "body": request.take_body(),
                    "more_body": not request.is_complete,
                }
            await self._listen()
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.is_over:
            # A loop that ignores the disconnect must still let others run.
            await trio.lowlevel.checkpoint()
            return
        kind = message["type"]
        if kind == "http.response.start" and self._head is None:
            self._head = Head.of(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self._head is not None:
            await self._send_body(bytes(message.get("body", b"")), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is not expected here")

    async def refuse(self, status: int, more: bytes = b"") -> None:
        """
        Answer in the application's place, if nothing was answered yet. The connection ends.
        """
        self.closes = True
        if not self._begun:
            self._begun = True
            await self.wire.write(refusal(status, self.serving.date_line(), more))
        self._end()

    async def _send_body(self, body: bytes, more: bool) -> None:
        was_begun = self._begun
        data = self._framed(body, more)
        if data and not await self.wire.write(data):
            self.closes = True
            self._end()
            await trio.lowlevel.checkpoint()
        elif not more:
            self._end()
        elif was_begun:
            await trio.lowlevel.checkpoint()  # a stream to a fast reader must let others run

    def _framed(self, body: bytes, more: bool) -> bytes:
        head = b"" if self._begun else self._frame(body, more)
        if self._bodiless:
            data = b""
        elif self._left is not None:
            if len(body) > self._left or (not more and len(body) < self._left):
                raise RuntimeError(f"the body and its content-length differ: {self._left} bytes were left")
            self._left -= len(body)
            data = body
        elif self._chunked:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                data += b"0\r\n\r\n"
        else:
            data = body
        self._begun = True
        return head + data if head else data

    def _frame(self, body: bytes, more: bool) -> bytes:
        """
        Decide how the body's end will be known; return the head.
        """
        head, request = self._head, self.request
        assert head is not None
        framing = b""
        self._bodiless = request.method == b"HEAD" or head.status in (204, 304)
        if head.length is not None:
            self._left = head.length
        elif self._bodiless:
            pass
        elif not more:
            self._left = len(body)
            framing = b"content-length: %d\r\n" % self._left
        elif request.version == "1.1":
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self.closes = True
        if not request.is_complete:
            self._look_once_more()
        if head.closes or self.serving.is_draining or not request.keeps_alive or not request.is_complete:
            self.closes = True
        if self.closes:
            framing += b"connection: close\r\n"
        elif request.version == "1.0":
            framing += b"connection: keep-alive\r\n"
        return head.lines(framing, self.serving.date_line())

    def _look_once_more(self) -> None:
        # The rest of a small body that nobody wanted is mostly here: it need not cost the connection.
        data = self.wire.read_nowait()
        if data:
            self.feed(data)

    def _end(self) -> None:
        self.is_over = True
        if self._receiving:
            self.wire.wake()
        if self._answered is not None:
            self._answered.set()

    async def _listen(self) -> None:
        """
        Read on: the body, or else the client's end, until the answer is sent.
        """
        request = self.request
        if request.bad:
            await self.refuse(request.bad)
        elif not request.is_complete and request.size > self.serving.limits.max_body:
            # The application has seen enough to refuse it; whether it does or not, no more is read.
            await self._wait_answered(self.serving.limits.body_timeout, 413)
        elif self._ahead > RECEIVE:
            await self._wait_answered(inf, 0)
        else:
            await self._read()

    async def _read(self) -> None:
        request, wire = self.request, self.wire
        began = trio.current_time()
        if not request.is_complete:
            if not self._expected:
                self._expected = True
                if request.expects_continue and not self._begun:
                    # So few bytes that an idle line takes them; if not, the client has been reading nothing.
                    wire.write_nowait(b"HTTP/1.1 100 Continue\r\n\r\n")
            if not self._patience or request.size - self._piece >= BODY_PIECE:
                self._patience = self.serving.limits.body_timeout
                self._piece = request.size
            wire.read_by = began + self._patience
        self._receiving = True
        # Of streams and long polls there may be many, whose clients may all leave at once.
        wire.is_patient = request.is_complete
        try:
            data = await wire.read()
        except trio.TooSlowError:
            await self.refuse(408)
            return
        finally:
            self._receiving = wire.is_patient = False
            wire.read_by = inf
        if data is None:
            return
        if not data:
            self.closes = True
            if request.is_complete:
                await self.serving.door.wait_cleared()
            self._end()
            return
        if request.is_complete:
            self._ahead += len(data)
            self.feed(data)
            return
        self._patience = max(0.001, self._patience - (trio.current_time() - began))
        request.read += len(data)
        self.feed(data)
        if request.overhead > self.serving.limits.max_header and not request.is_complete:
            request.bad = 400

    async def _wait_answered(self, patience: float, status: int) -> None:
        self._answered = trio.Event()
        with trio.move_on_after(patience):
            await self._answered.wait()
            return
        await self.refuse(status)
