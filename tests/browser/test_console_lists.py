"""Lists in the console while things happen: they keep their place, their focus, and step with each other."""

from tests.browser.chromium import Chromium
from tests.browser.people import open_beside, sign_in
from tests.gateway.node_fixture import RunningNode


async def test_what_a_filter_finds_follows_what_happens(greenroom: RunningNode, browser: Chromium) -> None:
    """
    What no longer fits goes, what fits now comes, in the order that was asked for.
    """
    first = await greenroom.create("Beta", status="draft")
    await greenroom.create("Delta", status="draft")
    other = await greenroom.create("Alpha", status="archived")
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.go("episodes?status=draft&sort=title")
    titles = "() => [...document.querySelectorAll('td.name a')].map((one) => one.textContent).join()"
    await alice.tab.until(f"({titles})() === 'Beta,Delta'")
    await greenroom.create("Gamma", status="published")
    await greenroom.create("Charlie", status="draft")
    await alice.tab.until(f"({titles})() === 'Beta,Charlie,Delta'")
    await greenroom.request("PATCH", f"episodes/{other['id']}", {"status": "draft"})
    await alice.tab.until(f"({titles})() === 'Alpha,Beta,Charlie,Delta'")
    await greenroom.request("PATCH", f"episodes/{first['id']}", {"status": "approved"})
    await alice.tab.until(f"({titles})() === 'Alpha,Charlie,Delta'")
    await alice.sees("3 episodes")
    await greenroom.request("DELETE", f"episodes/{other['id']}")
    await alice.sees("2 episodes")
    assert alice.errors() == []


async def test_a_list_stays_as_long_as_it_was_and_keeps_the_focus(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    Reading anew, because of what happened, shows again what was shown, and takes nobody's place away.
    """
    made = [await greenroom.create(f"Episode {number:03}") for number in range(60)]
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.go("episodes?sort=title")
    await alice.press("Show more")
    await alice.tab.until("document.querySelectorAll('tbody tr').length === 60")
    await alice.do(lambda page: page.get_by_role("link", name="Episode 055").focus())
    await greenroom.request("PATCH", f"episodes/{made[55]['id']}", {"title": "Episode 055, anew"})
    await alice.sees("Episode 055, anew")
    await greenroom.create("Episode 000 and a half")
    await alice.tab.until("document.querySelectorAll('tbody tr').length === 61")
    await alice.sees("Episode 000 and a half")
    await greenroom.request("DELETE", f"episodes/{made[0]['id']}")
    await alice.sees("60 episodes")
    assert await alice.tab.run("() => document.activeElement.textContent") == "Episode 055, anew"
    assert alice.errors() == []


async def test_what_is_read_in_one_tab_is_read_in_the_other(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    The number of unread ones is the person's, not the tab's.
    """
    alice = await sign_in(browser, greenroom.port, "alice@example.com")
    beside = await open_beside(alice, "episodes")
    await greenroom.create()
    for tab in (alice, beside):
        await tab.do(lambda page: page.locator(".badge:visible").wait_for())
    await alice.go("inbox")
    await alice.press("Mark all as read")
    for tab in (alice, beside):
        await tab.do(lambda page: page.locator(".badge").wait_for(state="hidden"))
    assert alice.errors() == beside.errors() == []


async def test_links_lead_into_the_page(greenroom: RunningNode, browser: Chromium) -> None:
    """
    The first Tab offers the way past the navigation; who follows a link goes on from where it leads.
    """
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.go("jobs")
    await alice.do(lambda page: page.reload())
    await alice.is_live()
    await alice.do(lambda page: page.keyboard.press("Tab"))
    await alice.do(lambda page: page.keyboard.press("Enter"))
    assert await alice.tab.run("() => document.activeElement.id") == "main"
    assert await alice.tab.run("() => location.hash") == "#/jobs"
    await alice.follow("Activity")
    await alice.do(lambda page: page.get_by_role("heading", name="Activity").wait_for())
    assert await alice.tab.run("() => document.activeElement.id") == "main"
