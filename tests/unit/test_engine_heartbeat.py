"""A client's pong that came in time counts, however late this process gets to read it."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway.engineio.server import EngineOptions, EngineServer
from gateway.engineio.session import EngineSession


@attrs.define(eq=False)
class Ends:
    """
    Remembers how sessions ended.
    """

    reasons: list[str] = attrs.field(factory=list)

    def opened(self, session: EngineSession) -> None: ...

    def received(self, session: EngineSession, data: str | bytes) -> None: ...

    def alive(self, session: EngineSession) -> None: ...

    def closed(self, session: EngineSession, reason: str) -> None:
        self.reasons.append(reason)


@attrs.frozen
class Line:
    """
    One session of a server whose pings are due every 10 s, and awaited for 5 s.
    """

    server: EngineServer
    ends: Ends

    async def ask(self, method: str, sid: str = "", body: bytes = b"") -> tuple[int, str]:
        """
        The status and the body of what the server answers.
        """
        query = f"EIO=4&transport=polling{sid and f'&sid={sid}'}"
        scope = {"type": "http", "method": method, "query_string": query.encode(), "headers": []}
        parts = [{"type": "http.request", "body": body, "more_body": False}]
        said: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            if not parts:
                await trio.sleep_forever()
            return parts.pop()

        async def send(message: Mapping[str, Any]) -> None:
            said.append(message)

        await self.server(scope, receive, send)
        return said[0]["status"], said[1]["body"].decode()


@pytest.fixture
async def line(nursery: trio.Nursery, mock_clock: MockClock) -> AsyncIterator[Line]:
    ends = Ends()
    server = EngineServer(ends, EngineOptions(ping_interval=10, ping_timeout=5))
    await nursery.start(server.run)
    yield Line(server, ends)
    nursery.cancel_scope.cancel()


async def pinged(line: Line, clock: MockClock) -> str:
    """
    The id of a session whose client has got a ping, and whose process then stood still until it was overdue.
    """
    _, opening = await line.ask("GET")
    sid: str = json.loads(opening[1:])["sid"]
    await wait_all_tasks_blocked()
    clock.jump(10)
    assert await line.ask("GET", sid) == (200, "2")
    clock.jump(100)
    return sid


async def test_a_pong_that_is_read_late_counts(line: Line, mock_clock: MockClock) -> None:
    """
    Whether its request is looked at before the deadline is, or after.
    """
    sid = await pinged(line, mock_clock)
    assert await line.ask("POST", sid, b"3") == (200, "ok")
    sid = await pinged(line, mock_clock)
    await wait_all_tasks_blocked()
    assert await line.ask("POST", sid, b"3") == (200, "ok")
    assert line.ends.reasons == []


async def test_a_poll_does_not_overtake_the_pong(
    line: Line, mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """
    The client sends both at once, and the poll may be looked at first.
    """
    sid = await pinged(line, mock_clock)
    nursery.start_soon(line.ask, "GET", sid)
    await wait_all_tasks_blocked()
    assert await line.ask("POST", sid, b"3") == (200, "ok")
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    assert line.ends.reasons == []


async def test_a_ping_that_goes_out_late_can_be_answered(line: Line, mock_clock: MockClock) -> None:
    """
    The client has half of its time, at least.
    """
    _, opening = await line.ask("GET")
    sid = json.loads(opening[1:])["sid"]
    await wait_all_tasks_blocked()
    mock_clock.jump(16)
    await wait_all_tasks_blocked()
    mock_clock.rate = 1
    assert await line.ask("GET", sid) == (200, "2")
    mock_clock.jump(2)
    assert await line.ask("POST", sid, b"3") == (200, "ok")
    assert line.ends.reasons == []


async def test_who_has_sent_none_has_gone(line: Line, mock_clock: MockClock) -> None:
    """
    Soon after, and for whoever polls meanwhile.
    """
    sid = await pinged(line, mock_clock)
    mock_clock.rate = 1
    assert (await line.ask("GET", sid))[0] == 400
    sid = await pinged(line, mock_clock)
    while len(line.ends.reasons) < 2:  # noqa: ASYNC110 (no event)
        await trio.sleep(0.01)
    assert line.ends.reasons == ["ping timeout"] * 2
    assert (await line.ask("POST", sid, b"3"))[0] == 400
