"""Socket.IO over Engine.IO: which packet is for which namespace, and who works at it."""

from functools import partial
from typing import Any, cast

import attrs
import structlog
import trio

from gateway.engineio.packets import PacketError
from gateway.engineio.server import EngineOptions, EngineServer
from gateway.engineio.session import EngineSession
from gateway.limits import Bucket
from gateway.socketio.packets import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    Decoder,
    Packet,
    encode,
)
from gateway.socketio.socket import ConnectRefused, Job, Later, Namespace, Socket

log = structlog.get_logger(__name__)


@attrs.frozen(kw_only=True)
class SocketOptions:
    """
    How clients are served: times in seconds.
    """

    engine: EngineOptions = attrs.field(factory=lambda: EngineOptions(path="/socket.io/"))
    # Within this a client must have entered a namespace.
    connect_timeout: float = 45.0
    messages_per_second: float = 50.0
    # Messages at once after a pause; as many may wait to be handled.
    message_burst: int = 100


@attrs.define(eq=False)
class Client:
    """
    Own one line's namespaces, and the packet that is being assembled.
    """

    decoder: Decoder
    bucket: Bucket
    sockets: dict[str, Socket] = attrs.field(factory=dict)


@attrs.define(eq=False)
class SocketServer:
    """
    Own the clients of all namespaces.

    `run` works for them: a task on demand for whoever sent something, none for who is idle.
    """

    namespaces: dict[str, Namespace]
    options: SocketOptions = attrs.field(factory=SocketOptions)
    engine: EngineServer = attrs.field(init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.engine = EngineServer(self, self.options.engine)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Serve until cancelled.
        """
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self.engine.run)
            task_status.started()

    def retune(self, options: SocketOptions) -> None:
        """
        Serve those who come from now on like this.
        """
        self.options = options
        self.engine.options = options.engine

    def opened(self, session: EngineSession) -> None:
        """
        A line was opened: within a while it must lead somewhere.
        """
        options = self.options
        session.is_known = False
        session.user_data = Client(
            Decoder(session.most),
            Bucket(options.messages_per_second, options.message_burst),
        )
        deadline = trio.current_time() + options.connect_timeout
        self.engine.timers.at(deadline, partial(self._expect_entered, session))

    def received(self, session: EngineSession, data: str | bytes) -> None:
        """
        Take a message. Raises PacketError.
        """
        client = cast(Client, session.user_data)
        if client.bucket.take() > 0:
            session.finish("too many messages")
            return
        packet = client.decoder.decode(data)
        if packet is not None:
            self._take(session, client, packet)

    def alive(self, session: EngineSession) -> None:
        """
        The client answered a ping.
        """
        for socket in session.user_data.sockets.values():
            if socket.is_admitted:
                socket.namespace.alive(socket)

    def closed(self, session: EngineSession, reason: str) -> None:
        """
        A line was closed, and with it all that it led to.
        """
        for socket in list(session.user_data.sockets.values()):
            self._leave(socket, reason)

    def disconnect(self, socket: Socket) -> None:
        """
        End a client's part in a namespace. Its library does not come back by itself.
        """
        socket.push(socket.disconnect())
        self._leave(socket, "server namespace disconnect")

    def _take(self, session: EngineSession, client: Client, packet: Packet) -> None:
        socket = client.sockets.get(packet.namespace)
        if packet.kind == CONNECT and socket is None:
            self._enter(session, client, packet)
        elif socket is None or packet.kind == CONNECT:
            raise PacketError(f"not in this state of {packet.namespace}")
        elif packet.kind == EVENT:
            if len(socket.jobs) >= socket.inbox:
                session.finish("too many messages")
            else:
                self._do(socket, partial(self._handle, socket, packet))
        elif packet.kind == ACK:
            socket.acked(packet)
        elif packet.kind == DISCONNECT:
            self._leave(socket, "client namespace disconnect")

    def _enter(self, session: EngineSession, client: Client, packet: Packet) -> None:
        namespace = self.namespaces.get(packet.namespace)
        if namespace is None:
            session.push(encode(CONNECT_ERROR, packet.namespace, {"message": "Invalid namespace"}))
            return
        socket = client.sockets[packet.namespace] = Socket(
            name=packet.namespace,
            namespace=namespace,
            session=session,
            inbox=self.options.message_burst,
        )
        self._do(socket, partial(self._admit, socket, packet.data or {}))

    def _leave(self, socket: Socket, reason: str) -> None:
        socket.session.user_data.sockets.pop(socket.name, None)
        if socket.end(reason):
            self._do(socket, partial(socket.namespace.gone, socket, reason))

    def _expect_entered(self, session: EngineSession) -> None:
        if not session.is_closed and not session.user_data.sockets:
            session.close("no namespace was entered in time")

    def _do(self, socket: Socket, job: Job) -> None:
        socket.jobs.append(job)
        if not socket.is_busy and self._nursery is not None:
            socket.is_busy = True
            self._nursery.start_soon(self._work, socket)

    async def _work(self, socket: Socket) -> None:
        """
        Do what is to be done for one client, in order. A failure ends its part, no other.
        """
        try:
            while socket.jobs:
                job = socket.jobs.popleft()
                try:
                    await job()
                except Exception:
                    log.exception("a namespace failed", namespace=socket.name)
                    self.disconnect(socket)
        finally:
            socket.is_busy = False

    async def _admit(self, socket: Socket, auth: dict[str, Any]) -> None:
        try:
            await socket.namespace.connect(socket, auth)
        except ConnectRefused as refused:
            socket.refuse(refused.message, refused.data)
            self._leave(socket, "refused")
            return
        socket.is_admitted = True
        socket.session.is_known = True
        socket.session.user_data.decoder.max_bytes = socket.session.most
        if socket.reason is not None:
            # It went while it was let in.
            await socket.namespace.gone(socket, socket.reason)

    async def _handle(self, socket: Socket, packet: Packet) -> None:
        name, *args = packet.data
        answer = await socket.namespace.event(socket, str(name), args)
        if isinstance(answer, Later):
            answer.begin(partial(self._acknowledge, socket, packet.id))
        elif answer is not None:
            self._acknowledge(socket, packet.id, answer)

    def _acknowledge(self, socket: Socket, number: int | None, answer: list[Any]) -> None:
        if number is not None:
            socket.ack(number, answer)
