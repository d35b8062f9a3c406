"""The WebSocket at /real-time: reads our JSON protocol and lets a session do what the client says."""

import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, assert_never

import attrs
import msgspec
import structlog
import trio

from engine.domain.access import Identity
from engine.domain.event import CatalogPosition, Position
from engine.errors import EngineError, StoreUnavailableError
from engine.node import Node
from gateway import protocol
from gateway.auth import Authenticator, AuthError
from gateway.calls import Calls
from gateway.farewell import send_away
from gateway.http.outlet import OUTLET_EXTENSION
from gateway.http.queue_outlet import QueueOutlet
from gateway.limits import Bucket, SessionLimit
from gateway.protocol import FRAMED_JSON, JSON_LINES, BadMessageError, FramedJson, JsonLines, Ref
from gateway.session import Session, Since
from gateway.session_client import Refusal

log = structlog.get_logger()

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

SUBPROTOCOL = "bearer"
# The longest reason that a close frame has room for.
REASON_BYTES = 123


class Closing(Exception):  # noqa: N818 -- the ordinary end of a connection, not an error
    """
    End this connection with a code and a reason; who catches it sends `bye` and closes.
    """

    def __init__(self, code: int, reason: str, *, later: float = 0.0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        # Seconds beyond `server.reconnect_after` that the client is told to stay away.
        self.later = later


@attrs.define(eq=False, kw_only=True)
class RealTime:
    """
    Own the open WebSockets of this node.
    """

    node: Node
    authenticator: Authenticator
    sessions: SessionLimit
    chance: random.Random = attrs.field(factory=random.Random)
    _open: "set[Connection]" = attrs.field(factory=set, init=False)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """
        Serve one WebSocket as an ASGI application.
        """
        await receive()
        connection = Connection(gateway=self, scope=scope, receive=receive, send=send)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    async def drain(self) -> None:
        """
        Tell every client to come back later, spread evenly over a window, and close.
        """

        def away(connection: Connection, later: float) -> None:
            connection.close_soon(Closing(protocol.GOING_AWAY, "the node stops; come back", later=later))

        await send_away(self._open, self.node.settings.server.reconnect_window, self.chance, away)


@attrs.define(eq=False, kw_only=True)
class Connection:
    """
    Own one WebSocket from its handshake to its close frame.
    """

    gateway: RealTime
    scope: Mapping[str, Any]
    receive: Receive
    send: Send
    # Where its topics were when the session ended.
    _positions: Mapping[str, Position | CatalogPosition] = attrs.field(factory=dict, init=False)
    # Ended from outside: with the reason that `close_soon` leaves behind.
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _closing: Closing | None = attrs.field(default=None, init=False)
    _push: Callable[[bytes], bool] = attrs.field(init=False)
    # Of a connection without an outlet of its own.
    _queue: QueueOutlet | None = attrs.field(default=None, init=False)
    _format: FramedJson | JsonLines = attrs.field(init=False)
    _bucket: Bucket = attrs.field(init=False)
    _calls: Calls = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        header = dict(self.scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        self._calls = Calls(node=self.gateway.node, traceparent=header)
        limits = self.gateway.node.settings.limits
        self._bucket = Bucket(limits.messages_per_second, limits.message_burst)

    async def run(self) -> None:
        """
        Serve until either side closes.
        """
        token, subprotocol = _token_of(self.scope)
        await self.send({"type": "websocket.accept", "subprotocol": subprotocol})
        direct = self.scope["extensions"].get(OUTLET_EXTENSION)
        if direct is not None:
            self._format = FRAMED_JSON
            await self._serve(direct, token)
            return
        queue = QueueOutlet(limit=self.gateway.node.settings.realtime.outlet_backlog, split=JSON_LINES.split)
        self._queue, self._format = queue, JSON_LINES
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.write, self._send_text)
            nursery.start_soon(self._watch_queue, queue)
            await self._serve(queue, token)
            nursery.cancel_scope.cancel()

    def close_soon(self, closing: Closing) -> None:
        """
        Let the connection end like this.
        """
        self._closing = closing
        self._scope.cancel()

    async def _serve(self, outlet: Any, token: str | None) -> None:
        self._push = outlet.push
        try:
            with self._scope:
                identity = await self._authenticate(token)
                await self._live(identity, outlet)
                return
        except Closing as closing:
            self._closing = closing
        except StoreUnavailableError as error:
            self._closing = Closing(protocol.TRY_LATER, str(error))
        if self._closing is not None:
            await self._close(self._closing)

    async def _authenticate(self, token: str | None) -> tuple[Identity, Ref]:
        settings = self.gateway.node.settings.auth
        if token is not None:
            return self._identify(token), None
        with trio.move_on_after(settings.connect_timeout):
            message = await self._next()
            if isinstance(message, protocol.Connect):
                return self._identify(message.token), message.ref
            raise Closing(
                protocol.NOT_AUTHENTICATED, 'the first message must be {"type": "connect", "token": …}'
            )
        raise Closing(protocol.NOT_AUTHENTICATED, f"no connect message within {settings.connect_timeout:g} s")

    def _identify(self, token: str) -> Identity:
        try:
            return self.gateway.authenticator.identify(token)
        except AuthError as error:
            raise Closing(protocol.NOT_AUTHENTICATED, str(error)) from None

    async def _live(self, who: tuple[Identity, Ref], outlet: Any) -> None:
        identity, ref = who
        sessions = self.gateway.sessions
        if sessions.is_full:
            raise Closing(protocol.TRY_LATER, f"this node serves its {sessions.total} sessions already")
        if (reason := sessions.refusal(identity.user)) is not None:
            raise Closing(protocol.TOO_MANY, reason)
        session = Session(
            node=self.gateway.node,
            identity=identity,
            outlet=outlet,
            format=self._format,
            max_subscriptions=self.gateway.node.settings.limits.subscriptions_per_session,
        )
        try:
            self._welcome(session, ref)
            if (no := await session.begin()) is not None:
                raise Closing(protocol.TRY_LATER, no.message)
            await self._converse(session)
        finally:
            self._positions = session.positions()
            sessions.release(identity.user)
            await session.end()

    def _welcome(self, session: Session, ref: Ref) -> None:
        identity = session.identity
        self._reply(
            protocol.ok(
                ref,
                session=session.id,
                userId=identity.user,
                userName=identity.name,
                role=identity.role.name.lower(),
                expires_at=identity.expires_at,
            )
        )

    async def _converse(self, session: Session) -> None:
        while True:
            message = await self._next_before(self.gateway.authenticator.lasts_until(session.identity))
            if self._bucket.take() > 0:
                raise Closing(protocol.TOO_MANY, "too many messages; slow down")
            try:
                answer = await self._handle(session, message)
            except StoreUnavailableError as error:
                answer = Refusal("try_later", str(error))
            except EngineError as error:
                answer = Refusal("refused", str(error))
            session.presences.heartbeat()
            if answer is not None:
                self._answer(message.ref, answer)

    def _answer(self, ref: Ref, answer: Refusal | dict[str, Any]) -> None:
        if isinstance(answer, Refusal):
            self._reply(protocol.error(ref, answer.code, answer.message))
        else:
            self._reply(protocol.ok(ref, **answer))

    def _answer_call(self, ref: Ref, answer: msgspec.Raw | Refusal) -> None:
        self._answer(ref, answer if isinstance(answer, Refusal) else {"result": answer})

    async def _next_before(self, expiry: float) -> protocol.ClientMessage:
        with trio.move_on_at(expiry):
            return await self._next()
        raise Closing(protocol.TOKEN_EXPIRED, "the token has expired; get a new one and reconnect")

    async def _handle(
        self, session: Session, message: protocol.ClientMessage
    ) -> Refusal | dict[str, Any] | None:
        """
        Do what the client says; answers what to say in the reply, or why not; None when a plugin will say it.
        """
        match message:
            case protocol.Subscribe(topic=topic, since=since, snapshot=snapshot):
                position = Since(since.offset, since.epoch) if since else None
                refusal = await session.subscribe(topic, position, snapshot=snapshot)
            case protocol.SetPresence():
                refusal = await session.presences.join(
                    message.resource_type, message.resource_id, message.state, message.user_name
                )
            case protocol.Unsubscribe(topic=topic):
                refusal = await session.unsubscribe(topic)
            case protocol.Leave():
                refusal = await session.presences.leave(message.resource_type, message.resource_id)
            case protocol.Refresh(token=token):
                return self._refresh(session, token)
            case protocol.Connect():
                refusal = Refusal(
                    "already_connected", "this session is connected; send refresh for a new token"
                )
            case protocol.Call():
                self._calls.begin(session.identity, message, partial(self._answer_call, message.ref))
                return None
            case protocol.Viewers():
                found = session.presences.viewers(
                    message.resource_type, message.resource_id, message.after, message.limit
                )
                return (
                    found if isinstance(found, Refusal) else protocol.viewers_json(message.resource_id, found)
                )
            case protocol.Ping():
                refusal = None
            case _:
                assert_never(message)
        return refusal or {}

    def _refresh(self, session: Session, token: str) -> Refusal | dict[str, Any]:
        try:
            session.identity = self.gateway.authenticator.renew(token, session.identity)
        except AuthError as error:
            return Refusal("bad_token", str(error))
        return {"expires_at": session.identity.expires_at}

    async def _next(self) -> protocol.ClientMessage:
        event = await self.receive()
        if event["type"] == "websocket.disconnect":
            self._scope.cancel()
            await trio.lowlevel.checkpoint()
        text = event.get("text")
        if text is None:
            raise Closing(protocol.BAD_MESSAGE, "messages are JSON in text frames, not binary")
        # The server takes what any of its WebSockets may carry: those of Socket.IO carry more.
        most = self.gateway.node.settings.limits.max_message
        if len(text) > most or len(text.encode(errors="surrogatepass")) > most:
            raise Closing(protocol.TOO_BIG, f"a message has at most {most} bytes")
        try:
            return protocol.decode(text)
        except BadMessageError as error:
            raise Closing(protocol.BAD_MESSAGE, str(error)) from None

    def _reply(self, payload: bytes) -> None:
        self._push(self._format.wrap(payload))

    async def _close(self, closing: Closing) -> None:
        comes_back = closing.code not in (
            protocol.BAD_MESSAGE,
            protocol.NOT_AUTHENTICATED,
            protocol.FORBIDDEN,
        )
        after = self.gateway.node.settings.server.reconnect_after + closing.later if comes_back else 0.0
        await self._say_last(
            protocol.bye(
                closing.code,
                closing.reason,
                reconnect_after=after,
                resume=comes_back,
                positions=self._positions,
            )
        )
        reason = closing.reason.encode()[:REASON_BYTES].decode(errors="ignore")
        await self.send({"type": "websocket.close", "code": closing.code, "reason": reason})

    async def _say_last(self, payload: bytes) -> None:
        if self._queue is None:
            self._reply(payload)
            return
        # The close frame does not wait in the queue, and would overtake it.
        with trio.move_on_after(self.gateway.node.settings.realtime.outlet_deadline):
            await self._queue.finish(self._format.wrap(payload))

    async def _send_text(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})

    async def _watch_queue(self, queue: QueueOutlet) -> None:
        await queue.wait_slow()
        self.close_soon(Closing(protocol.TOO_SLOW, "too slow: reconnect and recover"))


def _token_of(scope: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """
    The token that the handshake brings, and the subprotocol to answer with.
    """
    offered = scope.get("subprotocols") or []
    if len(offered) >= 2 and offered[0] == SUBPROTOCOL:
        return offered[1], SUBPROTOCOL
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if kind.lower() == "bearer" else "", None
    return None, None
