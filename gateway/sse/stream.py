"""Server-sent events at /api/v1/stream: a session for clients that cannot open a WebSocket."""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
import structlog
import trio

from engine.domain.access import Identity
from engine.domain.event import CATALOG
from engine.errors import EngineError
from engine.node import Node
from gateway import protocol
from gateway.auth import Authenticator, AuthError
from gateway.farewell import send_away
from gateway.limits import RateLimit, SessionLimit
from gateway.rest.messages import request_id
from gateway.rest.problems import PROBLEM_JSON, Problem
from gateway.session import Session, Since
from gateway.session_client import Refusal
from gateway.sse.format import EVENT_STREAM, HEARTBEAT, Positions, hint, positions_of, record
from gateway.sse.outlet import StreamOutlet

log = structlog.get_logger()

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

# How a refused subscription is answered over HTTP; what is not here may work later.
STATUS = {"unknown_topic": 404, "not_found": 404, "forbidden": 403, "too_many": 422}
# Bytes that a client has `realtime.outlet_deadline` to take.
PIECE = 65536
# Seconds that it has to take the last words.
GRACE = 1.0


@attrs.define(eq=False, kw_only=True)
class Streams:
    """
    Own the open event streams of this node.
    """

    node: Node
    authenticator: Authenticator
    rate: RateLimit
    sessions: SessionLimit
    chance: random.Random = attrs.field(factory=random.Random)
    _open: "set[Stream]" = attrs.field(factory=set, init=False)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """
        Serve one stream as an ASGI application.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        stream = Stream(
            streams=self,
            headers=headers,
            receive=receive,
            send=send,
            id=request_id(headers.get("x-request-id")),
        )
        self._open.add(stream)
        try:
            await stream.run(scope)
        finally:
            self._open.discard(stream)

    async def drain(self) -> None:
        """
        Tell every client to come back later, spread evenly over a window, and end.
        """
        window = self.node.settings.server.reconnect_window
        await send_away(self._open, window, self.chance, Stream.end_soon)


@attrs.define(eq=False, kw_only=True)
class Stream:
    """
    Own one stream from its request to its last byte.
    """

    streams: Streams
    headers: Mapping[str, str]
    receive: Receive
    send: Send
    # The request's, for the log and for refusals.
    id: str
    _outlet: StreamOutlet = attrs.field(init=False)
    # Once the node stops: seconds beyond `server.reconnect_after` that the client is told to stay away.
    _later: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._outlet = StreamOutlet(limit=self.streams.node.settings.realtime.outlet_backlog)

    async def run(self, scope: Mapping[str, Any]) -> None:
        """
        Refuse, or serve until either side ends.
        """
        try:
            identity = self._enter(scope["method"])
            topics = self._topics(scope["query_string"])
            await self._live(identity, positions_of(self.headers.get("last-event-id"), topics))
        except Problem as problem:
            await self._refuse(problem)
        except EngineError as error:
            log.warning("a stream could not be served", id=self.id, reason=str(error))
            await self._refuse(self._busy(503, str(error)))

    def end_soon(self, later: float) -> None:
        """
        Say goodbye and end: the node stops.
        """
        self._later = later
        self._outlet.wake()

    def _enter(self, method: str) -> Identity:
        if method != "GET":
            raise Problem(405, "a stream is read by GET", headers={"Allow": "GET"})
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        try:
            if kind.lower() != "bearer":
                raise AuthError("send `Authorization: Bearer <token>`; a token in a URL ends up in logs")
            identity = self.streams.authenticator.identify(token.strip())
        except AuthError as error:
            raise Problem(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from None
        if (wait := self.streams.rate.take(identity.user)) > 0:
            retry = {"Retry-After": str(max(1, round(wait)))}
            raise Problem(429, "too many requests; slow down", headers=retry)
        return identity

    def _topics(self, query: bytes) -> list[str]:
        most = self.streams.node.settings.limits.subscriptions_per_session
        try:
            given = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=most)
        except ValueError:
            raise Problem(422, f"a stream has at most {most} topics") from None
        if unknown := sorted({name for name, _ in given} - {"topic"}):
            raise Problem(422, f"no parameter {', '.join(unknown)} here; known is topic")
        return list(dict.fromkeys(topic for _, topic in given)) or [CATALOG]

    async def _live(self, identity: Identity, since: Mapping[str, protocol.Since | None]) -> None:
        sessions = self.streams.sessions
        if sessions.is_full:
            raise self._busy(503, "the node serves as many sessions as it may")
        if (reason := sessions.refusal(identity.user)) is not None:
            raise self._busy(429, reason)
        session = Session(
            node=self.streams.node,
            identity=identity,
            outlet=self._outlet,
            format=EVENT_STREAM,
            max_subscriptions=self.streams.node.settings.limits.subscriptions_per_session,
            is_one_stream=True,
        )
        try:
            # The catalog last: what an episode's own topic tells of what was missed it leaves to that.
            for topic, position in sorted(since.items(), key=lambda one: one[0] == CATALOG):
                await self._subscribe(session, topic, position)
            await self._stream(identity, Positions.beginning(since))
        finally:
            sessions.release(identity.user)
            await session.end()

    async def _subscribe(self, session: Session, topic: str, since: protocol.Since | None) -> None:
        position = Since(since.offset, since.epoch) if since else None
        no = await session.subscribe(topic, position, snapshot=False)
        if no is not None:
            raise self._problem(no)
        if self._outlet.is_slow:
            raise Problem(422, "more was missed than can be told: begin anew, without Last-Event-ID")

    async def _stream(self, identity: Identity, positions: Positions) -> None:
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),
                (b"x-content-type-options", b"nosniff"),
                (b"x-request-id", self.id.encode()),
            ],
        }
        await self.send(start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_client, nursery.cancel_scope)
            await self._write(positions, self.streams.authenticator.lasts_until(identity))
            nursery.cancel_scope.cancel()

    async def _watch_client(self, scope: trio.CancelScope) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _write(self, positions: Positions, expiry: float) -> None:
        settings = self.streams.node.settings
        self._outlet.begin()
        data = hint(settings.server.reconnect_after)
        while await self._send(data, settings.realtime.outlet_deadline):
            with trio.move_on_at(min(expiry, trio.current_time() + settings.realtime.ping_interval)):
                await self._outlet.wait_news()
            if self._later is not None:
                await self._goodbye(protocol.GOING_AWAY, "the node stops; come back", self._later)
                return
            if trio.current_time() >= expiry:
                await self._goodbye(protocol.TOKEN_EXPIRED, "the token has expired; come back with a new one")
                return
            if self._outlet.is_slow:
                await self._goodbye(protocol.TOO_SLOW, "too slow: come back and recover")
                return
            data = positions.blocks(self._outlet.take_nowait()) or HEARTBEAT

    async def _goodbye(self, code: int, reason: str, later: float = 0.0) -> None:
        after = self.streams.node.settings.server.reconnect_after + later
        # The positions are in the last id.
        last = protocol.bye(code, reason, reconnect_after=after, resume=True, positions={})
        if await self._send(hint(after) + Positions({}).blocks(record("bye", last)), GRACE):
            with trio.move_on_after(GRACE):
                await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, data: bytes, patience: float) -> bool:
        """
        Whether the client took it in time. The connection of one that did not is gone.
        """
        # What was missed may be much: a slow client has the time for each piece of it.
        for start in range(0, len(data), PIECE):
            with trio.move_on_after(patience) as scope:
                piece = data[start : start + PIECE]
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
            if scope.cancelled_caught:
                return False
        return True

    def _problem(self, refusal: Refusal) -> Problem:
        status = STATUS.get(refusal.code)
        return self._busy(503, refusal.message) if status is None else Problem(status, refusal.message)

    def _busy(self, status: int, detail: str) -> Problem:
        after = max(1, round(self.streams.node.settings.server.reconnect_after))
        return Problem(status, detail, headers={"Retry-After": str(after)})

    async def _refuse(self, problem: Problem) -> None:
        headers = {
            "content-type": PROBLEM_JSON,
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "x-request-id": self.id,
            **problem.headers,
        }
        body = problem.body(self.id)
        headers["content-length"] = str(len(body))
        sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": sent})
        await self.send({"type": "http.response.body", "body": body})
