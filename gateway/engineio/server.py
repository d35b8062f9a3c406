"""Engine.IO as an ASGI application: which request is whose session's, and how many there may be."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import attrs
import msgspec
import trio

from gateway.engineio import polling, websocket
from gateway.engineio.cors import Cors
from gateway.engineio.outlet import EngineOutlet
from gateway.engineio.packets import join_body, opening, text_packet
from gateway.engineio.session import LATENESS, POLLING, WEBSOCKET, EngineSession, Handler
from gateway.engineio.timers import Timers

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

# What lets a WebSocket's handshake be answered like a request (ASGI, WebSocket Denial Response).
RESPONSE_EXTENSION = "websocket.http.response"
VERSION = "4"
PARAMETERS = 20


@attrs.frozen(kw_only=True)
class EngineOptions:
    """
    How sessions are served: times in seconds, sizes in bytes.
    """

    path: str = "/engine.io/"
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    upgrade_timeout: float = 10.0
    # The longest message, and the longest body of a POST.
    max_payload: int = 1_000_000
    transports: Sequence[str] = (POLLING, WEBSOCKET)
    origins: Sequence[str] = ()
    # What may wait for one client before it is too slow.
    backlog: int = 262_144
    max_sessions: int = 10_000


@attrs.frozen
class Refused:
    """
    Why a request is refused, as the protocol's own server says it.
    """

    code: int
    message: str
    status: int = 400


UNKNOWN_TRANSPORT = Refused(0, "Transport unknown")
UNKNOWN_SID = Refused(1, "Session ID unknown")
BAD_METHOD = Refused(2, "Bad handshake method")
BAD_REQUEST = Refused(3, "Bad request")
FORBIDDEN = Refused(4, "Forbidden", 403)
UNSUPPORTED = Refused(5, "Unsupported protocol version")
FULL = Refused(4, "Too many sessions; try later", 503)


@attrs.define(eq=False)
class EngineServer:
    """
    Own the sessions of all clients.

    An ASGI application. Used alone, its lifespan runs it; used within another, `run` does. A crash ends the
    sessions, and the clients open others.
    """

    handler: Handler
    options: EngineOptions = attrs.field(factory=EngineOptions)
    sessions: dict[str, EngineSession] = attrs.field(factory=dict, init=False)
    timers: Timers = attrs.field(factory=Timers, init=False)

    @property
    def _cors(self) -> Cors:
        return Cors(self.options.origins)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Keep the deadlines of all sessions until cancelled.
        """
        task_status.started()
        await self.timers.run()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """
        Serve one request, WebSocket or lifespan.
        """
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        request = _Request(scope)
        if scope["type"] == "websocket":
            await receive()
            await self._serve_websocket(request, receive, send)
        else:
            await self._serve_http(request, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            for session in list(self.sessions.values()):
                session.finish("server shutting down")
            nursery.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve_http(self, request: "_Request", receive: Receive, send: Send) -> None:
        if request.method == "OPTIONS":
            wanted = request.header(b"access-control-request-headers")
            await _answer(send, 204, b"", self._cors.preflight(request.origin, wanted))
            return
        answer = await self._answer(request, receive)
        if answer is not None:
            await _answer(send, *answer, self._cors.headers(request.origin))

    async def _answer(self, request: "_Request", receive: Receive) -> polling.Answer | None:
        error = self._refusal(request, POLLING)
        if error is None and request.sid is None:
            return self._shake_hands(request)
        session = self.sessions.get(request.sid or "")
        if session is not None and session.is_overdue and request.method == "GET":
            # The pong that was due comes by another request, and may have come in time.
            await trio.sleep(LATENESS)
            if session.is_overdue:
                session.close("ping timeout")
                session = None
        if error is not None:
            return _error(error)
        if session is None:
            return _error(UNKNOWN_SID)
        if session.transport != POLLING:
            return _error(BAD_REQUEST)
        match request.method:
            case "GET":
                return await polling.poll(session, receive)
            case "POST" if not session.is_closed:
                return await polling.post(session, receive, announced=request.content_length)
            case _:
                return _error(BAD_REQUEST)

    def _shake_hands(self, request: "_Request") -> polling.Answer:
        if request.method != "GET":
            return _error(BAD_METHOD)
        if len(self.sessions) >= self.options.max_sessions:
            return _error(FULL)
        outlet = EngineOutlet(limit=self.options.backlog)
        session = self._open(request, POLLING, outlet)
        return 200, join_body(polling.fetch(session))

    async def _serve_websocket(self, request: "_Request", receive: Receive, send: Send) -> None:
        session = None if request.sid is None else self.sessions.get(request.sid)
        refused = self._refusal(request, WEBSOCKET)
        if refused is None and session is None:
            if request.sid is not None:
                refused = UNKNOWN_SID
            elif len(self.sessions) >= self.options.max_sessions:
                refused = FULL
        if refused is not None:
            await _refuse_websocket(request, refused, send)
            return
        await send({"type": "websocket.accept"})
        if session is not None:
            within = self.options.upgrade_timeout
            await websocket.upgrade(session, request.scope, receive, send, within=within)
            return
        direct = websocket.direct_outlet(request.scope)
        session = self._open(request, WEBSOCKET, direct or EngineOutlet(limit=self.options.backlog))
        await websocket.serve(session, receive, send, is_direct=direct is not None)

    def _open(self, request: "_Request", transport: str, outlet: Any) -> EngineSession:
        options = self.options
        session = EngineSession(
            sid=secrets.token_urlsafe(15),
            scope=request.scope,
            transport=transport,
            outlet=outlet,
            handler=self.handler,
            timers=self.timers,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            max_payload=options.max_payload,
            on_end=self._ended,
        )
        self.sessions[session.sid] = session
        upgrades = [WEBSOCKET] if transport == POLLING and WEBSOCKET in options.transports else []
        first = opening(
            session.sid,
            upgrades=upgrades,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            max_payload=options.max_payload,
        )
        session.push(text_packet(first))
        self.handler.opened(session)
        return session

    def _ended(self, session: EngineSession) -> None:
        self.sessions.pop(session.sid, None)

    def _refusal(self, request: "_Request", transport: str) -> Refused | None:
        if not self._cors.allows(request.origin, request.host):
            return FORBIDDEN
        if request.query.get("EIO") != VERSION:
            return UNSUPPORTED
        wanted = request.query.get("transport")
        return None if wanted == transport and transport in self.options.transports else UNKNOWN_TRANSPORT


@attrs.frozen
class _Request:
    scope: Mapping[str, Any]
    query: Mapping[str, str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        try:
            text = self.scope["query_string"].decode("latin-1")
            query = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS))
        except ValueError:
            query = {}
        object.__setattr__(self, "query", query)

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def sid(self) -> str | None:
        return self.query.get("sid")

    @property
    def origin(self) -> str | None:
        return self.header(b"origin").decode("latin-1") or None

    @property
    def host(self) -> str:
        return self.header(b"host").decode("latin-1")

    @property
    def content_length(self) -> int:
        """
        What the client says that its body has; 0 when it does not.
        """
        digits = self.header(b"content-length")
        return int(digits) if digits.isdigit() else 0

    def header(self, wanted: bytes) -> bytes:
        return next((bytes(value) for name, value in self.scope["headers"] if name == wanted), b"")


def _error(error: Refused) -> polling.Answer:
    return error.status, msgspec.json.encode({"code": error.code, "message": error.message})


async def _refuse_websocket(request: _Request, refused: Refused, send: Send) -> None:
    if RESPONSE_EXTENSION in request.scope.get("extensions", {}):
        await _answer(send, *_error(refused), [], kind="websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": websocket.NORMAL})


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    more: list[tuple[bytes, bytes]],
    kind: str = "http.response",
) -> None:
    content = b"application/json" if body.startswith(b"{") else b"text/plain; charset=UTF-8"
    headers = [
        *(
            []
            if status == 204
            else [(b"content-type", content), (b"content-length", str(len(body)).encode())]
        ),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
