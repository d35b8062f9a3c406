"""The namespace /real-time: a Socket.IO client as one more kind of session."""

from functools import partial
from math import inf
from typing import Any

import attrs
import msgspec

from engine.actors.messages import Subscribed
from engine.domain.access import Identity
from engine.errors import EngineError, StoreUnavailableError
from engine.node import Node
from gateway import protocol
from gateway.auth import Authenticator, AuthError
from gateway.engineio.timers import Timer
from gateway.limits import SessionLimit
from gateway.namespaces.frames import SOCKET_IO
from gateway.session import Refusal, Session
from gateway.socketio.socket import ConnectRefused, Socket


# The wishes of the WebSocket's protocol; frontends that are there send more with them than it wants.
class _Join(protocol.SetPresence, forbid_unknown_fields=False):
    pass


class _Leave(protocol.Leave, forbid_unknown_fields=False):
    pass


class _Viewers(protocol.Viewers, forbid_unknown_fields=False):
    pass


class _Refresh(protocol.Refresh, forbid_unknown_fields=False):
    pass


@attrs.define(eq=False, kw_only=True)
class Guest:
    """
    Own the session behind one socket, and the end of its token.
    """

    session: Session
    expiry: Timer | None = None


@attrs.define(eq=False, kw_only=True)
class RealTimeNamespace:
    """
    Own the sessions of this node's Socket.IO clients: same hub, bounds and limits as all others.
    """

    node: Node
    authenticator: Authenticator
    sessions: SessionLimit

    async def connect(self, socket: Socket, auth: dict[str, Any]) -> None:
        """
        Let in who proves who they are by a token.
        """
        identity = self._identify(socket, auth)
        if self.sessions.is_full:
            raise _refused(protocol.TRY_LATER, f"this node serves its {self.sessions.total} sessions already")
        if (reason := self.sessions.refusal(identity.user)) is not None:
            raise _refused(protocol.TOO_MANY, reason)
        session = Session(
            node=self.node,
            identity=identity,
            outlet=socket.session.outlet,
            format=SOCKET_IO,
            max_subscriptions=self.node.settings.limits.subscriptions_per_session,
        )
        done = False
        try:
            await self._begin(socket, session)
            done = True
        finally:
            if not done:
                await self._end(session)
        socket.user_data = Guest(session=session)
        self._watch_token(socket, identity)

    async def event(self, socket: Socket, name: str, args: list[Any]) -> list[Any] | None:
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
        session.heartbeat()
        if isinstance(answer, Refusal):
            return [{"ok": False, "code": answer.code, "message": answer.message}]
        return [{"ok": True, **answer}]

    async def gone(self, socket: Socket, reason: str) -> None:
        """
        End the session of a client that has gone.
        """
        guest: Guest = socket.user_data
        if guest.expiry is not None:
            guest.expiry.cancel()
        await self._end(guest.session)

    def alive(self, socket: Socket) -> None:
        """
        The client answered a ping: where it is present, it is active.
        """
        socket.user_data.session.heartbeat()

    async def _begin(self, socket: Socket, session: Session) -> None:
        def opening(first: Subscribed) -> bytes:
            return socket.welcome()

        try:
            no = await session.begin(None, opening)
        except EngineError as error:
            raise _refused(protocol.TRY_LATER, str(error)) from None
        if no is not None:
            raise _refused(protocol.TRY_LATER, no.message)

    async def _end(self, session: Session) -> None:
        self.sessions.release(session.identity.user)
        await session.end()

    async def _handle(
        self, socket: Socket, session: Session, name: str, args: list[Any]
    ) -> Refusal | dict[str, Any]:
        given = args[0] if args else {}
        match name:
            case "presence:join":
                wish = msgspec.convert(given, _Join)
                no = await session.be_present(
                    wish.resource_type, wish.resource_id, wish.state, wish.user_name
                )
                return no or {}
            case "presence:leave":
                leave = msgspec.convert(given, _Leave)
                return await session.leave(leave.resource_type, leave.resource_id) or {}
            case "presence:viewers":
                page = msgspec.convert(given, _Viewers)
                found = session.viewers(page.resource_type, page.resource_id, page.after, page.limit)
                return found if isinstance(found, Refusal) else protocol.viewers_json(page.resource_id, found)
            case "refresh":
                return self._refresh(socket, session, msgspec.convert(given, _Refresh).token)
            case "ping":
                return {}
            case _:
                return Refusal("unknown_event", f"{name[:100]!r} is no event of {protocol.NAMESPACE}")

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


def say_bye(socket: Socket, code: int, reason: str, after: float) -> None:
    """
    Tell a client why its line ends and when to come back, and end the line: its library comes back.
    """
    bye = {"code": code, "reason": reason, "reconnect_after": round(after, 3), "resume": True}
    socket.emit("bye", bye)
    socket.session.finish(reason)


def _refused(code: int, reason: str) -> ConnectRefused:
    return ConnectRefused(reason, {"code": code})
