"""The console when the node dies or the network goes: it says so, comes back by itself, and is right."""

import os
import signal
from collections.abc import Awaitable, Callable

import trio

from tests.acceptance.outside import Program
from tests.browser.chromium import Chromium
from tests.browser.people import sign_in
from tests.gateway.node_fixture import RunningNode


async def test_pages_survive_a_killed_node_without_a_reload(
    serve: Callable[..., Awaitable[Program]], browser: Chromium
) -> None:
    """
    They say that they are not live, recover, and show once what was changed meanwhile.
    """
    first = await serve()
    alice = await sign_in(browser, first.port, "Alice")
    bob = await sign_in(browser, first.port, "Bob")
    episode = await first.create("Before")
    await alice.sees("Before", "tbody")
    await bob.go(f"episodes/{episode['id']}")
    await bob.do(lambda page: page.get_by_role("heading", name="Before").wait_for())
    for person in (alice, bob):
        await person.tab.run("() => { window.untouched = true; }")
    os.kill(first.process.pid, signal.SIGKILL)
    first.killed = True
    await trio.to_thread.run_sync(first.process.wait)
    for person in (alice, bob):
        await person.sees("what you see may be out of date")
    second = await serve("--port", first.port, data_dir=first.data_dir)
    await second.ask("PATCH", f"/api/v1/episodes/{episode['id']}", {"title": "Changed meanwhile"})
    await second.create("Made meanwhile")
    for person in (alice, bob):
        await person.is_live()
        await person.sees_no_more("what you see may be out of date")
        assert await person.tab.run("() => window.untouched")
    await alice.sees("Changed meanwhile", "tbody")
    await alice.sees("Made meanwhile", "tbody")
    assert await alice.count("tbody tr") == 2
    await bob.do(lambda page: page.get_by_role("heading", name="Changed meanwhile").wait_for())


async def test_a_page_that_was_offline_catches_up(greenroom: RunningNode, browser: Chromium) -> None:
    """
    A browser without network says so; back in it, the page shows what was missed.
    """
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.tab.set_offline(True)
    await alice.sees("what you see may be out of date")
    await greenroom.create("While you were away")
    await alice.tab.set_offline(False)
    await alice.is_live()
    await alice.sees("While you were away", "tbody")
    assert await alice.count("tbody tr") == 1
