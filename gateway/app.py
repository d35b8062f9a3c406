"""The one ASGI application: routes WebSockets and event streams to coroutines, everything else to Quart."""

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, cast

import attrs
import structlog
from hypercorn.typing import ASGIFramework
from quart import Response, g, request
from quart_schema import Info, QuartSchema
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from engine.errors import StoreUnavailableError
from engine.node import Node
from engine.plugin_host import DecisionError
from gateway.auth import Authenticator
from gateway.limits import RateLimit, SessionLimit
from gateway.rest import compositions, edge, engine, episodes, metrics, pages, records
from gateway.rest.edge import Edge
from gateway.rest.openapi import Provider
from gateway.rest.problems import Problem
from gateway.sse import Streams
from gateway.ws import RealTime

log = structlog.get_logger()

REAL_TIME = "/real-time"
STREAM = "/api/v1/stream"
# Seconds after which a client may find the database back.
RETRY_AFTER = "1"


@attrs.frozen(kw_only=True)
class Application:
    """
    What is served on the node's port.
    """

    rest: QuartTrio
    real_time: RealTime
    streams: Streams

    @classmethod
    def build(cls, node: Node, authenticator: Authenticator) -> "Application":
        """
        The application of a node. It can be served once.
        """
        limits = node.settings.limits
        at = Edge(
            node=node,
            authenticator=authenticator,
            rate=RateLimit(rate=limits.requests_per_second, burst=limits.request_burst),
        )
        sessions = SessionLimit(total=limits.sessions, per_user=limits.sessions_per_user)
        return cls(
            rest=_rest(at),
            real_time=RealTime(node=node, authenticator=authenticator, sessions=sessions),
            streams=Streams(node=node, authenticator=authenticator, rate=at.rate, sessions=sessions),
        )

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """
        Serve one request, WebSocket or lifespan.
        """
        if scope["type"] == "http" and scope["path"] == STREAM:
            # Not through Quart: a stream lives long, and it needs nothing of a request's machinery.
            await self.streams(scope, receive, send)
        elif scope["type"] != "websocket":
            await cast(ASGIFramework, self.rest)(cast(Any, scope), cast(Any, receive), send)
        elif scope["path"] == REAL_TIME:
            await self.real_time(scope, receive, send)
        else:
            await receive()
            # Before the handshake a close is answered with 403.
            await send({"type": "websocket.close", "code": 1000})

    def drain(self) -> None:
        """
        Tell every session to come back later, and end it.
        """
        self.real_time.drain()
        self.streams.drain()


def _rest(at: Edge) -> QuartTrio:
    app = QuartTrio("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = at.node.settings.server.max_body
    # The server limits how long a body may take.
    app.config["BODY_TIMEOUT"] = None
    QuartSchema(
        app,
        openapi_path="/api/v1/openapi.json",
        redoc_ui_path=None,
        scalar_ui_path=None,
        swagger_ui_path=None,
        info=Info(title="Greenroom", version=version("greenroom")),
        conversion_preference="msgspec",
        security_schemes={"token": {"type": "http", "scheme": "bearer", "bearer_format": "JWT"}},
        security=[{"token": []}],
        openapi_provider_class=Provider,
    )
    for blueprint in (
        episodes.blueprint(at),
        compositions.blueprint(at),
        records.blueprint(at),
        engine.blueprint(at),
        engine.health(at),
        metrics.blueprint(at),
        pages.blueprint(),
    ):
        app.register_blueprint(blueprint)
    app.before_request(edge.start_request)
    app.after_request(_finish)
    app.register_error_handler(Problem, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(StoreUnavailableError, _unavailable)
    app.register_error_handler(DecisionError, _unavailable)
    app.register_error_handler(Exception, _bug)
    return app


async def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.path.startswith("/api/"):
        response.headers["Cache-Control"] = "no-store"
    log.debug(
        "request", id=g.request_id, method=request.method, path=request.path, status=response.status_code
    )
    return response


async def _refused(problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem.response(g.request_id)


async def _http_error(error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {name: value for name, value in error.get_headers() if name.lower() == "allow"}
    detail = error.description or error.name
    return Problem(error.code or 500, detail, headers=headers).response(g.request_id)


async def _unavailable(error: Exception) -> Response:
    log.warning("a request could not be served", id=g.request_id, path=request.path, reason=str(error))
    return Problem(503, str(error), headers={"Retry-After": RETRY_AFTER}).response(g.request_id)


async def _bug(error: Exception) -> Response:
    log.error("a request failed", id=g.request_id, path=request.path, exc_info=error)
    return Problem(500, "this is a bug of the node; its log has more under the request id").response(
        g.request_id
    )
