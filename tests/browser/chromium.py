"""A real browser for tests on Trio: playwright lives in a thread of its own."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import trio
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.node_tools import chromium

T = TypeVar("T")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
# Milliseconds that anything may take that should happen at once, on a machine that is busy.
SOON = 30_000


@attrs.define(eq=False)
class Tab:
    """
    One page in a browser profile of its own, and what went wrong in it: errors, and what it logged as such.
    """

    chromium: "Chromium"
    page: Page
    errors: list[str] = attrs.field(factory=list)

    async def goto(self, url: str) -> None:
        await self.chromium.do(lambda: self.page.goto(url))

    async def run(self, script: str, argument: Any = None) -> Any:
        """
        What an expression, or a function called with `argument`, gives in the page; promises are awaited.
        """
        return await self.chromium.do(lambda: self.page.evaluate(script, argument))

    async def until(self, condition: str, argument: Any = None) -> None:
        """
        Wait until an expression is true in the page.
        """

        def waited() -> None:
            # Playwright's own `wait_for_function` uses eval, which our pages' policy forbids.
            deadline = time.monotonic() + SOON / 1000
            while not self.page.evaluate(condition, argument):
                assert time.monotonic() < deadline, f"never true: {condition}"
                self.page.wait_for_timeout(20)

        await self.chromium.do(waited)

    async def set_offline(self, offline: bool) -> None:
        await self.chromium.do(lambda: self.page.context.set_offline(offline))


@attrs.define(eq=False)
class Chromium:
    """
    One browser, and the only thread that may talk to it.
    """

    _thread: ThreadPoolExecutor
    _browser: Browser
    _contexts: list[BrowserContext] = attrs.field(factory=list)

    async def do(self, script: Callable[[], T]) -> T:
        """
        Run a function that uses playwright's sync API, in its thread.
        """
        return await trio.to_thread.run_sync(self._thread.submit(script).result)

    async def open(self, url: str = "about:blank", **context: Any) -> Tab:
        """
        A new tab in a profile of its own; `context` are playwright's options for it, such as its viewport.
        """

        def opened() -> Tab:
            profile = self._browser.new_context(**context)
            profile.set_default_timeout(SOON)
            self._contexts.append(profile)
            return self._tab(profile, url)

        return await self.do(opened)

    async def open_beside(self, tab: Tab, url: str) -> Tab:
        """
        A second tab in the same profile.
        """
        return await self.do(lambda: self._tab(tab.page.context, url))

    def close_all(self) -> None:
        """
        Close what a test has opened.
        """
        contexts, self._contexts = self._contexts, []
        self._thread.submit(lambda: [each.close() for each in contexts]).result()

    def _tab(self, profile: BrowserContext, url: str) -> Tab:
        tab = Tab(self, profile.new_page())
        tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.page.on("console", lambda said: tab.errors.append(said.text) if said.type == "error" else None)
        if url != "about:blank":
            tab.page.goto(url)
        return tab


@contextmanager
def running_chromium() -> Iterator[Chromium]:
    """
    A browser, until the block ends.
    """
    with ThreadPoolExecutor(1, "playwright") as thread:
        playwright = thread.submit(lambda: sync_playwright().start()).result()
        browser = thread.submit(
            lambda: playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        ).result()
        try:
            yield Chromium(thread, browser)
        finally:
            thread.submit(browser.close).result()
            thread.submit(playwright.stop).result()
