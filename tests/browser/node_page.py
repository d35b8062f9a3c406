"""The JavaScript client in a Node of its own, told by a test what to do."""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.browser import node_tools
from tests.gateway.node_fixture import RunningNode

CLIENT = Path(__file__).parents[2] / "gateway" / "web" / "client.js"
DRIVER = Path(__file__).parent / "driver.mjs"
# How long anything may take that should happen at once, on a machine that is busy.
SOON = 30
# Everything that takes its time in production, quickly.
QUICK: dict[str, Any] = {"backoff": {"first": 20, "cap": 100}, "connectTimeout": 2000}


class ScriptError(Exception):
    """
    What a script threw: the name of its class, its message, its code.
    """

    def __init__(self, name: str, message: str, code: object) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.code = code


@attrs.define(eq=False)
class NodePage:
    """
    A process with `connect` and the client's classes; `kept` is an object that lasts from script to script.
    """

    process: trio.Process
    _nursery: trio.Nursery
    _ids: Any = attrs.field(factory=count)
    _answers: dict[int, Any] = attrs.field(factory=dict)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _ended: bool = False

    async def run(self, code: str, argument: Any = None) -> Any:
        """
        What a script returns; it may `await`. Raises ScriptError.
        """
        id = next(self._ids)
        assert self.process.stdin is not None
        line = json.dumps({"id": id, "code": code, "argument": argument})
        await self.process.stdin.send_all(line.encode() + b"\n")
        with trio.fail_after(SOON):
            while id not in self._answers:
                assert not self._ended, "node has ended"
                await self._news.park()
        answer = self._answers.pop(id)
        if "error" in answer:
            raise ScriptError(**answer["error"])
        return answer["value"]

    async def connect(self, url: str, token: str, **options: Any) -> None:
        """
        Make `kept.client`, which remembers its states in `kept.states`, and wait until it is live.
        """
        given = {"url": url, "token": token, **QUICK, **options}
        await self.run(
            "kept.client = connect(argument); kept.states = [];"
            "kept.client.on('state', (state) => kept.states.push(state)); await kept.client.ready();",
            given,
        )

    async def wait_state(self, *states: str) -> None:
        await self.run("await kept.client.waitState(...argument)", states)

    async def until(self, condition: str) -> None:
        """
        Wait until an expression is true.
        """
        await self.run(f"while (!({condition})) await new Promise((again) => setTimeout(again, 5))")

    async def subscribe(self, topic: str, **options: Any) -> None:
        """
        Make `kept.subscription`, which puts what it hears into `kept.heard`, and wait until the node agrees.
        """
        await self.run(
            """
            const heard = (kept.heard = []);
            kept.subscription = kept.client.subscribe(argument.topic, argument.options);
            kept.subscription.on("event", (event) => heard.push(event.position.offset));
            kept.subscription.on("gap", (gap) => heard.push(gap));
            kept.subscription.on("recovered", () => heard.push("recovered"));
            await kept.subscription.ready;
            """,
            {"topic": topic, "options": options},
        )

    async def heard(self, count: int) -> list[Any]:
        """
        What `kept.subscription` heard, once it is at least so much.
        """
        await self.until(f"kept.heard.length >= {count}")
        found: list[Any] = await self.run("return kept.heard")
        return found

    async def listen(self) -> None:
        assert self.process.stdout is not None
        buffer = b""
        async for data in self.process.stdout:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                self._answers[answer["id"]] = answer
            self._news.unpark_all()
        self._ended = True
        self._news.unpark_all()


@asynccontextmanager
async def node_page() -> AsyncIterator[NodePage]:
    """
    A Node with the client loaded, until the block ends.
    """
    node_tools.packages()
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            [node_tools.node(), str(DRIVER), str(CLIENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        page = NodePage(process, nursery)
        nursery.start_soon(page.listen)
        try:
            yield page
        finally:
            process.kill()
            with trio.move_on_after(SOON, shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()


def url(greenroom: RunningNode) -> str:
    """
    Where a node of this process is.
    """
    return f"http://127.0.0.1:{greenroom.port}"


async def rename(greenroom: RunningNode, episode: str, titles: str) -> None:
    """
    Give an episode these titles of one letter, one after the other.
    """
    for title in titles:
        assert (await greenroom.request("PATCH", f"episodes/{episode}", {"title": title})).status == 200


async def states(page: NodePage) -> list[str]:
    """
    Through which states `kept.client` has gone.
    """
    found: list[str] = await page.run("return kept.states")
    return found
