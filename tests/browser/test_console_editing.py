"""Editing in the console: nothing is overwritten unseen, and nothing typed is lost, whatever others do."""

from typing import Any

from tests.browser.chromium import Chromium
from tests.browser.people import Person, sign_in
from tests.gateway.node_fixture import RunningNode

# Answers of reading one episode wait until `release()`: as if the live event came late.
HOLD = """() => {
    const ask = window.fetch;
    const held = [];
    window.release = () => { window.fetch = ask; for (const go of held) go(); };
    window.fetch = (url, given) => given.method === "GET" && /episodes.[0-9a-f-]{36}$/.test(url)
        ? new Promise((resolve) => held.push(() => resolve(ask(url, given))))
        : ask(url, given);
}"""


async def value(person: Person, label: str) -> str:
    found: str = await person.do(lambda page: page.get_by_label(label).input_value())
    return found


async def opens(person: Person, episode: dict[str, Any]) -> str:
    path = f"episodes/{episode['id']}"
    await person.go(path)
    await person.do(lambda page: page.get_by_role("heading", name=episode["title"]).wait_for())
    return path


async def test_who_is_overtaken_is_asked_about_what_stands_on_the_form(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    The node refuses before the event is heard; what is typed while the question stands is what is saved.
    """
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    path = await opens(alice, await greenroom.create(title="Pilot", description="First."))
    await alice.fill("Title", "Hers")
    await alice.tab.run(HOLD)
    await greenroom.request("PATCH", path, {"title": "His", "description": "Second."})
    await alice.press("Save")
    await alice.tab.until("!document.querySelector('form button').disabled || window.release")
    await alice.tab.run("() => window.release()")
    await alice.sees("Somebody else saved meanwhile")
    await alice.fill("Title", "Hers, typed later")
    await alice.sees("Hers, typed later", ".conflict")
    # Putting the question off does not answer it.
    await alice.press("Go on editing")
    await alice.sees_no_more("Somebody else saved meanwhile")
    await alice.press("Save")
    await alice.press("Save the choice")
    await alice.sees("Saved.")
    saved = (await greenroom.request("GET", path)).json
    assert (saved["title"], saved["description"]) == ("Hers, typed later", "Second.")
    assert alice.errors(412) == []


async def test_a_question_that_comes_by_itself_takes_nobodys_keys_away(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    Who types goes on typing; what others change elsewhere follows without a question.
    """
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    path = await opens(alice, await greenroom.create(title="Pilot"))
    await alice.do(lambda page: page.get_by_label("Title").fill("Pil"))
    await greenroom.request("PATCH", path, {"description": "Elsewhere."})
    await alice.tab.until("document.querySelector('[name=description]').value === 'Elsewhere.'")
    assert await alice.count(".conflict") == 0
    await greenroom.request("PATCH", path, {"title": "His"})
    await alice.sees("Somebody else saved meanwhile")
    await alice.do(lambda page: page.keyboard.type("grim"))
    assert await value(alice, "Title") == "Pilgrim"
    # He takes it back: there is nothing to choose any more.
    await greenroom.request("PATCH", path, {"title": "Pilot"})
    await alice.sees_no_more("Somebody else saved meanwhile")
    await alice.press("Save")
    await alice.sees("Saved.")
    assert (await greenroom.request("GET", path)).json["title"] == "Pilgrim"
    assert alice.errors() == []


async def test_what_was_typed_outlives_a_reload_and_an_outage(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    And is compared with what the episode has become since.
    """
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    path = await opens(alice, await greenroom.create(title="Pilot"))
    await alice.fill("Title", "Hers")
    await alice.do(lambda page: page.reload())
    await alice.sees("not saved yet")
    assert await value(alice, "Title") == "Hers"
    await alice.tab.set_offline(True)
    await alice.press("Save")
    await alice.sees("The node does not answer")
    await greenroom.request("PATCH", path, {"title": "His"})
    await alice.tab.set_offline(False)
    await alice.sees("His", ".conflict")
    await alice.press("Save the choice")
    await alice.sees("Saved.")
    assert (await greenroom.request("GET", path)).json["title"] == "Hers"
    await alice.do(lambda page: page.reload())
    await alice.do(lambda page: page.get_by_role("heading", name="Hers").wait_for())
    assert await alice.count(".note:visible") == 0


async def test_an_episode_that_is_deleted_meanwhile_can_be_read_but_not_saved(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    It says who did it; what was typed can still be copied.
    """
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    path = await opens(alice, await greenroom.create(title="Pilot"))
    await alice.fill("Title", "Hers")
    await greenroom.request("DELETE", path, user="bob")
    await alice.sees("bob deleted this episode.")
    assert await value(alice, "Title") == "Hers"
    assert await alice.do(lambda page: page.get_by_label("Title").get_attribute("readonly")) is not None
    assert await alice.do(lambda page: page.get_by_role("button", name="Save").is_disabled())
    assert await alice.count("main .danger") == 0
    await alice.do(lambda page: page.reload())
    await alice.sees("No such episode")
    assert alice.errors(404) == []


async def test_titles_are_shown_as_they_are(greenroom: RunningNode, browser: Chromium) -> None:
    """
    Markup is text, Arabic runs from the right, and what has no blanks breaks somewhere: on a phone, too.
    """
    titles = ["<img src=x onerror=document.title=1>", "حلقة (2)", "W" * 200]
    made = [await greenroom.create(title, categories=["<b>", "X" * 50]) for title in titles]
    phone = {"width": 390, "height": 800}
    alice = await sign_in(browser, greenroom.port, "alice@example.com", viewport=phone)
    for path in ("episodes", "activity", "inbox", *(f"episodes/{episode['id']}" for episode in made)):
        await alice.go(path)
        for title in titles if "/" not in path else ():
            await alice.sees(title, "main")
        await alice.do(lambda page: page.wait_for_load_state("networkidle"))
        assert await alice.count("main img") == 0
        assert await alice.tab.run("() => document.documentElement.scrollWidth <= window.innerWidth"), path
    await alice.go("episodes")
    await alice.sees("W" * 200)
    ways = "() => [...document.querySelectorAll('td.name a')].map((one) => getComputedStyle(one).direction)"
    assert await alice.tab.run(ways) == ["ltr", "rtl", "ltr"]
    assert alice.errors() == []


async def test_a_viewer_has_nothing_to_write_with(greenroom: RunningNode, browser: Chromium) -> None:
    """
    Every field can be read, none be changed; the pages that are not for viewers say so.
    """
    episode = await greenroom.create(description="To be read.")
    vera = await sign_in(browser, greenroom.port, "Vera", "viewer")
    assert await vera.count("main .primary") == 0
    await opens(vera, episode)
    assert await value(vera, "Description") == "To be read."
    assert await vera.count("main button:visible") == 0
    assert await vera.count("main :is(input, textarea):not([readonly])") == 0
    await vera.go("episodes/new")
    await vera.sees("you are here as a viewer")
    await vera.go("engine")
    await vera.sees("for operators")
    assert vera.errors() == []
