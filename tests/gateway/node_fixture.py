"""A whole node on a real port for one test, and its clients: HTTP by h11, WebSocket by trio-websocket."""

import json
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any
from urllib.parse import quote

import attrs
import h11
import psycopg
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, connect_websocket

from conf.settings import load
from engine.domain.access import Role
from engine.domain.event import LogPlace
from engine.node import Node
from engine.plugin_host.host import PluginHost
from gateway.app import Application
from gateway.auth import Authenticator, issue
from gateway.gateway import Gateway
from gateway.http.server import listen
from tests.patience import patience

SECRET = b"a secret of at least thirty-two bytes"
# The id of nothing at all.
NOBODYS = "00000000-0000-4000-8000-000000000000"
# Bytes; the kernel doubles it for its own needs. With less than a segment of the loopback each piece of a
# large answer would wait for a delayed acknowledgement.
SEND_BUFFER = 131072
# What a node does in its own time is done at once here; what depends on a clock is off, unless a test asks.
QUICK: Mapping[str, object] = {
    "node.name": "test-node",
    "node.shutdown_grace": 5,
    "presence.tick": "10ms",
    "presence.write_behind": "10ms",
    "presence.reload_grace": 0,
    "plugins.linger": "1ms",
    "plugins.discover": False,
    "supervision.episode.backoff_first": "5ms",
    # Tests read message by message; this one comes by the clock.
    "realtime.position_interval": "1h",
    # What heals a lost notification would hide that it was lost.
    "realtime.position_check": "1h",
    "feed.poll": "1h",
    "jobs.poll": "1h",
    "auth.leeway": 0,
    # A machine that pauses is no database that is away, nor a plugin that does not come to an end.
    "database.statement_timeout": "20s",
    "plugins.decision_budget": "20s",
    "plugins.block_limit": "20s",
    # Jobs that nobody runs.
    "jobs.external_types": ["test.elsewhere"],
}


@attrs.frozen
class Answer:
    """
    What a request was answered with.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int) -> dict[str, Any]:
        """
        The problem+json that it is, of that status: with everything that each of them must have.
        """
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = self.json
        assert problem["status"] == status
        assert problem["type"] == "about:blank"
        assert problem["title"]
        assert problem["detail"]
        assert problem["request_id"] == self.headers["x-request-id"]
        return problem

    def fields(self) -> list[str]:
        """
        The bad fields that a 422 names.
        """
        return sorted(error["field"] for error in self.problem(422)["errors"])


@attrs.define(eq=False)
class Frontend:
    """
    One WebSocket client. What comes while it waits for a reply is kept in order.
    """

    ws: WebSocketConnection
    kept: deque[dict[str, Any]] = attrs.field(factory=deque)
    _refs: Any = attrs.field(factory=count)

    async def send(self, **message: Any) -> None:
        await self.send_text(json.dumps(message))

    async def send_text(self, text: str | bytes) -> None:
        with patience():
            await self.ws.send_message(text)

    async def receive(self) -> dict[str, Any]:
        """
        The next message, whatever it is.
        """
        return self.kept.popleft() if self.kept else await self._read()

    async def ask(self, **message: Any) -> dict[str, Any]:
        """
        The reply to a message.
        """
        ref = f"test-{next(self._refs)}"
        await self.send(**message, ref=ref)
        while (reply := await self._read()).get("ref") != ref:
            self.kept.append(reply)
        del reply["ref"]
        return reply

    async def pending(self) -> list[dict[str, Any]]:
        """
        All that the server had sent by now: a reply to a ping comes after it.
        """
        assert await self.ask(type="ping") == {"type": "ok"}
        kept, self.kept = list(self.kept), deque()
        return kept

    async def bye(self) -> tuple[dict[str, Any], int]:
        """
        The `bye` and the close code; nothing may come in between.
        """
        while (message := await self.receive())["type" if "type" in message else "event"] != "bye":
            pass
        return message, await self.close_code()

    async def close_code(self) -> int:
        try:
            extra = await self._read()
        except ConnectionClosed as closed:
            await self.vanish()
            assert closed.reason is not None
            return closed.reason.code
        raise AssertionError(f"not closed, but told {extra}")

    async def vanish(self) -> None:
        """
        Drop the connection. trio-websocket leaves it open even after a close that it was sent.
        """
        await trio.aclose_forcefully(self.ws._stream)

    async def _read(self) -> dict[str, Any]:
        with patience():
            message: dict[str, Any] = json.loads(await self.ws.get_message())
        return message


@attrs.define(eq=False, kw_only=True)
class RunningNode:
    """
    A node with its gateway, as `greenroom serve` puts them together.
    """

    node: Node
    application: Application
    port: int
    conninfo: str
    nursery: trio.Nursery
    ended: trio.Event
    frontends: list[Frontend] = attrs.field(factory=list)
    # A test that makes an actor crash finds its traceback in the log, as it should be.
    may_log_tracebacks: bool = False

    @staticmethod
    def token(user: str = "alice@example.com", role: str = "editor", name: str = "", ttl: float = 600) -> str:
        chosen = Role.named(role)
        assert chosen is not None
        return issue(SECRET, user=user, name=name or user, role=chosen, ttl=ttl)

    async def request(
        self,
        method: str,
        path: str,
        given: Any = None,
        *,
        body: bytes | None = None,
        token: str | None = None,
        user: str = "alice@example.com",
        role: str = "editor",
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Answer:
        """
        One request on a connection of its own; `given` is sent as JSON, `token=""` sends none.
        """
        sent: dict[str, str | bytes] = {"Host": "test", "Connection": "close"}
        if token is None:
            token = self.token(user, role)
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if given is not None:
            body = json.dumps(given).encode()
        if body is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return await self.send(method, path, body or b"", {**sent, **(headers or {})})

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str | bytes]) -> Answer:
        """
        One request with these headers and no others.
        """
        target = path if path.startswith("/") else f"/api/v1/{path}"
        with patience():
            return await _request(
                self.port, h11.Request(method=method, target=target, headers=list(headers.items())), body
            )

    async def create(self, title: str = "Pilot", **fields: Any) -> dict[str, Any]:
        """
        An episode of alice's.
        """
        answer = await self.request("POST", "episodes", {"title": title, **fields})
        assert answer.status == 201, answer
        created: dict[str, Any] = answer.json
        return created

    async def open(
        self, *, headers: Sequence[tuple[str, str]] = (), subprotocols: Sequence[str] = ()
    ) -> Frontend:
        """
        A WebSocket after its handshake: with no token unless the handshake has one.
        """
        with patience():
            ws = await connect_websocket(
                self.nursery,
                "127.0.0.1",
                self.port,
                "/real-time",
                use_ssl=False,
                extra_headers=[(name.encode(), value.encode()) for name, value in headers],
                subprotocols=list(subprotocols),
                # Else a client that does not read its messages does not hear the close either.
                message_queue_size=1000,
            )
        self.frontends.append(Frontend(ws))
        return self.frontends[-1]

    async def connect(
        self, user: str = "bob@example.com", *, role: str = "viewer", name: str = "", ttl: float = 600
    ) -> Frontend:
        """
        A frontend that has connected, and nothing more.
        """
        frontend = await self.open()
        await frontend.send(type="connect", token=self.token(user, role, name, ttl))
        welcome = await frontend.receive()
        assert welcome["type"] == "ok"
        # Sent and handled after the implicit subscription, which has no reply of its own.
        assert await frontend.pending() == []
        return frontend

    async def subscriber(self, topic: str, user: str = "bob@example.com") -> Frontend:
        """
        A frontend that listens to one topic.
        """
        frontend = await self.connect(user)
        assert await frontend.ask(type="subscribe", topic=topic) == {"type": "ok"}
        assert [message["type"] for message in await frontend.pending()] == ["subscribed"]
        return frontend

    def rows(self, query: str, *params: Any) -> list[Any]:
        """
        What the database says, asked without the node.
        """
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(query, params).fetchall()  # type: ignore[arg-type]

    async def effects(self) -> None:
        """
        Wait until every plugin has handled everything that is committed.
        """
        [place] = self.rows("select xid::text::bigint, seq from events order by xid desc, seq desc limit 1")
        actors = self.node.effects.values()
        await until(lambda: all(actor.cursor.place >= LogPlace(*place) for actor in actors))

    async def stop(self) -> None:
        """
        Stop as SIGTERM does; clients that are still there are told.
        """
        with patience():
            await self.node.stop()
            await self.ended.wait()


async def until(condition: Callable[[], object]) -> None:
    """
    Wait for what has no event of its own: what a plugin or the database does.
    """
    with patience():
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def until_answer(ask: Callable[[], Awaitable[Answer]], right: Callable[[Answer], bool]) -> Answer:
    """
    Ask again until the answer is right.
    """
    with patience():
        while not right(answer := await ask()):  # noqa: ASYNC110
            await trio.sleep(0.005)
    return answer


def query(**parameters: str) -> str:
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


def listen_here() -> list[socket.socket]:
    """
    Sockets to serve on, at a free port.

    Their connections' send buffers are the same on every machine: what the kernel keeps of what a client
    does not read is otherwise the kernel's, and megabytes here or there.
    """
    sockets = listen("127.0.0.1", 0, 128)
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return sockets


async def start_node(
    conninfo: str, nursery: trio.Nursery, plugins: Mapping[str, object], options: Mapping[str, object]
) -> RunningNode:
    """
    Start a node on a migrated database; `plugins` are objects, beside the built-in ones.
    """
    settings = load(None, environ={}, overrides={**QUICK, **options}).settings
    host = PluginHost(decision_budget=settings.plugins.decision_budget)
    host.load(settings.plugins.enabled, discover=False)
    for name, plugin in plugins.items():
        host.register(plugin, name)
    node = await Node.open(settings, conninfo, host)
    application = Application.build(node, Authenticator.from_settings(settings.auth, SECRET))
    sockets = listen_here()
    running = RunningNode(
        node=node,
        application=application,
        port=sockets[0].getsockname()[1],
        conninfo=conninfo,
        nursery=nursery,
        ended=trio.Event(),
    )
    gateway = Gateway(application=application, sockets=sockets, settings=settings)
    node.live.follow(gateway.retune)
    node.live.renew(gateway.renewal)

    async def run(task_status: Any) -> None:
        await node.run(gateway.run, task_status=task_status)
        running.ended.set()

    await nursery.start(run)
    return running


async def _request(port: int, request: h11.Request, body: bytes) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        head = connection.send(request)
        assert head is not None
        await stream.send_all(head)
        # The server may answer and hang up before it has read a body that it does not want.
        with suppress(trio.BrokenResourceError):
            await stream.send_all((connection.send(h11.Data(body)) or b"") if body else b"")
            if chunked:
                await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        data, response = b"", None
        while True:
            event = connection.next_event()
            match event:
                case h11.NEED_DATA:
                    connection.receive_data(bytes(await stream.receive_some()))
                case h11.Response():
                    response = event
                case h11.Data():
                    data += event.data
                case h11.EndOfMessage():
                    break
                case _:
                    raise AssertionError(f"the server sent {event}")
    assert response is not None
    headers = {name.decode(): value.decode() for name, value in response.headers}
    return Answer(response.status_code, headers, data)
