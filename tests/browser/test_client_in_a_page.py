"""The JavaScript client in a real browser: a page that imports it from the node."""

from collections.abc import AsyncIterator

import pytest
import trio

from tests.browser.chromium import Chromium, Tab
from tests.browser.node_page import rename, url
from tests.gateway.chaos_proxy import ChaosProxy, chaos
from tests.gateway.node_fixture import RunningNode

BEGIN = """
async ({ token, episode, options }) => {
  const { connect } = await import("/client.js");
  window.states = [];
  window.heard = [];
  window.client = connect({ token, backoff: { first: 20, cap: 100 }, ...options });
  client.on("state", (state) => states.push(state));
  const subscription = client.subscribe(`episode:${episode}`, { snapshot: true });
  subscription.on("event", (event) => heard.push(event.position.offset));
  await client.ready();
  return subscription.snapshot.episode.title;
}
"""


@pytest.fixture
async def proxy(greenroom: RunningNode) -> AsyncIterator[ChaosProxy]:
    async with chaos(greenroom.port) as running:
        yield running


async def begin(tab: Tab, greenroom: RunningNode, episode: str, **options: object) -> None:
    given = {"token": greenroom.token(), "episode": episode, "options": options}
    assert await tab.run(BEGIN, given) == "Pilot"


async def freeze(browser: Chromium, tab: Tab, state: str) -> None:
    def set_state() -> None:
        session = tab.page.context.new_cdp_session(tab.page)
        session.send("Page.setWebLifecycleState", {"state": state})
        session.detach()

    await browser.do(set_state)


async def test_a_page_is_live_and_offline_and_back_recovers(
    greenroom: RunningNode, proxy: ChaosProxy, browser: Chromium
) -> None:
    """
    Under the node's own strict policy. Offline, the page says that it is stale as soon as that is so.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    tab = await browser.open(proxy.url)
    await begin(tab, greenroom, episode, probeTimeout=500)
    await rename(greenroom, episode, "B")
    await tab.until("heard.length === 1")
    proxy.stall()
    await tab.set_offline(True)
    await tab.until("client.state === 'stale'")
    await rename(greenroom, episode, "CD")
    proxy.cut()
    proxy.flow()
    await tab.set_offline(False)
    await tab.until("client.state === 'live'")
    await rename(greenroom, episode, "E")
    await tab.until("heard.length === 4")
    assert await tab.run("heard") == [2, 3, 4, 5]
    assert await tab.run("states") == ["live", "stale", "recovering", "live"]


async def test_offline_alone_does_not_end_a_connection_that_lives(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    To a node on the same machine, for one. The client asks instead of believing.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    tab = await browser.open(url(greenroom))
    await begin(tab, greenroom, episode)
    await tab.run("() => { for (const name of ['offline', 'online']) dispatchEvent(new Event(name)); }")
    await tab.run("() => client.ping()")
    await rename(greenroom, episode, "B")
    await tab.until("heard.length === 1")
    assert await tab.run("states") == ["live"]


async def test_a_page_that_was_frozen_catches_up(
    greenroom: RunningNode, proxy: ChaosProxy, browser: Chromium
) -> None:
    """
    Its timers stood still; the connection did not end. What happened meanwhile comes, and it was never stale.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    tab = await browser.open(proxy.url)
    await begin(tab, greenroom, episode, pingInterval=100, pingTimeout=500)
    connections = proxy.accepted
    await freeze(browser, tab, "frozen")
    await rename(greenroom, episode, "BCD")
    await trio.sleep(2)
    await freeze(browser, tab, "active")
    await tab.until("heard.length === 3")
    assert await tab.run("[heard, states]") == [[2, 3, 4], ["live"]]
    assert proxy.accepted == connections
    assert tab.errors == []


async def test_a_page_of_another_origin_loads_the_client(
    greenroom: RunningNode, proxy: ChaosProxy, browser: Chromium
) -> None:
    """
    A frontend has an address of its own: it may load the module from the node, and open the WebSocket.
    """
    tab = await browser.open(f"{proxy.url}/healthz")
    state = await tab.run(
        """
        async ({ url, token }) => {
          const { connect } = await import(`${url}/client.js`);
          return (await connect({ url, token }).ready()).state;
        }
        """,
        {"url": url(greenroom), "token": greenroom.token()},
    )
    assert state == "live"
