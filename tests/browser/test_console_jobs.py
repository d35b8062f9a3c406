"""Jobs in the console: submitted, followed, tried again; and the pictures that come of them."""

from pathlib import Path
from typing import Any

import attrs
import trio

from engine.hookspecs import JobContext, JobHandler, hookimpl
from tests.browser.chromium import Chromium
from tests.browser.people import sign_in


@attrs.define(eq=False)
class Careful:
    """
    A plugin whose job goes on when it is told to.
    """

    further: trio.Event = attrs.field(factory=trio.Event)
    end: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, context: JobContext) -> Any:
        await context.progress(0.25, "at 25 %")
        await self.further.wait()
        await context.progress(0.75, "at 75 %")
        await self.end.wait()

    @hookimpl
    def job_handlers(self) -> list[JobHandler]:
        return [JobHandler(type="test.careful", run=self.run, timeout=60)]


async def test_a_job_is_submitted_and_followed_to_its_end(
    start_greenroom, browser: Chromium, tmp_path: Path
) -> None:
    """
    Who watches the list sees its state change; what it made is in the list of episodes.
    """
    greenroom = await start_greenroom({"node.data_dir": str(tmp_path)})
    (tmp_path / "imports").mkdir()
    (tmp_path / "imports/season.csv").write_text("title\nOne\nTwo\n", "utf-8")
    bob = await sign_in(browser, greenroom.port, "Bob", "viewer")
    await bob.go("jobs")
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    await alice.go("jobs")
    await alice.do(lambda page: page.get_by_text("Submit a job").click())
    await alice.do(lambda page: page.locator("[name=type]").fill("episode.import"))
    await alice.do(lambda page: page.locator("[name=payload]").fill('{"path": "season.csv"}'))
    await alice.press("Submit the job")
    for person in (alice, bob):
        await person.sees("completed", ".jobs li")
        assert await person.count(".jobs li") == 1
    assert await bob.count(".jobs button") == 0
    await bob.go("episodes")
    await bob.sees("2 episodes")
    assert alice.errors() == bob.errors() == []


async def test_a_failed_job_says_why_and_is_tried_again(
    start_greenroom, browser: Chromium, tmp_path: Path
) -> None:
    """
    The error stands at the job; when its cause is gone, a click lets it begin anew.
    """
    greenroom = await start_greenroom({"node.data_dir": str(tmp_path)})
    (tmp_path / "imports").mkdir()
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    await alice.go("jobs")
    await greenroom.request("POST", "jobs", {"type": "episode.import", "payload": {"path": "late.csv"}})
    await alice.sees("failed", ".jobs li")
    await alice.sees("late.csv", ".jobs .detail")
    (tmp_path / "imports/late.csv").write_text("title\nOne\n", "utf-8")
    await alice.do(lambda page: page.get_by_role("button", name="Try again").click())
    await alice.sees("completed", ".jobs li")
    await alice.follow("episode.import")
    await alice.sees("What became of it")
    await alice.sees("completed", ".timeline")
    await alice.sees("failed", ".timeline")
    assert alice.errors() == []


async def test_a_composition_is_drawn_and_shown(start_greenroom, browser: Chromium, tmp_path: Path) -> None:
    """
    "Render" makes a job; its picture comes without a reload.
    """
    greenroom = await start_greenroom({"node.data_dir": str(tmp_path)})
    episode = await greenroom.create()
    layers = [{"kind": "box", "x": 0, "y": 0, "width": 640, "height": 360, "color": "#1f5c43"}]
    given = {"name": "Poster", "layers": layers}
    await greenroom.request("POST", f"episodes/{episode['id']}/compositions", given)
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    await alice.go(f"episodes/{episode['id']}")
    await alice.sees("not rendered yet")
    await alice.press("Render")
    await alice.do(lambda page: page.locator(".picture img").wait_for())
    await alice.tab.until("document.querySelector('.picture img').naturalWidth > 0")
    await alice.sees("composition.render", ".jobs")
    assert alice.errors() == []


async def test_progress_is_seen_on_the_episodes_page_as_it_goes(start_greenroom, browser: Chromium) -> None:
    """
    The bar moves, the focus stays on what may be done; cancelled, it says so everywhere, and may begin anew.
    """
    careful = Careful()
    greenroom = await start_greenroom(plugins={"careful": careful})
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    alice = await sign_in(browser, greenroom.port, "Alice", "editor")
    bob = await sign_in(browser, greenroom.port, "Bob", "viewer")
    for person in (alice, bob):
        await person.go(path)
        await person.sees("No jobs.")
    given = {"type": "test.careful", "episode_id": episode["id"], "payload": {}}
    await greenroom.request("POST", "jobs", given)
    for person in (alice, bob):
        await person.sees("at 25 %", ".jobs")
        assert await person.do(lambda page: page.locator("progress").get_attribute("value")) == "0.25"
    await alice.do(lambda page: page.get_by_role("button", name="Cancel").focus())
    careful.further.set()
    for person in (alice, bob):
        await person.sees("at 75 %", ".jobs")
    assert await alice.tab.run("() => document.activeElement.textContent") == "Cancel"
    await alice.do(lambda page: page.keyboard.press("Enter"))
    for person in (alice, bob):
        await person.sees("cancelled", ".jobs .status")
        assert await person.count("progress:visible") == 0
    careful.end.set()
    await alice.do(lambda page: page.get_by_role("button", name="Try again").click())
    for person in (alice, bob):
        await person.sees("completed", ".jobs .status")
        assert await person.count(".jobs li") == 1
    assert alice.errors() == bob.errors() == []
