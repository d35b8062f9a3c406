"""The documented Vue example, built as its README says, with Vue from npm, against a node."""

import os
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from playwright.sync_api import Route

from tests.browser import node_tools
from tests.browser.chromium import Chromium, Tab
from tests.browser.node_page import url
from tests.gateway.chaos_proxy import ChaosProxy, chaos
from tests.gateway.node_fixture import RunningNode

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "vue"
VITE = [node_tools.node(), str(EXAMPLE / "node_modules" / "vite" / "bin" / "vite.js")]
# Seconds for what is built and started.
PATIENCE = 120


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The example's pages, as `npm run build` makes them.
    """
    node_tools.packages(EXAMPLE)
    there = tmp_path_factory.mktemp("vue")
    done = subprocess.run(
        [*VITE, "build", "--outDir", str(there), "--emptyOutDir"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return there


@pytest.fixture
async def proxy(greenroom: RunningNode) -> AsyncIterator[ChaosProxy]:
    async with chaos(greenroom.port) as running:
        yield running


@pytest.fixture
async def example(built: Path, proxy: ChaosProxy) -> AsyncIterator[str]:
    """
    The address of the pages, which hand what is the node's to the node.
    """
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    options = ["--outDir", str(built), "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    process = await trio.lowlevel.open_process(
        [*VITE, "preview", *options],
        cwd=EXAMPLE,
        env={**os.environ, "GREENROOM": proxy.url, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        said = b""
        with trio.fail_after(PATIENCE):
            while f"http://127.0.0.1:{port}".encode() not in said:
                more = await process.stdout.receive_some()
                assert more, said
                said += more
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        with trio.move_on_after(PATIENCE, shield=True):
            await process.wait()


async def sign_in(browser: Chromium, where: str, token: str) -> Tab:
    tab = await browser.open(where)
    await browser.do(lambda: tab.page.fill("[name=token]", token))
    await browser.do(lambda: tab.page.click("text=Sign in"))
    await shows(tab, "[role=status]", "Live")
    return tab


async def shows(tab: Tab, selector: str, text: str) -> None:
    """
    Wait until an element is there that has a text.
    """
    await tab.chromium.do(lambda: tab.page.locator(selector, has_text=text).first.wait_for(state="visible"))


async def test_two_people_work_side_by_side(
    greenroom: RunningNode, proxy: ChaosProxy, example: str, browser: Chromium
) -> None:
    """
    List, page of an episode, presence and notifications, through a loss of the connection.
    """
    alice = await sign_in(browser, example, greenroom.token(name="Alice"))
    bob = await sign_in(browser, example, greenroom.token("bob@example.com", name="Bob"))
    await browser.do(lambda: alice.page.fill("[name=title]", "Pilot"))
    await browser.do(lambda: alice.page.click("text=Create"))
    await shows(bob, "[aria-label=Episodes] li", "created by alice@example.com")
    await shows(alice, "[aria-label=Notifications]", "Episode 'Pilot' created successfully")
    await shows(alice, "[aria-label=Notifications] h2", "1 unread")

    for tab in (alice, bob):
        await browser.do(lambda tab=tab: tab.page.click("[aria-label=Episodes] li button"))
    await shows(alice, "[aria-label=Viewing]", "Bob (viewing)")
    await browser.do(lambda: bob.page.fill("[name=new-title]", "The Pilot"))
    await shows(alice, "[aria-label=Viewing]", "Bob (editing)")
    await browser.do(lambda: bob.page.click("text=Save"))
    for tab in (alice, bob):
        await shows(tab, "[aria-label=Episode] h2", "The Pilot")
        await shows(tab, "[aria-label=Episodes] li", "The Pilot")

    proxy.refusing = True
    proxy.cut()
    await shows(alice, "[role=status]", "Not live (stale)")
    [episode] = (await greenroom.request("GET", "episodes")).json["data"]
    for title in ("Second thoughts", "Third thoughts"):
        await greenroom.request("PATCH", f"episodes/{episode['id']}", {"title": title})
    await greenroom.create("Made meanwhile")
    proxy.refusing = False
    for tab in (alice, bob):
        await shows(tab, "[role=status]", "Live")
        await shows(tab, "[aria-label=Episode] h2", "Third thoughts")
        await shows(tab, "[aria-label=Episodes] li", "Made meanwhile")
        await shows(tab, "[aria-label=Viewing]", "Bob")
        await shows(tab, "[aria-label=Viewing]", "Alice")

    # A filter is the node's; what no longer passes it goes.
    await browser.do(lambda: alice.page.fill("[name=q]", "thoughts"))
    await shows(alice, "[aria-label=Episodes]", "1 episodes")
    answer = await greenroom.request("DELETE", f"episodes/{episode['id']}")
    assert answer.status == 204
    await shows(alice, "[aria-label=Episodes]", "0 episodes")
    for tab in (alice, bob):
        await shows(tab, "[aria-label=Episode]", "This episode was deleted.")


async def test_who_saves_an_older_version_is_told(
    greenroom: RunningNode, example: str, browser: Chromium
) -> None:
    """
    Nobody's change is overwritten unseen: not even one that was made while this one was on its way.
    """
    episode = await greenroom.create("Pilot")
    alice = await sign_in(browser, example, greenroom.token(name="Alice"))
    await browser.do(lambda: alice.page.click("[aria-label=Episodes] li button"))
    await shows(alice, "[aria-label=Episode] h2", "Pilot")
    await browser.do(lambda: alice.page.fill("[name=new-title]", "Mine"))
    path = f"{url(greenroom)}/api/v1/episodes/{episode['id']}"
    bearer = {"Authorization": f"Bearer {greenroom.token('bob@example.com')}"}

    def bob_is_quicker(route: Route) -> None:
        if route.request.method == "PATCH":
            headers = {**bearer, "Content-Type": "application/json"}
            change = urllib.request.Request(path, b'{"title": "His"}', headers, method="PATCH")
            urllib.request.urlopen(change, timeout=PATIENCE).close()
        route.continue_()

    await browser.do(lambda: alice.page.route("**/api/v1/episodes/*", bob_is_quicker))
    await browser.do(lambda: alice.page.click("text=Save"))
    await shows(alice, "[aria-label=Episode] [role=alert]", "Somebody else has saved meanwhile.")
    await shows(alice, "[aria-label=Episode] h2", "His")
    current = await greenroom.request("GET", f"episodes/{episode['id']}")
    assert (current.json["title"], current.json["version"]) == ("His", 2)
