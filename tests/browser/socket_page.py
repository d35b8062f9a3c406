"""The official Socket.IO client, unmodified, in Node or in a real browser, told by a test what to do."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from tests.browser import node_tools
from tests.browser.chromium import Tab
from tests.browser.node_page import SOON

# Makes `kept.socket`, which remembers what became of it and every event that it heard.
CONNECT = """
    kept.events = []; kept.states = [];
    kept.socket = io(argument.url + argument.namespace, { auth: argument.auth, ...argument.options });
    kept.socket.on("connect", () => kept.states.push(["connect", kept.socket.id, kept.socket.recovered]));
    kept.socket.on("connect_error", (error) => kept.states.push(["refused", error.message, error.data]));
    kept.socket.on("disconnect", (reason) => kept.states.push(["disconnect", reason]));
    kept.socket.onAny((...event) => kept.events.push(event));
"""


@attrs.define(eq=False)
class SocketPage:
    """
    One client; `run` evaluates the body of an async function in its page.
    """

    run: Callable[..., Awaitable[Any]]

    @classmethod
    async def in_tab(cls, tab: Tab) -> "SocketPage":
        """
        In a browser's tab.
        """
        source = node_tools.packages() / "socket.io-client" / "dist" / "socket.io.min.js"
        await tab.run(f"() => {{ {source.read_text('utf-8')}; globalThis.kept = {{}}; }}")

        async def run(code: str, argument: Any = None) -> Any:
            return await tab.run(f"async (argument) => {{ {code} }}", argument)

        return cls(run)

    async def connect(
        self, url: str, auth: Any = None, *, namespace: str = "/real-time", **options: Any
    ) -> None:
        """
        Make the client, and wait until it is let in or refused.
        """
        given = {"url": url, "namespace": namespace, "auth": auth or {}, "options": options}
        await self.run(CONNECT, given)
        await self.until("kept.states.length")

    async def until(self, condition: str) -> None:
        """
        Wait until an expression is true in the page.
        """
        await self.run(
            f"""
            const end = Date.now() + argument;
            while (!({condition})) {{
                if (Date.now() > end) throw new Error("not in time: " + JSON.stringify(kept.states));
                await new Promise((again) => setTimeout(again, 10));
            }}
            """,
            SOON * 1000 - 5000,
        )

    async def ask(self, event: str, *args: Any) -> Any:
        """
        The ack of an event.
        """
        code = "return await kept.socket.timeout(20000).emitWithAck(...argument)"
        return await self.run(code, [event, *args])

    async def states(self) -> list[list[Any]]:
        found: list[list[Any]] = await self.run("return kept.states")
        return found

    async def heard(self, count: int, of: str = "") -> list[list[Any]]:
        """
        The events whose names begin like this, once there are so many of them.
        """
        chosen = f"kept.events.filter(([name]) => name.startsWith({of!r}))"
        await self.until(f"{chosen}.length >= {count}")
        found: list[list[Any]] = await self.run(f"return {chosen}")
        return found
