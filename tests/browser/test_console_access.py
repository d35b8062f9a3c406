"""The console for everybody: nothing that axe-core finds wrong, in both colour schemes; by keyboard alone."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.chromium import Chromium
from tests.browser.people import Person, sign_in
from tests.gateway.handlers import Handlers
from tests.gateway.node_fixture import RunningNode
from tests.gateway.test_rest_engine import Stumbling

PAGES = ("episodes", "episodes/new", "episodes/{id}", "jobs", "activity", "inbox", "engine")
AXE = """async () => (await axe.run(document)).violations
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(" ")}`)"""
BROKEN = {
    "plugins.failures_to_quarantine": 1,
    "supervision.plugin.backoff_first": "1ms",
    "supervision.plugin.backoff_cap": "1ms",
}


async def hurdles(person: Person, axe: str, what: str) -> list[str]:
    """
    What axe-core finds on the page as it is, light and dark.
    """
    found: list[str] = []
    await person.do(lambda page: page.evaluate(f"window.axe ?? (() => {{ {axe} }})(); undefined"))
    for scheme in ("light", "dark"):
        await person.do(lambda page, scheme=scheme: page.emulate_media(color_scheme=scheme))
        found += [f"{what}, {scheme}: {each}" for each in await person.tab.run(AXE)]
    return found


async def test_no_page_has_a_hurdle(start_greenroom, browser: Chromium, packages: Path) -> None:
    """
    Names, roles, contrast: on pages full of what happens, good and bad.
    """
    axe = (packages / "axe-core/axe.min.js").read_text("utf-8")
    greenroom: RunningNode = await start_greenroom(
        BROKEN, plugins={"test": Handlers(), "stumbling": Stumbling()}
    )
    episode = await greenroom.create(categories=["Drama"], status="in_review")
    greenroom.may_log_tracebacks = True
    path = f"episodes/{episode['id']}"
    for kind in ("test.fail", "test.wait", "test.wait", "test.wait", "test.echo"):
        given = {"type": kind, "episode_id": episode["id"], "payload": {}}
        assert (await greenroom.request("POST", "jobs", given)).status == 202
    await greenroom.request("POST", f"{path}/compositions", {"name": "Poster", "layers": []})
    bob = await sign_in(browser, greenroom.port, "Bob", "editor")
    await bob.go(path)
    await bob.fill("Title", "By Bob")
    alice = await sign_in(browser, greenroom.port, "alice@example.com", reduced_motion="reduce")
    found: list[str] = []
    for page in PAGES:
        await alice.go(page.format(id=episode["id"]))
        await alice.is_live()
        await alice.do(lambda page: page.wait_for_load_state("networkidle"))
        if page == "jobs":
            await alice.do(lambda page: page.get_by_text("Submit a job").click())
            await alice.sees("came to nothing")
        if page == "engine":
            await alice.sees("quarantined", "tr[data-plugin=stumbling]")
        if page == "episodes/new":
            await alice.press("Create the episode")
            await alice.sees("must be", "#problem-title")
        if page.endswith("{id}"):
            await alice.sees("Bob is editing")
            await alice.fill("Title", "By Alice")
            await greenroom.request("PATCH", path, {"title": "By Carol"})
            await alice.sees("Somebody else saved meanwhile")
        found += await hurdles(alice, axe, page)
    await alice.tab.set_offline(True)
    await alice.sees("what you see may be out of date")
    found += await hurdles(alice, axe, "offline")
    await alice.tab.set_offline(False)
    await alice.press("Sign out")
    await alice.do(lambda page: page.get_by_label("Your name").wait_for())
    found += await hurdles(alice, axe, "signing in")
    await alice.tab.goto(f"{alice.address}/docs")
    await alice.sees("/api/v1/episodes")
    found += await hurdles(alice, axe, "docs")
    assert not found, "\n".join(found)


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


async def test_nothing_moves_for_who_wants_no_motion(greenroom: RunningNode, browser: Chromium) -> None:
    """
    What is new is marked all the same.
    """
    alice = await sign_in(browser, greenroom.port, "Alice", reduced_motion="reduce")
    await alice.sees("There is no episode yet.")
    await greenroom.create()
    await alice.sees("Pilot", "tbody tr[data-news=new]")

    def running(page: Page) -> int:
        return int(page.evaluate("document.getAnimations().length"))

    assert await alice.do(running) == 0
