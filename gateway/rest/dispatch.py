"""REST as an ASGI application: Quart's routes, without what Quart does around each handler."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import attrs
import structlog
from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, RequestRedirect

from engine.errors import (
    ActorStoppedError,
    MailboxFullError,
    ParkedError,
    SourceUnavailableError,
    StoreUnavailableError,
)
from engine.plugin_host.host import DecisionError
from engine.traces import Span, Traces
from gateway.log import debugs
from gateway.rest.messages import GoneError, Headers, Receive, Request, Response, TooLargeError, answering
from gateway.rest.problems import Problem

log = structlog.get_logger()

Send = Callable[[Any], Awaitable[None]]
Handler = Callable[..., Awaitable[Response]]

# What works again by itself, and after how many seconds a client may find that it does.
PASSING = {
    StoreUnavailableError: "1",
    SourceUnavailableError: "1",
    DecisionError: "1",
    ActorStoppedError: "1",
    MailboxFullError: "1",
    ParkedError: "5",
}
# Statuses from here on are the node's fault.
SERVER_ERRORS = 500


@attrs.define(eq=False)
class Dispatch:
    """
    Answer each request by its handler, in the task that calls.

    The handlers are those of the application's blueprints. What none of them answers is Quart's: the OpenAPI
    document, OPTIONS, redirects. A crash of a handler becomes a 500, and loses nothing else.
    """

    app: QuartTrio
    max_body: int
    # Answers by status.
    answers: Counter[int] = attrs.field(factory=Counter)
    traces: Traces = attrs.field(factory=Traces)
    _routes: MapAdapter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._routes = self.app.url_map.bind("")

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """
        Serve one request.
        """
        request = Request(scope, receive, self.max_body)
        answering(request)
        span = None
        if self.traces.tracer is not None:
            span = self.traces.tracer.begin(f"{request.method} request", request.traceparent)
            request.traceparent = span.traceparent
        more: Headers = [(b"x-request-id", request.id.encode()), (b"x-content-type-options", b"nosniff")]
        if request.path.startswith("/api/"):
            more.append((b"cache-control", b"no-store"))
        try:
            response = await self._answer(request)
        except GoneError:
            if span is not None:
                span.end({}, error="the client went")
            return
        if span is not None:
            _end(span, request, response)
        if response is None:
            await self._let_quart(scope, receive, send, more)
            return
        self.answers[response.status] += 1
        if debugs():
            about = {"id": request.id, "method": request.method, "path": request.path}
            log.debug("request", **about, status=response.status)
        await send(response.start(more))
        await send({"type": "http.response.body", "body": response.body, "more_body": False})

    async def _answer(self, request: Request) -> Response | None:
        """
        The answer; None when it is for Quart to give.
        """
        try:
            found = self._handler(request)
            return None if found is None else await found[0](**found[1])
        except GoneError:
            raise
        except Exception as error:
            return _refused(request, error).response(request.id)

    def _handler(self, request: Request) -> tuple[Handler, Mapping[str, Any]] | None:
        if "\x00" in request.path:
            raise Problem(400, "a path must not contain the NUL character")
        try:
            rule, arguments = self._routes.match(request.path, request.method, return_rule=True)
        except RequestRedirect:
            return None
        blueprint = rule.endpoint.partition(".")[0]
        if blueprint not in self.app.blueprints or request.method == "OPTIONS":
            return None
        return cast(Handler, self.app.view_functions[rule.endpoint]), arguments

    async def _let_quart(self, scope: Mapping[str, Any], receive: Receive, send: Send, more: Headers) -> None:
        async def finish(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await cast(ASGIFramework, self.app)(cast(Any, scope), cast(Any, receive), finish)


def _end(span: Span, request: Request, response: Response | None) -> None:
    status = 200 if response is None else response.status
    error = f"answered {status}" if status >= SERVER_ERRORS else None
    about: dict[str, str | int] = {
        "http.request.method": request.method,
        "url.path": request.path,
        "http.response.status_code": status,
        "greenroom.mutation": request.id,
    }
    span.end(about, error=error)


def _refused(request: Request, error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case HTTPException():  # of the routes: no such path, or not with this method
            headers = {name: value for name, value in error.get_headers() if name.lower() == "allow"}
            return Problem(error.code or 500, error.description or error.name, headers=headers)
        case TooLargeError():
            return Problem(413, f"a body has at most {request.max_body} bytes")
        case _ if (retry_after := _passes_after(error)) is not None:
            log.warning("a request could not be served", id=request.id, path=request.path, reason=str(error))
            return Problem(503, str(error), headers={"Retry-After": retry_after})
        case _:
            log.error("a request failed", id=request.id, path=request.path, exc_info=error)
            return Problem(500, "this is a bug of the node; its log has more under the request id")


def _passes_after(error: Exception) -> str | None:
    return next((after for kind, after in PASSING.items() if isinstance(error, kind)), None)
