"""Namespaces that plugins serve: their functions under budgets, and what they are given of each client."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import attrs
import structlog
import trio

from engine import hookspecs
from engine.domain.access import Identity
from engine.errors import EngineError
from engine.plugin_host.host import PluginHost
from engine.runtime.foreign import Function
from gateway.auth import Authenticator, AuthError
from gateway.socketio.rooms import Rooms
from gateway.socketio.socket import ConnectRefused, Socket

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Threads that plain functions of all namespaces may keep busy at once.
THREADS = 8
# What a plugin may do with a client that it has not let in yet.
HELD = 100
# Seconds between letting a client in and the first event: in one read with that it would come before the
# client's own code has heard that it is connected, and listens.
PAUSE = 0.02


@attrs.define(eq=False, kw_only=True)
class PluginSocket:
    """
    One client as its plugin sees it; fulfils hookspecs.Socket.
    """

    auth: dict[str, Any]
    identity: Identity | None
    user_data: Any = None
    _socket: Socket = attrs.field(alias="socket")
    _rooms: Rooms = attrs.field(alias="rooms")
    _disconnect: Callable[[Socket], None] = attrs.field(alias="disconnect")
    # What is to be done once the client is let in; None since then.
    _held: list[Callable[[], object]] | None = attrs.field(factory=list, init=False)

    @property
    def id(self) -> str:
        return self._socket.id

    @property
    def namespace(self) -> str:
        return self._socket.name

    @property
    def is_connected(self) -> bool:
        return self._socket.reason is None

    def emit(self, event: str, *args: Any) -> bool:
        _on_the_loop(self._do, partial(self._socket.emit, event, *args))
        return self.is_connected

    async def ask(self, event: str, *args: Any) -> list[Any]:
        if self._held is not None:
            raise EngineError("a client can be asked once it was let in")
        return await self._socket.ask(event, *args)

    def join(self, room: str) -> None:
        _on_the_loop(self._do, partial(self._rooms.join, self._socket, room))

    def leave(self, room: str) -> None:
        _on_the_loop(self._do, partial(self._rooms.leave, self._socket, room))

    async def broadcast(
        self, event: str, *args: Any, room: str | None = None, to_itself: bool = False
    ) -> int:
        but_not = None if to_itself else self._socket
        return await self._rooms.emit(self.namespace, room, event, list(args), but_not=but_not)

    def disconnect(self) -> None:
        _on_the_loop(self._disconnect, self._socket)

    async def let_in(self) -> None:
        """
        Let the client in, and do what waited for that.
        """
        self._rooms.enter(self._socket)
        self._socket.accept()
        if self._held:
            await trio.sleep(PAUSE)
        held, self._held = self._held or [], None
        for act in held:
            act()

    def _do(self, act: Callable[[], object]) -> None:
        if self._held is None:
            act()
        elif len(self._held) < HELD:
            self._held.append(act)
        else:
            raise EngineError(f"at most {HELD} things can wait until a client is let in")


@attrs.define(eq=False, kw_only=True)
class PluginNamespace:
    """
    Serve one namespace by a plugin's functions. A failure of theirs is logged, and harms nobody else.
    """

    plugin: str
    contract: hookspecs.SocketNamespace
    plugins: PluginHost
    authenticator: Authenticator
    rooms: Rooms
    disconnect: Callable[[Socket], None]
    limiter: trio.CapacityLimiter
    # With what each event's function may be called.
    _signatures: dict[str, inspect.Signature | None] = attrs.field(factory=dict, init=False)

    async def connect(self, socket: Socket, auth: dict[str, Any]) -> None:
        """
        Let in whom the plugin lets in.
        """
        given = socket.user_data = PluginSocket(
            auth=auth,
            identity=self._identity(auth),
            socket=socket,
            rooms=self.rooms,
            disconnect=self.disconnect,
        )
        try:
            if self.contract.on_connect is not None:
                await self._ask("on_connect", self.contract.on_connect, given)
        except hookspecs.SocketRefused as refused:
            raise ConnectRefused(refused.message, refused.data) from None
        except Exception:
            self._failed(socket, "on_connect")
            raise ConnectRefused("the namespace has failed; try again later") from None
        try:
            await given.let_in()
        except Exception:
            # Too late to refuse it; as it was let in, it leaves its rooms as whoever goes.
            self._failed(socket, "on_connect")
            self.disconnect(socket)

    async def event(self, socket: Socket, name: str, args: list[Any]) -> list[Any] | None:
        """
        Let the plugin handle an event. One that it does not know is ignored, as Socket.IO does.
        """
        handle = self.contract.events.get(name)
        if handle is None:
            return None
        if not self._takes(name, handle, args):
            message = f"{name[:100]} takes other arguments than these {len(args)}"
            socket.emit("error", {"event": name[:100], "message": message})
            return None
        try:
            answer = await self._ask(name, handle, socket.user_data, *args)
        except Exception:
            self._failed(socket, name)
            return None
        if answer is None:
            return []
        return list(answer) if isinstance(answer, tuple) else [answer]

    async def gone(self, socket: Socket, reason: str) -> None:
        """
        Tell the plugin that a client has gone.
        """
        self.rooms.drop(socket)
        if self.contract.on_disconnect is not None:
            try:
                await self._ask("on_disconnect", self.contract.on_disconnect, socket.user_data, reason)
            except Exception:
                self._failed(socket, "on_disconnect")

    def alive(self, socket: Socket) -> None:
        """
        Plugins need not know.
        """

    async def _ask(self, name: str, call: Callable[..., Any], *given: object) -> Any:
        return await self.plugins.runner.run_within(
            self.plugins.budgets_of(self.plugin).socket_budget,
            Function(
                owner=self.plugin,
                name=f"{name} of {self.contract.name}",
                call=call,
                is_async=inspect.iscoroutinefunction(call),
            ),
            *given,
            limiter=self.limiter,
        )

    def _takes(self, name: str, handle: Callable[..., Any], args: list[Any]) -> bool:
        # What a client sends must not look like a bug of the plugin.
        if name not in self._signatures:
            try:
                self._signatures[name] = inspect.signature(handle)
            except (ValueError, TypeError):
                self._signatures[name] = None
        signature = self._signatures[name]
        try:
            if signature is not None:
                signature.bind(None, *args)
        except TypeError:
            return False
        return True

    def _identity(self, auth: dict[str, Any]) -> Identity | None:
        token = auth.get("token")
        try:
            return self.authenticator.identify(token) if isinstance(token, str) else None
        except AuthError:
            return None

    def _failed(self, socket: Socket, what: str) -> None:
        log.exception("a plugin's namespace failed", plugin=self.plugin, namespace=socket.name, call=what)


def _on_the_loop(call: Callable[..., T], *args: Any) -> T:
    """
    Call at once, or, from a plain function's thread, on the event loop.
    """
    return call(*args) if trio.lowlevel.in_trio_run() else trio.from_thread.run_sync(call, *args)
