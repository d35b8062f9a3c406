"""The unmodified Socket.IO client, in Node and in Chromium, in place of what Greenroom replaces."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.browser.chromium import Chromium
from tests.browser.node_page import node_page
from tests.browser.socket_page import SocketPage
from tests.gateway.node_fixture import RunningNode
from tests.gateway.test_calls import Clerk
from tests.gateway.test_socketio_namespaces import Echo

# As existing frontends connect.
TRANSPORTS: list[dict[str, Any]] = [{}, {"transports": ["websocket"]}, {"transports": ["polling"]}]


@pytest.fixture(params=["node", "chromium"])
async def page(request: pytest.FixtureRequest) -> AsyncIterator[SocketPage]:
    """
    A page, once in Node and once in a browser.
    """
    if request.param == "node":
        async with node_page() as running:
            yield SocketPage(running.run)
    else:
        chromium: Chromium = request.getfixturevalue("browser")
        yield await SocketPage.in_tab(await chromium.open())


def url_of(greenroom: RunningNode) -> str:
    return f"http://127.0.0.1:{greenroom.port}"


@pytest.mark.parametrize("options", TRANSPORTS, ids=["default", "websocket", "polling"])
async def test_a_frontend_sees_what_happens(
    greenroom: RunningNode, page: SocketPage, options: dict[str, Any]
) -> None:
    """
    Every event under its name with its data, who else is there, and acks.
    """
    frontend = await greenroom.connect("carol@example.com")
    await page.connect(url_of(greenroom), {"token": greenroom.token()}, **options)
    [[state, _, recovered]] = await page.states()
    assert (state, recovered) == ("connect", False)
    wanted = options.get("transports", ["websocket"])[0]
    await page.until(f"kept.socket.io.engine.transport.name === {wanted!r}")
    episode = (await greenroom.create("Pilot"))["id"]
    assert (await greenroom.request("PATCH", f"episodes/{episode}", {"title": "Pilot 2"})).status == 200
    assert (await greenroom.request("DELETE", f"episodes/{episode}")).status == 204
    frames = [await frontend.receive() for _ in range(3)]
    heard = await page.heard(3, of="episode_")
    assert [event[:2] for event in heard] == [[frame["event"], frame["data"]] for frame in frames]
    other = (await greenroom.create("Other"))["id"]
    room = {"resourceType": "episode", "resourceId": other, "userName": "Alice"}
    assert await page.ask("presence:join", room) == {"ok": True}
    await frontend.ask(type="presence", resourceType="episode", resourceId=other)
    await page.until("kept.events.some(([name, update]) => name === 'presence:update' && update.total === 2)")
    assert await page.ask("presence:leave", room) == {"ok": True}
    await page.run("kept.socket.close()")


async def test_who_proves_nothing_is_told_why(greenroom: RunningNode, page: SocketPage) -> None:
    """
    And may try again with a token.
    """
    await page.connect(url_of(greenroom), {"token": "bad"})
    [[state, message, data]] = await page.states()
    assert (state, data) == ("refused", {"code": 4401})
    assert "token" in message
    await page.run("kept.socket.auth = argument; kept.socket.connect()", {"token": greenroom.token()})
    await page.until("kept.states.length === 2 && kept.socket.connected")
    await page.run("kept.socket.close()")


async def test_two_tabs_are_one_viewer_until_both_are_closed(
    greenroom: RunningNode, browser: Chromium
) -> None:
    """
    Each hears everything.
    """
    episode = (await greenroom.create())["id"]
    frontend = await greenroom.connect("carol@example.com")
    await frontend.ask(type="presence", resourceType="episode", resourceId=episode)
    first = await browser.open(url_of(greenroom))
    second = await browser.open_beside(first, url_of(greenroom))
    pages = [await SocketPage.in_tab(tab) for tab in (first, second)]
    for page in pages:
        await page.connect(url_of(greenroom), {"token": greenroom.token("bob@example.com")})
        room = {"resourceType": "episode", "resourceId": episode}
        assert await page.ask("presence:join", room) == {"ok": True}
    await greenroom.create("Heard by both")
    for page in pages:
        [[_, data, _]] = await page.heard(1, of="episode_created")
        assert data["episode"]["title"] == "Heard by both"
    await browser.do(first.page.close)
    await greenroom.create("Heard by the other")
    await pages[1].heard(2, of="episode_created")
    totals = {message["total"] for message in await frontend.pending() if message.get("type") == "presence"}
    assert totals == {1, 2}
    await browser.do(second.page.close)
    while (message := await frontend.receive()).get("total") != 1:
        pass
    assert [viewer["userId"] for viewer in message["left"]] == ["bob@example.com"]


@pytest.mark.parametrize("options", TRANSPORTS, ids=["default", "websocket", "polling"])
async def test_a_plugin_answers_calls_in_acks(
    start_greenroom: Any, page: SocketPage, options: dict[str, Any]
) -> None:
    """
    Its results, its refusals, names that nobody knows; what takes too long is given up by the client alone.
    """
    clerk = Clerk()
    node = await start_greenroom(plugins={"clerk": clerk})
    await page.connect(url_of(node), {"token": node.token("bob@example.com")}, **options)
    echoed = {"args": {"a": ["ü"]}, "who": "bob@example.com", "plugin": "clerk"}
    asked = {"name": "clerk.echo", "args": {"a": ["ü"]}}
    assert await page.ask("call", asked) == {"ok": True, "result": echoed}
    assert await page.ask("call", {"name": "clerk.dance"}) == {
        "ok": False,
        "code": "no_dancing",
        "message": "the clerk does not dance",
    }
    unknown = await page.ask("call", {"name": "nobody.echo"})
    assert (unknown["ok"], unknown["code"]) == (False, "unknown_call")
    given_up = await page.run(
        """
        try { return await kept.socket.timeout(50).emitWithAck("call", argument) }
        catch (error) { return error.message }
        """,
        {"name": "clerk.wait"},
    )
    assert given_up == "operation has timed out"
    assert (await page.ask("call", asked))["ok"]
    clerk.release.set()
    assert (await page.ask("call", {"name": "clerk.wait", "args": 5})) == {"ok": True, "result": 5}
    assert await page.run("return kept.socket.connected")
    await page.run("kept.socket.close()")


@pytest.mark.parametrize("options", TRANSPORTS, ids=["default", "websocket", "polling"])
async def test_binary_goes_both_ways_with_acks(
    start_greenroom: Any, page: SocketPage, options: dict[str, Any]
) -> None:
    """
    In a namespace that a plugin serves, / for one.
    """
    greenroom: RunningNode = await start_greenroom(plugins={"echo": Echo()})
    await page.connect(url_of(greenroom), {"name": "x"}, namespace="/", **options)
    assert await page.heard(1, of="auth") == [["auth", {"name": "x"}]]
    answer = await page.run(
        """
        const bytes = Uint8Array.from([1, 2, 3]);
        // The ack's arguments, of which emitWithAck gives the first.
        const given = [bytes, { deep: [bytes] }];
        const args = await new Promise((done) => kept.socket.timeout(20000).emit("message-with-ack", ...given,
            (error, ...args) => done(args)));
        const back = new Promise((done) => kept.socket.once("message-back", (...args) => done(args)));
        kept.socket.emit("message", "text", bytes.buffer);
        const [text, echoed] = await back;
        kept.socket.on("question", (question, reply) => reply(new Uint8Array(question)[1]));
        const asked = await new Promise((done) => kept.socket.timeout(20000).emit("ask-back", bytes,
            (error, ...args) => done(args)));
        const shown = (data) => [...new Uint8Array(data)];
        return [shown(args[0]), shown(args[1].deep[0]), text, shown(echoed), asked];
        """
    )
    assert answer == [[1, 2, 3], [1, 2, 3], "text", [1, 2, 3], ["answered", 2]]
    await page.run("kept.socket.close()")


async def test_a_page_of_another_origin_needs_to_be_allowed(start_greenroom: Any, browser: Chromium) -> None:
    """
    One that is named may send its browser's credentials.
    """
    other: RunningNode = await start_greenroom()
    greenroom: RunningNode = await start_greenroom(
        {"node.name": "second", "socketio.allowed_origins": [f"http://localhost:{other.port}"]}
    )
    for host, state in (("localhost", "connect"), ("127.0.0.1", "refused")):
        # The pages' own policy lets them speak to their own node only.
        tab = await browser.open(bypass_csp=True)
        await tab.goto(f"http://{host}:{other.port}")
        page = await SocketPage.in_tab(tab)
        options = {"withCredentials": True, "transports": ["polling"], "extraHeaders": {"x-studio": "1"}}
        await page.connect(url_of(greenroom), {"token": greenroom.token()}, **options)
        assert (await page.states())[0][0] == state
        await page.run("kept.socket.close()")
