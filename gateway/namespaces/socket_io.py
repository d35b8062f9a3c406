"""Socket.IO on the node's port: the server, and the namespaces that there are."""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from conf.settings import Settings
from engine.node import Node
from gateway import protocol
from gateway.auth import Authenticator
from gateway.engineio.server import EngineOptions
from gateway.engineio.session import EngineSession
from gateway.farewell import send_away
from gateway.limits import SessionLimit
from gateway.namespaces.plugins import THREADS, PluginNamespace
from gateway.namespaces.real_time import RealTimeNamespace, say_bye
from gateway.socketio.rooms import Rooms
from gateway.socketio.server import SocketOptions, SocketServer

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


@attrs.define(eq=False, kw_only=True)
class SocketIo:
    """
    Own the Socket.IO clients of this node.
    """

    node: Node
    server: SocketServer
    chance: random.Random = attrs.field(factory=random.Random)

    @classmethod
    def build(
        cls, node: Node, authenticator: Authenticator, sessions: SessionLimit, *, path: str
    ) -> "SocketIo":
        """
        What the settings want.
        """
        real_time = RealTimeNamespace(node=node, authenticator=authenticator, sessions=sessions)
        server = SocketServer({protocol.NAMESPACE: real_time}, options_of(node.settings, path))
        rooms = Rooms(most=node.settings.limits.subscriptions_per_session)
        limiter = trio.CapacityLimiter(THREADS)
        for plugin, contract in node.plugins.sockets.by_plugin():
            server.namespaces[contract.name] = PluginNamespace(
                plugin=plugin,
                contract=contract,
                plugins=node.plugins,
                authenticator=authenticator,
                rooms=rooms,
                disconnect=server.disconnect,
                limiter=limiter,
            )
        node.live.follow(lambda settings: server.retune(options_of(settings, path)))
        return cls(node=node, server=server)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Serve until cancelled.
        """
        await self.server.run(task_status)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """
        Serve one request or WebSocket.
        """
        await self.server.engine(scope, receive, send)

    async def drain(self) -> None:
        """
        Tell every client that the node stops, and end its line: its library comes back by itself.
        """
        server = self.node.settings.server

        def away(session: EngineSession, later: float) -> None:
            for socket in list(session.user_data.sockets.values()):
                after = server.reconnect_after + later
                say_bye(socket, protocol.GOING_AWAY, "the node stops; come back", after)
            session.finish("the node stops")

        await send_away(self.server.engine.sessions.values(), server.reconnect_window, self.chance, away)


def options_of(settings: Settings, path: str) -> SocketOptions:
    """
    How the settings want clients to be served.
    """
    return SocketOptions(
        engine=EngineOptions(
            path=path,
            ping_interval=settings.socketio.ping_interval,
            ping_timeout=settings.socketio.ping_timeout,
            upgrade_timeout=settings.socketio.upgrade_timeout,
            max_payload=min(settings.socketio.max_payload, settings.server.max_body),
            transports=settings.socketio.transports,
            origins=settings.socketio.allowed_origins,
            backlog=settings.realtime.outlet_backlog,
            max_sessions=settings.limits.sessions,
        ),
        connect_timeout=settings.socketio.connect_timeout,
        messages_per_second=settings.limits.messages_per_second,
        message_burst=settings.limits.message_burst,
    )
