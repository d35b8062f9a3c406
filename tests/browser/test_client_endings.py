"""How the JavaScript client begins and ends: tokens, final close codes, an address where nobody is."""

from collections.abc import Callable

import pytest

from tests.browser.node_page import NodePage, ScriptError, states, url
from tests.gateway.chaos_proxy import chaos
from tests.gateway.node_fixture import RunningNode
from tests.gateway.scripted_node import scripted


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4409])
async def test_after_a_final_code_the_client_does_not_come_back(page: NodePage, code: int) -> None:
    """
    Everyone who waits is told why.
    """
    async with scripted() as node:
        await page.connect(node.url, "token")
        await page.run("kept.ended = []; kept.s = kept.client.subscribe('catalog')")
        await page.run("kept.s.on('end', (error) => kept.ended.push(error.code))")
        await node.wait_received("subscribe", 1)
        await node.close(code)
        await page.wait_state("closed")
        assert await page.run("return [kept.client.error.code, kept.ended]") == [code, [code]]
        with pytest.raises(ScriptError) as closed:
            await page.run("for await (const _ of kept.s);")
        assert (closed.value.name, closed.value.code) == ("ClosedError", code)
        with pytest.raises(ScriptError):
            await page.run("kept.client.subscribe('catalog')")
        assert node.count == 1


async def test_a_refused_token_closes_the_client(greenroom: RunningNode, page: NodePage) -> None:
    """
    4401 of the real node, at once.
    """
    with pytest.raises(ScriptError) as refused:
        await page.connect(url(greenroom), "nonsense")
    assert (refused.value.name, refused.value.code) == ("ClosedError", 4401)


async def test_a_token_is_replaced_without_a_new_connection(
    greenroom: RunningNode, page: NodePage, put_clock_forward: Callable[[float], None]
) -> None:
    """
    The session outlives the token that it began with, and nobody notices.
    """
    async with chaos(greenroom.port) as proxy:
        await page.run(
            """
            // It takes the first one's last second for now; the node has the whole of it before it.
            const now = Date.now;
            Date.now = () => now() + 599_000;
            kept.tokens = argument.tokens;
            kept.states = [];
            kept.client = connect({ url: argument.url, getToken: async () => kept.tokens.shift() });
            kept.client.on("state", (state) => kept.states.push(state));
            await kept.client.ready();
            """,
            {"tokens": [greenroom.token(ttl=600), greenroom.token(ttl=1800)], "url": proxy.url},
        )
        await page.until("kept.tokens.length === 0")
        await page.run("await kept.client.ping()")
        put_clock_forward(700)
        await page.run("await kept.client.ping()")
        assert await states(page) == ["live"]
        assert proxy.accepted == 1


async def test_an_expired_token_is_renewed_by_who_can_and_final_to_who_cannot(page: NodePage) -> None:
    """
    4440 with `getToken` is one more connection, until that has none; with a fixed token it is the end.
    """
    async with scripted() as node:
        await page.run(
            "const tokens = ['one', 'two']; const backoff = { first: 1, cap: 1 };"
            "kept.client = connect({url: argument, backoff, getToken: () => tokens.shift()});"
            "await kept.client.ready();",
            node.url,
        )
        await node.close(4440, reconnect_after=0, resume=True)
        found = await node.wait_received("connect", 2)
        assert [each["token"] for each in found] == ["one", "two"]
        await page.wait_state("live")
        await node.close(4440, reconnect_after=0, resume=True)
        await page.wait_state("closed")
        assert "nobody is signed in" in await page.run("return kept.client.error.message")
        await page.connect(node.url, "fixed")
        await node.close(4440, reconnect_after=0, resume=True)
        await page.wait_state("closed")
        assert await page.run("return kept.client.error.code") == 4440


async def test_a_getter_of_tokens_that_fails_is_asked_again(greenroom: RunningNode, page: NodePage) -> None:
    """
    The service that issues tokens may be away, too.
    """
    trouble = await page.run(
        """
        let times = 0;
        const client = connect({
          url: argument.url,
          backoff: { first: 1, cap: 5 },
          getToken: async () => {
            if (++times < 3) throw new TypeError("fetch failed");
            return argument.token;
          },
        });
        await client.ready();
        client.close();
        return client.trouble;
        """,
        {"url": url(greenroom), "token": greenroom.token()},
    )
    assert trouble == "no token: fetch failed"


async def test_the_ws_package_serves_where_node_has_no_websocket(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    Node 20 has none of its own: `WebSocket` is an option. A node that is not there is tried again.
    """
    recovered = await page.run(
        """
        const client = connect({ ...argument, WebSocket: ws, backoff: { first: 5, cap: 20 } });
        await client.ready();
        const { userId } = client.identity;
        client.close();
        const nobody = connect({ ...argument, url: "http://127.0.0.1:9", WebSocket: ws });
        await new Promise((soon) => setTimeout(soon, 100));
        const { state } = nobody;
        nobody.close();
        return [userId, state, client.state];
        """,
        {"url": url(greenroom), "token": greenroom.token()},
    )
    assert recovered == ["alice@example.com", "connecting", "closed"]
