"""People at the console: each in a browser profile of their own, doing what people do."""

from typing import Any

import attrs
from playwright.sync_api import Page

from tests.browser.chromium import SOON, Chromium, Tab

# Refusals are part of what is tested; a browser logs each as an error.
REFUSED = "Failed to load resource: the server responded with a status of "


@attrs.define(eq=False)
class Person:
    """
    Somebody who is signed in, in one tab.
    """

    tab: Tab
    address: str

    async def go(self, path: str) -> None:
        await self.do(lambda page: page.goto(f"{self.address}/#/{path}"))

    async def do(self, deed: Any) -> Any:
        """
        What a function of playwright's page gives.
        """
        return await self.tab.chromium.do(lambda: deed(self.tab.page))

    async def fill(self, label: str, text: str) -> None:
        await self.do(lambda page: page.get_by_label(label, exact=False).first.fill(text))

    async def press(self, name: str) -> None:
        await self.do(lambda page: page.get_by_role("button", name=name, exact=True).click())

    async def follow(self, name: str) -> None:
        await self.do(lambda page: page.get_by_role("link", name=name).first.click())

    async def sees(self, text: str, within: str = "body") -> None:
        """
        Wait until a text is shown.
        """
        await self.do(lambda page: page.locator(within).get_by_text(text).first.wait_for(timeout=SOON))

    async def sees_no_more(self, text: str, within: str = "body") -> None:
        await self.do(
            lambda page: page.locator(within).get_by_text(text).first.wait_for(state="hidden", timeout=SOON)
        )

    async def text(self, selector: str) -> str:
        shown: str = await self.do(lambda page: page.locator(selector).inner_text())
        return shown

    async def count(self, selector: str) -> int:
        found: int = await self.do(lambda page: page.locator(selector).count())
        return found

    async def is_live(self) -> None:
        """
        Wait until the page says that it is live.
        """
        await self.tab.until("document.querySelector('.state')?.dataset.state === 'live'")

    def errors(self, *expected: int) -> list[str]:
        """
        What went wrong in the page, but for refusals of these statuses.
        """
        known = tuple(f"{REFUSED}{status}" for status in expected)
        return [error for error in self.tab.errors if not error.startswith(known)]


async def sign_in(browser: Chromium, port: int, name: str, role: str = "operator", **context: Any) -> Person:
    """
    Open the printed address, and sign in as somebody with one click.
    """
    address = f"http://127.0.0.1:{port}"
    tab = await browser.open(address, **context)
    person = Person(tab, address)

    def enter(page: Page) -> None:
        page.get_by_label("Your name").fill(name)
        page.get_by_role("radio", name=role).check()
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("heading", name="Episodes").wait_for()

    await person.do(enter)
    await person.is_live()
    return person


async def open_beside(person: Person, path: str) -> Person:
    """
    A second tab of the same person.
    """
    tab = await person.tab.chromium.open_beside(person.tab, f"{person.address}/#/{path}")
    beside = Person(tab, person.address)
    await beside.is_live()
    return beside
