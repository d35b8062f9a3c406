"""The console in a real browser: people who see each other's work as it happens."""

import trio

from tests.browser.chromium import Chromium
from tests.browser.people import open_beside, sign_in
from tests.gateway.node_fixture import RunningNode


async def test_from_the_first_page_it_is_two_clicks_to_an_episode_that_others_see(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    Sign in, "New episode": who looks at the list elsewhere sees it come, with who made it.
    """
    bob = await sign_in(browser, greenroom.port, "Bob")
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.follow("New episode")
    await alice.fill("Title", "Pilot")
    await alice.fill("Categories", "Drama, Crime")
    await alice.press("Create the episode")
    await alice.do(lambda page: page.get_by_role("heading", name="Pilot").wait_for())
    await bob.sees("Pilot", "tbody tr[data-news=new]")
    await bob.sees("Alice", "tbody tr")
    assert await bob.count("tbody tr") == 1
    # What is said to her comes to her inbox, and to nobody else's.
    await alice.do(lambda page: page.locator(".badge:visible").wait_for())
    await alice.follow("Inbox")
    await alice.sees("Episode 'Pilot' created successfully")
    await alice.press("Mark as read")
    await alice.do(lambda page: page.locator(".badge").wait_for(state="hidden"))
    assert await bob.count(".badge:visible") == 0
    assert alice.errors() == bob.errors() == []


async def test_who_looks_at_an_episode_sees_who_else_does_and_who_is_editing(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    "Viewing with: Alice, Bob and 2 others"; two tabs are one viewer; whoever types is editing.
    """
    episode = await greenroom.create()
    people = [
        await sign_in(browser, greenroom.port, name, "editor")
        for name in ("Alice", "Bob", "Carol", "Dan", "Eve")
    ]
    path = f"episodes/{episode['id']}"

    async def viewers() -> int:
        return int((await greenroom.request("GET", f"{path}/presence")).json["total"])

    for there, person in enumerate(people, 1):
        await person.go(path)
        # One after the other, because who came first is named first.
        while await viewers() < there:  # noqa: ASYNC110 (no event)
            await trio.sleep(0.02)
    eve, dan = people[-1], people[-2]
    await eve.sees("Viewing with: Alice, Bob and 2 others")
    second = await open_beside(dan, path)
    await second.sees("Viewing with: Alice, Bob and 2 others")
    assert (await eve.text(".presence")) == "Viewing with: Alice, Bob and 2 others"
    await people[0].fill("Title", "Pilot!")
    await eve.sees("Alice is editing")
    await people[0].go("episodes")
    await eve.sees("Viewing with: Bob, Carol and 1 other")
    for person in [*people, second]:
        assert person.errors() == []


async def test_a_reload_is_seen_by_nobody(start_greenroom, browser: Chromium) -> None:
    """
    Within the grace, whoever reloads the page never left.
    """
    greenroom = await start_greenroom({"presence.reload_grace": "20s"})
    episode = await greenroom.create()
    alice = await sign_in(browser, greenroom.port, "Alice")
    bob = await sign_in(browser, greenroom.port, "Bob")
    for person in (alice, bob):
        await person.go(f"episodes/{episode['id']}")
    await bob.sees("Viewing with: Alice")
    await bob.tab.run(
        """() => {
            const line = document.querySelector(".presence");
            window.changes = [];
            const note = () => window.changes.push(line.hidden ? "" : line.innerText);
            new MutationObserver(note).observe(line, { subtree: true, childList: true, attributes: true });
        }"""
    )
    for _ in range(2):
        await alice.do(lambda page: page.reload())
        await alice.is_live()
        await alice.sees("Viewing with: Bob")
    await alice.fill("Title", "Pilot!")
    await bob.sees("Alice is editing")
    seen = await bob.tab.run("() => window.changes")
    assert all(line.startswith("Viewing with: Alice") for line in seen), seen


async def test_of_two_who_save_the_second_sees_the_difference_and_chooses(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    What only one side changed is kept; what both changed is asked about. Nothing is overwritten unseen.
    """
    episode = await greenroom.create(title="Pilot", description="First.")
    path = f"episodes/{episode['id']}"
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.go(path)
    await alice.do(lambda page: page.get_by_role("heading", name="Pilot").wait_for())
    await alice.fill("Title", "Pilot, by Alice")
    await greenroom.request("PATCH", path, {"title": "Pilot, by Bob", "description": "Second."})
    await alice.sees("Somebody else saved meanwhile")
    # What she is not changing has followed already.
    assert await alice.do(lambda page: page.get_by_label("Description").input_value()) == "Second."
    await alice.press("Save the choice")
    await alice.sees("Saved.")
    saved = (await greenroom.request("GET", path)).json
    assert (saved["title"], saved["description"], saved["version"]) == ("Pilot, by Alice", "Second.", 3)
    await alice.fill("Title", "Again")
    await greenroom.request("PATCH", path, {"title": "Bob insists"})
    await alice.do(lambda page: page.get_by_text("Theirs").click())
    await alice.press("Save the choice")
    await alice.sees("Theirs is kept.")
    assert (await greenroom.request("GET", path)).json["title"] == "Bob insists"
    assert alice.errors(412) == []


async def test_a_refusal_stands_beside_its_field(greenroom: RunningNode, browser: Chromium) -> None:
    """
    In the node's own words; what was typed stays.
    """
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.follow("New episode")
    await alice.fill("Number", "minus one")
    await alice.press("Create the episode")
    await alice.sees("must be an integer", "#problem-episode_number")
    await alice.sees("must be a string", "#problem-title")
    assert await alice.do(lambda page: page.get_by_label("Number").input_value()) == "minus one"
    assert alice.errors(422) == []


async def test_a_long_list_stays_responsive(greenroom: RunningNode, browser: Chromium) -> None:
    """
    500 episodes, fifty at a time; one more comes on top, a change is marked, and typing finds one.
    """
    for number in range(500):
        await greenroom.create(f"Episode {number}", episode_number=number)
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.sees("500 episodes")
    for shown in range(100, 501, 50):
        await alice.press("Show more")
        await alice.tab.until("wanted => document.querySelectorAll('tbody tr').length === wanted", shown)
    # Frames of the page between a change and its being shown: the loop of the page is not held up.
    await alice.tab.run(
        """() => {
            window.longest = 0;
            let last = performance.now();
            const tick = (now) => {
                window.longest = Math.max(window.longest, now - last);
                last = now;
                requestAnimationFrame(tick);
            };
            requestAnimationFrame(tick);
        }"""
    )
    before = await alice.tab.run("() => document.querySelectorAll('tbody tr').length")
    await greenroom.create("The newest")
    await alice.sees("The newest", "tbody tr:first-child")
    assert await alice.count("tbody tr") == before + 1
    await alice.do(lambda page: page.get_by_label("Search titles").fill("Episode 123"))
    await alice.tab.until("document.querySelectorAll('tbody tr').length === 1")
    assert await alice.tab.run("() => window.longest") < 2000
    assert alice.errors() == []
