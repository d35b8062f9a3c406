"""The pages in a real browser: they come without an error, and from this node alone."""

from tests.browser.chromium import Chromium
from tests.gateway.node_fixture import RunningNode


async def test_the_pages_load_without_an_error(greenroom: RunningNode, browser: Chromium) -> None:
    """
    Under their strict policy, with everything they need, and nothing from another host.
    """
    url = f"http://127.0.0.1:{greenroom.port}"
    for path in ("/", "/docs"):
        asked: list[str] = []
        tab = await browser.open()
        await browser.do(lambda tab=tab, asked=asked: tab.page.on("request", lambda it: asked.append(it.url)))
        await tab.goto(url + path)
        await browser.do(lambda tab=tab: tab.page.wait_for_load_state("networkidle"))
        assert tab.errors == []
        assert asked
        assert {each.split("/")[2] for each in asked} == {f"127.0.0.1:{greenroom.port}"}
