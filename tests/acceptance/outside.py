"""What the world sees of a running node: answers, frames, exit codes, the processes of its PostgreSQL."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection

from engine.domain.access import Role
from gateway.auth import issue
from tests.patience import patience

# How long anything may take that should happen at once, on a machine that is busy with something else.
SOON = 30


@attrs.frozen(kw_only=True)
class Answer:
    """
    What came back for one request, and after how many seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.define(eq=False, kw_only=True)
class Program:
    """
    One `greenroom serve`.
    """

    process: subprocess.Popen[str]
    data_dir: Path
    errors: Path
    port: int = 0
    # What may stand in a traceback on stderr, because the test wanted it to happen.
    expected_crash: str | None = None
    # Ended by kill -9: exit code and litter are not its fault.
    killed: bool = False

    def token(self, user: str = "alice@example.com", role: str = "operator") -> str:
        secret = (self.data_dir / "secret").read_bytes().strip()
        wanted = Role.named(role)
        assert wanted is not None
        return issue(secret, user=user, name=user, role=wanted, ttl=600)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)

    def ask_with(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """
        One request on an open connection; `body` is sent as it is if it is bytes, otherwise as JSON.
        """
        given = {"Authorization": f"Bearer {self.token() if token is None else token}", **(headers or {})}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        began = time.monotonic()
        connection.request(method, path, data, given)
        response = connection.getresponse()
        answered = response.read()
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=answered,
            seconds=time.monotonic() - began,
        )

    async def ask(self, method: str, path: str, body: object = None, **more: Any) -> Answer:
        """
        One request on a connection of its own.
        """

        def asked() -> Answer:
            with contextlib.closing(self.connect()) as connection:
                return self.ask_with(connection, method, path, body, **more)

        return await trio.to_thread.run_sync(asked)

    async def create(self, title: str = "Pilot", **fields: object) -> dict[str, Any]:
        answer = await self.ask("POST", "/api/v1/episodes", {"title": title, **fields})
        assert answer.status == 201, answer.body
        return answer.json

    async def everything(self, path: str) -> list[dict[str, Any]]:
        """
        All records of a list that is read page by page.
        """
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            answer = await self.ask("GET", f"/api/v1{path}?limit=200{cursor}")
            assert answer.status == 200, answer.body
            found += answer.json["data"]
            if answer.json["next_cursor"] is None:
                return found
            cursor = f"&cursor={answer.json['next_cursor']}"

    async def plugin(self, name: str) -> dict[str, Any]:
        answer = await self.ask("GET", "/api/v1/engine/plugins")
        assert answer.status == 200, answer.body
        return {plugin["name"]: plugin for plugin in answer.json["data"]}[name]

    async def wait_recorded(self) -> None:
        """
        Wait until the built-in plugins have handled everything.
        """
        for name in ("activity", "notifications", "audit"):
            await eventually(lambda name=name: self._is_caught_up(name))

    async def _is_caught_up(self, name: str) -> bool:
        plugin = await self.plugin(name)
        assert plugin["state"] == "running", plugin
        return plugin["lag"] == 0

    async def assert_recorded_once(self, acknowledged: Sequence[str]) -> None:
        """
        Every episode that was answered 201 exists, and every one that exists has one record of each kind.
        """
        assert len(set(acknowledged)) == len(acknowledged) > 0
        await self.wait_recorded()
        episodes = {episode["id"] for episode in await self.everything("/episodes")}
        assert set(acknowledged) <= episodes
        once = Counter(dict.fromkeys(episodes, 1))
        for path in ("/activity", "/audit", "/notifications"):
            assert Counter(record["resourceId"] for record in await self.everything(path)) == once, path

    async def wait_ended(self) -> int:
        with patience(SOON):
            while (code := self.process.poll()) is None:  # noqa: ASYNC110 (no event)
                await trio.sleep(0.02)
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.wait_ended()

    async def kill(self) -> None:
        self.killed = True
        await self.stop(signal.SIGKILL)

    def postgres(self) -> set[int]:
        return postgres_below(self.data_dir)


@attrs.define(eq=False)
class Listener:
    """
    A WebSocket client that keeps everything it is told.
    """

    socket: WebSocketConnection
    messages: list[dict[str, Any]] = attrs.field(factory=list)
    closed: CloseReason | None = None
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def listen(self) -> None:
        try:
            while True:
                self.messages.append(json.loads(await self.socket.get_message()))
                self._tell()
        except ConnectionClosed as closed:
            self.closed = closed.reason
            self._tell()

    async def send(self, **message: object) -> None:
        await self.socket.send_message(json.dumps(message))

    async def wait(self, condition: Callable[[], object]) -> None:
        with patience(SOON):
            while not condition():
                await self._news.wait()

    async def answer(self, ref: str, **message: object) -> dict[str, Any]:
        """
        Send a message; return its `ok` or `error`.
        """
        await self.send(ref=ref, **message)
        await self.wait(lambda: any(message.get("ref") == ref for message in self.messages))
        return next(message for message in self.messages if message.get("ref") == ref)

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("type") == kind]

    def frames(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if "event" in message]

    def created(self) -> list[str]:
        return [
            frame["data"]["episode"]["id"] for frame in self.frames() if frame["event"] == "episode_created"
        ]

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@attrs.define(eq=False, kw_only=True)
class Load:
    """
    Clients that create episodes one after the other, each on its own connection, until told to stop.
    """

    program: Program
    workers: int
    most: int = 1_000_000
    # Seconds between the requests of one client.
    pause: float = 0.0
    answers: list[Answer] = attrs.field(factory=list)
    # Requests that got no answer at all; their client stops.
    broken: list[Exception] = attrs.field(factory=list)
    _stopped: threading.Event = attrs.field(factory=threading.Event)

    @property
    def created(self) -> list[str]:
        return [answer.json["id"] for answer in self.answers if answer.status == 201]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(self.workers):
                nursery.start_soon(trio.to_thread.run_sync, self._work, number, self.program.token())

    async def wait_created(self, count: int) -> None:
        await eventually(lambda: len(self.created) >= count)

    def stop(self) -> None:
        self._stopped.set()

    def _work(self, number: int, token: str) -> None:
        with contextlib.closing(self.program.connect()) as connection:
            while not self._stopped.is_set() and len(self.answers) < self.most:
                body = {"title": f"Episode {number}-{len(self.answers)}"}
                try:
                    self.answers.append(
                        self.program.ask_with(connection, "POST", "/api/v1/episodes", body, token=token)
                    )
                except (OSError, http.client.HTTPException) as error:
                    self.broken.append(error)
                    return
                self._stopped.wait(self.pause)


async def eventually(condition: Callable[[], Any], within: float = SOON) -> None:
    """
    Wait until something is so that only another process can bring about; nobody tells us when.
    """
    with patience(within):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await trio.sleep(0.05)


def postgres_below(data_dir: Path) -> set[int]:
    """
    The pids of the PostgreSQL in a data directory, by the name of the cluster in their command lines.
    """
    try:
        status = (data_dir / "postgres").stat()
    except FileNotFoundError:
        return set()
    name = f"greenroom-{status.st_dev:x}-{status.st_ino:x}".encode()
    found = set[int]()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if name in re.split(rb"[\0 :=]", (process / "cmdline").read_bytes()):
                found.add(int(process.name))
    return found
