"""The engine's page: what operators see of a plugin that fails, and how they let it go on."""

from tests.browser.chromium import Chromium
from tests.browser.people import sign_in
from tests.browser.test_console_access import BROKEN
from tests.gateway.test_rest_engine import Stumbling


async def test_a_quarantined_plugin_is_shown_and_resumed(start_greenroom, browser: Chromium) -> None:
    """
    With what was wrong; mended and resumed, it runs, and what it missed is not lost.
    """
    plugin = Stumbling()
    greenroom = await start_greenroom(BROKEN, plugins={"stumbling": plugin})
    row = "tr[data-plugin=stumbling]"
    alice = await sign_in(browser, greenroom.port, "Alice")
    await alice.follow("Engine")
    await greenroom.create("One")
    await alice.sees("quarantined", row)
    await alice.sees("ValueError: no good", row)
    await alice.sees("supervisor", ".tree")
    await alice.tab.until("document.querySelectorAll('.plot .line[points]').length === 4")
    plugin.mended = True
    await alice.press("Resume")
    await alice.sees("running", row)
    await alice.tab.until(f"document.querySelector('{row}').cells[2].textContent === '0'")
    assert plugin.seen == ["One"]
    assert await alice.count(f"{row} button") == 0
    assert alice.errors() == []
