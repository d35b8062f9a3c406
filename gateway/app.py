"""The one ASGI application: routes WebSockets, event streams and REST to whoever serves them."""

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, cast

import attrs
from hypercorn.typing import ASGIFramework
from quart_schema import Info, QuartSchema
from quart_trio import QuartTrio

from conf.settings import Settings
from engine.node import Node
from gateway.auth import Authenticator
from gateway.http.traffic import Traffic
from gateway.limits import RateLimit, SessionLimit
from gateway.namespaces.socket_io import SocketIo
from gateway.proxies import Proxies
from gateway.rest import (
    actors,
    compositions,
    engine,
    episodes,
    job_engine,
    jobs,
    metrics,
    pages,
    plugin_routes,
    records,
    reload,
    scripts,
    sign_in,
    trace,
)
from gateway.rest.dispatch import Dispatch
from gateway.rest.edge import Edge
from gateway.rest.openapi import Provider
from gateway.sse.stream import Streams
from gateway.ws import RealTime

REAL_TIME = "/real-time"
STREAM = "/api/v1/stream"
SOCKET_IO = "/socket.io/"


@attrs.frozen(kw_only=True)
class Application:
    """
    What is served on the node's port.
    """

    rest: QuartTrio
    dispatch: Dispatch
    real_time: RealTime
    streams: Streams
    socket_io: SocketIo
    traffic: Traffic
    proxies: Proxies

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
        rest = _rest(at)
        dispatch = Dispatch(rest, node.settings.server.max_body, at.traffic.answers, node.traces)

        proxies = Proxies(node.settings.server.trusted_proxies)

        def retune(settings: Settings) -> None:
            proxies.trusted = settings.server.trusted_proxies
            dispatch.max_body = settings.server.max_body
            at.rate.retune(settings.limits.requests_per_second, settings.limits.request_burst)
            sessions.retune(settings.limits.sessions, settings.limits.sessions_per_user)
            authenticator.retune(settings.auth)

        node.live.follow(retune)
        node.live.renew(authenticator.renewal)
        return cls(
            rest=rest,
            dispatch=dispatch,
            real_time=RealTime(node=node, authenticator=authenticator, sessions=sessions),
            streams=Streams(node=node, authenticator=authenticator, rate=at.rate, sessions=sessions),
            socket_io=SocketIo.build(node, authenticator, sessions, path=SOCKET_IO),
            traffic=at.traffic,
            proxies=proxies,
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
        scope = self.proxies.seen(scope)
        if scope["type"] != "lifespan" and scope["path"].startswith(SOCKET_IO):
            await self.socket_io(scope, receive, send)
        elif scope["type"] == "http":
            await (self.streams if scope["path"] == STREAM else self.dispatch)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await cast(ASGIFramework, self.rest)(cast(Any, scope), cast(Any, receive), send)
        elif scope["path"] == REAL_TIME:
            await self.real_time(scope, receive, send)
        else:
            await receive()
            # Before the handshake a close is answered with 403.
            await send({"type": "websocket.close", "code": 1000})

    async def drain(self) -> None:
        """
        Tell every session to come back later, and end it.
        """
        # First who may be polling: the poll that is answered with something else would be its last.
        await self.socket_io.drain()
        await self.streams.drain()
        await self.real_time.drain()


def _rest(at: Edge) -> QuartTrio:
    app = QuartTrio("gateway", static_folder=None)
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
    registry = metrics.registry_of(at)
    for blueprint in (
        episodes.blueprint(at),
        compositions.blueprint(at),
        records.blueprint(at),
        jobs.blueprint(at),
        job_engine.blueprint(at),
        engine.blueprint(at, registry),
        actors.blueprint(at),
        engine.health(at),
        reload.blueprint(at),
        trace.blueprint(at),
        metrics.blueprint(registry),
        sign_in.blueprint(at),
        pages.blueprint(),
        scripts.blueprint(),
        plugin_routes.blueprint(at),
    ):
        app.register_blueprint(blueprint)
    return app
