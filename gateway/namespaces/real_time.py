"""The namespace /real-time: a Socket.IO client as one more kind of session."""

from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any

import attrs
import msgspec
import structlog

from engine.actors.messages import Subscribed
from engine.domain.access import Identity
from engine.domain.event import CatalogPosition, UserId
from engine.errors import EngineError, StoreUnavailableError
from engine.node import Node
from gateway import protocol
from gateway.auth import Authenticator, AuthError
from gateway.calls import Calls
from gateway.engineio.timers import Timer
from gateway.limits import SessionLimit
from gateway.namespaces.frames import SocketIoFormat
from gateway.namespaces.recovery import Pid
from gateway.session import Session
from gateway.session_client import Refusal
from gateway.socketio.socket import ConnectRefused, Later, Socket

log = structlog.get_logger(__name__)

# Why a socket ends that its client has left for good.
LEFT = "client namespace disconnect"


# The wishes of the WebSocket's protocol; frontends that are there send more with them than it wants.
class _Join(protocol.SetPresence, forbid_unknown_fields=False):
    pass


class _Leave(protocol.Leave, forbid_unknown_fields=False):
    pass


class _Viewers(protocol.Viewers, forbid_unknown_fields=False):
    pass


class _Call(protocol.Call, forbid_unknown_fields=False):
    pass


class _Refresh(protocol.Refresh, forbid_unknown_fields=False):
    pass


@attrs.define(eq=False, kw_only=True)
class Guest:
    """
    Own the session behind one socket, and the end of its token.
    """

    session: Session
    calls: Calls
    expiry: Timer | None = None
    # What it returns with; None when it is not to recover.
    pid: Pid | None = None
    # Where it is present, and as what: by episode.
    rooms: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)


@attrs.frozen
class Return:
    """
    A client that comes, perhaps once more: what it kept, and where it stands.
    """

    pid: Pid | None = None
    since: CatalogPosition | None = None

    @classmethod
    def of(cls, auth: Mapping[str, Any], user: UserId) -> "Return":
        """
        What the client's library sends with the token. What is none of ours recovers nothing.
        """
        pid = Pid.parsed(auth.get("pid"), user)
        since = None if pid is None else pid.since(auth.get("offset"))
        return cls() if since is None else cls(pid, since)


@attrs.define(eq=False, kw_only=True)
class RealTimeNamespace:
    """
    Own the sessions of this node's Socket.IO clients: same hub, bounds and limits as all others.
    """

    node: Node
    authenticator: Authenticator
    sessions: SessionLimit

    # Who may come back: by the secret of their pid.
    _guests: dict[str, Socket] = attrs.field(factory=dict, init=False)
    _sockets: set[Socket] = attrs.field(factory=set, init=False)
    # By whether they tell where the client stands.
    _formats: Mapping[bool, SocketIoFormat] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._formats = {
            tells: SocketIoFormat(tells_position=tells, on_reset=self._let_all_return)
            for tells in (True, False)
        }

    async def connect(self, socket: Socket, auth: dict[str, Any]) -> None:
        """
        Let in who proves who they are by a token; who comes back hears what was missed.
        """
        identity = self._identify(socket, auth)
        if self.sessions.is_full:
            raise _refused(protocol.TRY_LATER, f"this node serves its {self.sessions.total} sessions already")
        if (reason := self.sessions.refusal(identity.user)) is not None:
            raise _refused(protocol.TOO_MANY, reason)
        recovers = self.node.settings.socketio.recovery
        session = Session(
            node=self.node,
            identity=identity,
            outlet=socket.session.outlet,
            format=self._formats[recovers],
            max_subscriptions=self.node.settings.limits.subscriptions_per_session,
        )
        calls = Calls(node=self.node, traceparent=socket.session.header(b"traceparent"))
        socket.user_data = Guest(session=session, calls=calls)
        self._sockets.add(socket)
        done = False
        try:
            await self._begin(socket, Return.of(auth, identity.user) if recovers else None)
            done = True
        except EngineError as error:
            # For a moment only: closed, and not refused, its library comes back by itself.
            log.info("a client is to try again", reason=str(error))
            socket.session.close("try later")
            raise _refused(protocol.TRY_LATER, str(error)) from None
        finally:
            if not done:
                await self._end(socket)
        self._watch_token(socket, identity)

    async def event(self, socket: Socket, name: str, args: list[Any]) -> list[Any] | Later | None:
        """
        Do what the client says, and say in the ack whether it was done.
        """
        session: Session = socket.user_data.session
        try:
            answer = await self._handle(socket, session, name, args)
        except StoreUnavailableError as error:
            answer = Refusal("try_later", str(error))
        except msgspec.ValidationError as error:
            answer = Refusal("bad_message", f"{name}: {error}")
        except EngineError as error:
            answer = Refusal("refused", str(error))
        session.presences.heartbeat()
        return answer if isinstance(answer, Later) else _acked(answer)

    async def gone(self, socket: Socket, reason: str) -> None:
        """
        End the session of a client that has gone.
        """
        guest: Guest = socket.user_data
        if guest.expiry is not None:
            guest.expiry.cancel()
        await self._end(socket)
        if reason == LEFT:
            # Who left comes back as somebody new.
            await self._keep(guest, None)

    def alive(self, socket: Socket) -> None:
        """
        The client answered a ping: where it is present, it is active.
        """
        socket.user_data.session.presences.heartbeat()

    async def _begin(self, socket: Socket, back: Return | None) -> None:
        guest: Guest = socket.user_data
        session = guest.session
        rooms: Mapping[str, Mapping[str, Any]] = {}
        if back is not None and back.pid is not None:
            kept = await self.node.store.socket_rooms.find(back.pid.secret, session.identity.user)
            if kept.rooms is None:
                back = Return()
            else:
                rooms = kept.rooms

        def opening(first: Subscribed) -> bytes:
            if back is None:
                return socket.welcome()
            if first.recovered and back.pid is not None:
                guest.pid = back.pid
                self._replace(socket, back.pid)
            else:
                guest.pid = Pid.new(session.identity.user, self.node.catalog.heard)
            self._guests[guest.pid.secret] = socket
            socket.id = guest.pid.sid
            return socket.welcome(pid=guest.pid.text)

        no = await session.begin(None if back is None else back.since, opening)
        if no is not None:
            raise StoreUnavailableError(no.message)
        if back is not None and guest.pid is back.pid:
            for episode, room in rooms.items():
                if not isinstance(await session.presences.join("episode", episode, **room), Refusal):
                    guest.rooms[episode] = room

    def _let_all_return(self) -> None:
        # At once, before another event goes out: it would claim that those before it were heard.
        for socket in list(self._sockets):
            socket.session.close("events were missed")

    def _replace(self, socket: Socket, pid: Pid) -> None:
        # The node may not have noticed yet that the line broke which the client has replaced.
        before = self._guests.get(pid.secret)
        if before is not None and before.session is not socket.session:
            before.session.close("replaced")

    async def _keep(self, guest: Guest, rooms: Mapping[str, Mapping[str, Any]] | None) -> None:
        if guest.pid is not None:
            await self.node.store.socket_rooms.keep(guest.pid.secret, guest.session.identity.user, rooms)

    async def _end(self, socket: Socket) -> None:
        guest: Guest = socket.user_data
        self._sockets.discard(socket)
        if guest.pid is not None and self._guests.get(guest.pid.secret) is socket:
            del self._guests[guest.pid.secret]
        self.sessions.release(guest.session.identity.user)
        await guest.session.end()

    async def _handle(
        self, socket: Socket, session: Session, name: str, args: list[Any]
    ) -> Refusal | dict[str, Any] | Later:
        given = args[0] if args else {}
        match name:
            case "presence:join":
                wish = msgspec.convert(given, _Join)
                return await self._join(socket.user_data, wish)
            case "presence:leave":
                leave = msgspec.convert(given, _Leave)
                return await self._leave(socket.user_data, leave)
            case "presence:viewers":
                page = msgspec.convert(given, _Viewers)
                found = session.presences.viewers(
                    page.resource_type, page.resource_id, page.after, page.limit
                )
                return found if isinstance(found, Refusal) else protocol.viewers_json(page.resource_id, found)
            case "call":
                return _call(socket.user_data.calls, session.identity, msgspec.convert(given, _Call))
            case "refresh":
                return self._refresh(socket, session, msgspec.convert(given, _Refresh).token)
            case "ping":
                return {}
            case _:
                return Refusal("unknown_event", f"{name[:100]!r} is no event of {protocol.NAMESPACE}")

    async def _join(self, guest: Guest, wish: protocol.SetPresence) -> Refusal | dict[str, Any]:
        room: Mapping[str, Any] = {"state": wish.state, "name": wish.user_name}
        no = await guest.session.presences.join(wish.resource_type, wish.resource_id, **room)
        if no is not None:
            return no
        # Acknowledged is what a client that comes back finds again, also after a crash of the node.
        guest.rooms[wish.resource_id] = room
        await self._keep(guest, guest.rooms)
        return {}

    async def _leave(self, guest: Guest, wish: protocol.Leave) -> Refusal | dict[str, Any]:
        no = await guest.session.presences.leave(wish.resource_type, wish.resource_id)
        if wish.resource_type == "episode" and wish.resource_id in guest.rooms:
            # Forgotten when that is kept, and not before: who is told to try again does.
            await self._keep(
                guest, {episode: room for episode, room in guest.rooms.items() if episode != wish.resource_id}
            )
            del guest.rooms[wish.resource_id]
            return {}
        return no or {}

    def _refresh(self, socket: Socket, session: Session, token: str) -> Refusal | dict[str, Any]:
        try:
            session.identity = self.authenticator.renew(token, session.identity)
        except AuthError as error:
            return Refusal("bad_token", str(error))
        self._watch_token(socket, session.identity)
        return {"expires_at": session.identity.expires_at}

    def _watch_token(self, socket: Socket, identity: Identity) -> None:
        guest: Guest = socket.user_data
        if guest.expiry is not None:
            guest.expiry.cancel()
            guest.expiry = None
        until = self.authenticator.lasts_until(identity)
        if until != inf:
            guest.expiry = socket.session.timers.at(until, partial(self._expire, socket))

    def _expire(self, socket: Socket) -> None:
        say_bye(socket, protocol.TOKEN_EXPIRED, "the token has expired; get a new one and reconnect", 0.0)

    def _identify(self, socket: Socket, auth: dict[str, Any]) -> Identity:
        token = auth.get("token")
        if token is None:
            kind, _, token = socket.session.header(b"authorization").partition(" ")
            token = token.strip() if kind.lower() == "bearer" else None
        if not isinstance(token, str):
            raise _refused(protocol.NOT_AUTHENTICATED, 'send the token in the auth payload: {"token": "…"}')
        try:
            return self.authenticator.identify(token)
        except AuthError as error:
            raise _refused(protocol.NOT_AUTHENTICATED, str(error)) from None


def _acked(answer: Refusal | dict[str, Any]) -> list[Any]:
    if isinstance(answer, Refusal):
        return [{"ok": False, "code": answer.code, "message": answer.message}]
    return [{"ok": True, **answer}]


def _call(calls: Calls, identity: Identity, wanted: protocol.Call) -> Later:
    return Later(lambda tell: calls.begin(identity, wanted, lambda said: tell(_result(said))))


def _result(said: msgspec.Raw | Refusal) -> list[Any]:
    if isinstance(said, Refusal):
        return _acked(said)
    try:
        return _acked({"result": msgspec.json.decode(said)})
    except RecursionError:
        return _acked(Refusal("failed", "the plugin's answer is nested too deep"))


def say_bye(socket: Socket, code: int, reason: str, after: float) -> None:
    """
    Tell a client why its line ends and when to come back, and end the line: its library comes back.
    """
    bye = {"code": code, "reason": reason, "reconnect_after": round(after, 3), "resume": True}
    socket.emit("bye", bye)
    socket.session.finish(reason)


def _refused(code: int, reason: str) -> ConnectRefused:
    return ConnectRefused(reason, {"code": code})
