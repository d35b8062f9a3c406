"""A node that stops under many sessions: what each is told, and when it would come back."""

import signal
from collections import Counter
from functools import partial
from typing import Any

import attrs
import trio

from tests.storm.raw import Http, LostError, Socket
from tests.storm.world import Program, program, user

# Connecting at once; more would wait in the kernel anyway.
AT_ONCE = 50
USERS = 100


@attrs.define(eq=False, kw_only=True)
class Leaver:
    """
    One session on an episode, until the node says bye.
    """

    topic: str
    epoch: str = ""
    began: int = 0
    offsets: list[int] = attrs.field(factory=list)
    bye: dict[str, Any] | None = None
    code: int | None = None
    ended_at: float = 0.0

    async def live(self, port: int, token: str, limit: trio.CapacityLimiter, ready: trio.Event) -> None:
        """
        Connect, subscribe, and hear until the end.
        """
        async with limit:
            socket = await Socket.open(port, token)
            await socket.send(type="subscribe", topic=self.topic, ref=1)
            messages = socket.messages()
            async for message in messages:
                self._hear(message)
                if message.get("ref") == 1:
                    break
        ready.set()
        try:
            async for message in messages:
                self._hear(message)
        except LostError:
            pass
        self.code, self.ended_at = socket.closed, trio.current_time()
        socket.kill()

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("type") == "subscribed":
            self.began, self.epoch = message["position"]["offset"], message["position"]["epoch"]
        elif message.get("topic") == self.topic and "event" in message and self.epoch:
            self.offsets.append(message["offset"])
        elif message.get("type") == "bye":
            self.bye = message

    @property
    def heard(self) -> int:
        return self.offsets[-1] if self.offsets else self.began


@attrs.define(eq=False, kw_only=True)
class Drained:
    """
    What came of it.
    """

    seconds: float = 0.0
    code: int = -1
    leavers: list[Leaver] = attrs.field(factory=list)
    # Of some who came back with the position of their bye: what they were told then.
    returned: list[tuple[Leaver, list[int]]] = attrs.field(factory=list)

    def peak(self, window: float, first: float) -> float:
        """
        The most returns in any second of the window, by what an even spread would be.
        """
        times = Counter(int(leaver.bye["reconnect_after"] - first) for leaver in self.leavers if leaver.bye)
        return max(times.values()) * window / len(self.leavers)


async def drain(made: Program, sessions: int, returning: int, window: int) -> Drained:
    """
    Let sessions watch one episode that is written to, stop the node, and come back to a new one.
    """
    drained = Drained()
    await made.start()
    token = made.token(user(0))
    http = Http(made.port)
    _, episode = await http.ask("POST", "/api/v1/episodes", {"title": "Pilot"}, token=token)
    path, topic = f"/api/v1/episodes/{episode['id']}", f"episode:{episode['id']}"
    limit = trio.CapacityLimiter(AT_ONCE)
    tokens = [made.token(user(number)) for number in range(USERS)]
    stopped = trio.Event()

    async def write() -> None:
        while not stopped.is_set():
            try:
                await http.ask("PATCH", path, {"title": str(trio.current_time())}, token=token)
            except LostError:
                return

    async with trio.open_nursery() as nursery:
        readies = [trio.Event() for _ in range(sessions)]
        for number, ready in enumerate(readies):
            leaver = Leaver(topic=topic)
            drained.leavers.append(leaver)
            nursery.start_soon(leaver.live, made.port, tokens[number % USERS], limit, ready)
        for ready in readies:
            await ready.wait()
        nursery.start_soon(write)
        await trio.sleep(1)
        began = trio.current_time()
        drained.code = await made.end(signal.SIGTERM)
        drained.seconds = trio.current_time() - began
        stopped.set()
    await made.start()
    for leaver in drained.leavers[:: max(1, sessions // returning)]:
        if leaver.bye is not None:
            drained.returned.append((leaver, await _return(made, token, topic, leaver)))
    http.close()
    return drained


async def _return(made: Program, token: str, topic: str, leaver: Leaver) -> list[int]:
    assert leaver.bye is not None
    socket = await Socket.open(made.port, token)
    offsets: list[int] = []
    since = leaver.bye["positions"][topic]
    await socket.send(type="subscribe", topic=topic, since=since, ref=2)
    async for message in socket.messages():
        if "event" in message and message["topic"] == topic:
            offsets.append(message["offset"])
        elif message.get("type") == "subscribed":
            assert message["recovered"], message
        elif message.get("ref") == 2:
            break
    socket.kill()
    return offsets


def run(sessions: int, *, returning: int = 200, window: int = 10) -> Drained:
    """
    A drain from its beginning to its end.
    """
    settings = {
        "GREENROOM_SERVER_RECONNECT_AFTER": "2s",
        "GREENROOM_SERVER_RECONNECT_WINDOW": f"{window}s",
        "GREENROOM_NODE_SHUTDOWN_GRACE": "10s",
        "GREENROOM_LIMITS_SESSIONS_PER_USER": "1000",
    }
    with program(**settings) as made:
        return trio.run(partial(drain, made, sessions, returning, window))
