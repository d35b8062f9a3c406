"""The console for everybody: no serious finding of axe-core, in both colour schemes; by keyboard alone."""

from pathlib import Path

import pytest

from tests.browser.chromium import Chromium
from tests.browser.people import sign_in
from tests.gateway.node_fixture import RunningNode

PAGES = ("episodes", "episodes/new", "episodes/{id}", "jobs", "activity", "inbox", "engine")
AXE = """async () => (await axe.run(document)).violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(" ")}`)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_has_a_serious_hurdle(
    greenroom: RunningNode, browser: Chromium, packages: Path, scheme: str
) -> None:
    """
    Names, roles, contrast: as axe-core checks them.
    """
    axe = (packages / "axe-core/axe.min.js").read_text("utf-8")
    episode = await greenroom.create(categories=["Drama"])
    await greenroom.request("PATCH", f"episodes/{episode['id']}", {"status": "in_review"})
    alice = await sign_in(browser, greenroom.port, "Alice", color_scheme=scheme, reduced_motion="reduce")
    for page in PAGES:
        await alice.go(page.format(id=episode["id"]))
        await alice.is_live()
        await alice.do(lambda page: page.wait_for_load_state("networkidle"))
        await alice.do(lambda page: page.evaluate(axe + "; undefined"))
        assert await alice.tab.run(AXE) == [], page


async def test_an_episode_is_made_by_keyboard_alone(greenroom: RunningNode, browser: Chromium) -> None:
    """
    The focus is where one types; what is made is announced to who listens.
    """
    bob = await sign_in(browser, greenroom.port, "Bob")
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.go("episodes/new")
    await alice.do(lambda page: page.get_by_role("heading", name="New episode").wait_for())
    await alice.do(lambda page: page.keyboard.type("By keyboard"))
    await alice.do(lambda page: page.keyboard.press("Enter"))
    await alice.do(lambda page: page.get_by_role("heading", name="By keyboard").wait_for())
    await bob.sees("By keyboard, created by Alice", "#announcements")


@pytest.mark.parametrize("width", [390, 820, 1280])
async def test_no_page_is_wider_than_its_window(
    greenroom: RunningNode, browser: Chromium, width: int
) -> None:
    """
    At the width of a phone, a tablet and a desk.
    """
    episode = await greenroom.create("A title of many words that goes on until it no longer fits on a line")
    alice = await sign_in(browser, greenroom.port, "Alice", viewport={"width": width, "height": 800})
    for page in PAGES:
        await alice.go(page.format(id=episode["id"]))
        await alice.do(lambda page: page.wait_for_load_state("networkidle"))
        assert await alice.tab.run("() => document.documentElement.scrollWidth <= window.innerWidth"), page
