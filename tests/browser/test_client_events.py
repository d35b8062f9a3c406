"""The JavaScript client under Node, against a real node: events, once each and in order."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from engine.domain.access import Identity
from engine.hookspecs import Refused, hookimpl
from tests.browser.node_page import NodePage, ScriptError, rename, url
from tests.gateway.node_fixture import NOBODYS, RunningNode

Start = Callable[..., Awaitable[RunningNode]]


async def test_a_subscription_shows_how_things_stand_and_then_what_happens(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    By callbacks, with the position to come back with.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    await page.connect(url(greenroom), greenroom.token())
    assert await page.run("return kept.client.identity.userId") == "alice@example.com"
    await page.subscribe(f"episode:{episode}", snapshot=True)
    assert await page.run("return kept.subscription.snapshot.episode.title") == "Pilot"
    await rename(greenroom, episode, "BC")
    assert await page.heard(2) == [2, 3]
    assert (await page.run("return kept.subscription.position"))["offset"] == 3
    assert await page.run("return [kept.client.state, kept.states]") == ["live", ["live"]]


async def test_a_subscription_is_an_async_iterator(greenroom: RunningNode, page: NodePage) -> None:
    """
    What comes between the subscription and the loop waits; the position is of what was taken.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    await page.connect(url(greenroom), greenroom.token())
    await page.run("kept.s = await kept.client.subscribe(argument).ready", f"episode:{episode}")
    await rename(greenroom, episode, "BCD")
    titles = await page.run(
        """
        const titles = [];
        for await (const event of kept.s) {
          titles.push(event.data.episode.title);
          if (titles.length === 2) break;
        }
        return [titles, kept.s.position.offset];
        """
    )
    assert titles == [["B", "C"], 3]
    rest = await page.run(
        """
        const rest = [];
        for await (const event of kept.s) {
          rest.push(event.position.offset);
          kept.client.close();
          break;
        }
        for await (const event of kept.s) rest.push(event);
        return rest;
        """
    )
    assert rest == [4]


async def test_a_position_goes_on_in_another_client(greenroom: RunningNode, page: NodePage) -> None:
    """
    Exactly what was missed; a position of another order is a gap.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    await page.connect(url(greenroom), greenroom.token())
    await page.subscribe(f"episode:{episode}")
    await rename(greenroom, episode, "B")
    assert await page.heard(1) == [2]
    position = await page.run("kept.client.close(); return kept.subscription.position")
    await rename(greenroom, episode, "CD")
    await page.connect(url(greenroom), greenroom.token())
    await page.subscribe(f"episode:{episode}", since=position)
    assert await page.heard(3) == [3, 4, "recovered"]
    await page.subscribe(f"episode:{episode}", since={**position, "epoch": NOBODYS})
    [gap] = await page.heard(1)
    assert (gap["type"], gap["snapshot"]["episode"]["title"]) == ("gap", "D")


async def test_two_subscriptions_to_one_topic_each_hear_all_of_it(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    The second from a place of its own; the first is told nothing twice. One ends, the other goes on.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    topic = f"episode:{episode}"
    await page.connect(url(greenroom), greenroom.token())
    await page.subscribe(topic)
    start = await page.run("return kept.subscription.position")
    await rename(greenroom, episode, "BC")
    assert await page.heard(2) == [2, 3]
    await page.run("kept.first = kept.subscription; kept.firstHeard = kept.heard")
    await page.subscribe(topic, since=start, snapshot=True)
    await rename(greenroom, episode, "D")
    assert await page.heard(4) == [2, 3, "recovered", 4]
    await page.until("kept.firstHeard.length === 3")
    assert await page.run("return kept.firstHeard") == [2, 3, 4]
    await page.run("kept.subscription.close(); await kept.client.ping()")
    await rename(greenroom, episode, "E")
    await page.until("kept.firstHeard.length === 4")
    # Left and entered again in one breath: no answer is taken for another's.
    again = await page.run(
        """
        kept.first.close();
        for (let turn = 0; turn < 5; turn++) kept.client.subscribe(argument).close();
        const last = kept.client.subscribe(argument, { snapshot: true });
        const gaps = [];
        last.on("gap", (gap) => gaps.push(gap));
        await last.ready;
        await kept.client.ping();
        return [last.snapshot.episode.title, gaps];
        """,
        topic,
    )
    assert again == ["E", []]


async def test_the_catalog_hears_of_episodes_that_are_subscribed_themselves(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    A list and a page of one episode side by side: both hear of it, each once.
    """
    one, other = (await greenroom.create("One"))["id"], (await greenroom.create("Other"))["id"]
    await page.connect(url(greenroom), greenroom.token())
    await page.run(
        """
        kept.list = kept.client.subscribe("catalog");
        kept.titles = [];
        kept.list.on("event", (event) => kept.titles.push(event.data.episode.title));
        await kept.list.ready;
        """
    )
    await page.subscribe(f"episode:{one}")
    await rename(greenroom, one, "B")
    await rename(greenroom, other, "X")
    await rename(greenroom, one, "C")
    assert await page.heard(2) == [2, 3]
    await page.until("kept.titles.length >= 3")
    await page.run("await kept.client.ping()")
    assert sorted(await page.run("return kept.titles")) == ["B", "C", "X"]


async def test_an_iteration_that_takes_too_little_is_behind_and_misses_nothing(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    What waits is bounded; the rest stays with the node until there is room again.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    await page.connect(url(greenroom), greenroom.token(), buffer=4)
    await page.run(
        """
        kept.behind = 0;
        kept.s = kept.client.subscribe(argument);
        kept.s.on("behind", () => kept.behind++);
        await kept.s.ready;
        """,
        f"episode:{episode}",
    )
    await rename(greenroom, episode, "ABCDEFGHIJ")
    await page.until("kept.behind === 1")
    assert await page.run("return kept.s.isLive") is False
    offsets = await page.run(
        """
        const offsets = [];
        for await (const item of kept.s) {
          offsets.push(item.position.offset);
          if (offsets.length === 10) return offsets;
        }
        """
    )
    assert offsets == list(range(2, 12))


async def test_what_is_refused_says_why_and_the_client_goes_on(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    A topic that is not there, an episode that is not, a call that nobody answers; no token, a wrong URL.
    """
    await page.connect(url(greenroom), greenroom.token())
    for script, code in {
        "await kept.client.subscribe('nonsense').ready": "unknown_topic",
        f"await kept.client.subscribe('episode:{NOBODYS}').ready": "not_found",
        f"await kept.client.join('{NOBODYS}').ready": "not_found",
        "for await (const _ of kept.client.subscribe('user:eve@example.com'));": "forbidden",
        "await kept.client.call('nothing', {})": "unknown_call",
        "kept.client.viewers('episode:x')": "not_present",
    }.items():
        with pytest.raises(ScriptError) as refused:
            await page.run(script)
        assert (refused.value.name, refused.value.code) == ("RefusedError", code)
    assert await page.run("return kept.client.state") == "live"
    for script in ("connect({url: 'http://x'})", "connect({url: 'gopher://x', token: 'x'})"):
        with pytest.raises(ScriptError) as wrong:
            await page.run(script)
        assert wrong.value.name == "TypeError"


async def test_a_plugin_is_asked(
    start_greenroom: Callable[..., Awaitable[RunningNode]], page: NodePage
) -> None:
    """
    Its answer, its refusal, and no answer in time; a call that waits for a connection ends in time, too.
    """

    class Dice:
        @hookimpl
        async def call(self, identity: Identity, name: str, args: object) -> object:
            if name == "wait":
                await trio.sleep_forever()
            return {"who": identity.user, "args": args} if name == "roll" else Refused("no", f"no {name}")

    greenroom = await start_greenroom(plugins={"dice": Dice()})
    await page.connect(url(greenroom), greenroom.token())
    answer = await page.run("return await kept.client.call('dice.roll', [1, 6])")
    assert answer == {"who": "alice@example.com", "args": [1, 6]}
    for script, name, code in (
        ("await kept.client.call('dice.throw')", "RefusedError", "no"),
        ("await kept.client.call('dice.wait', null, {timeout: 50})", "LostError", None),
        (
            "const nobody = connect({url: 'http://127.0.0.1:9', token: 'x'});"
            "try { await nobody.call('dice.roll', null, {timeout: 50}) } finally { nobody.close() }",
            "LostError",
            None,
        ),
    ):
        with pytest.raises(ScriptError) as failed:
            await page.run(script)
        assert (failed.value.name, failed.value.code) == (name, code)


async def test_rest_is_reached_with_the_client_s_token(greenroom: RunningNode, page: NodePage) -> None:
    """
    Below /api/v1, with JSON; a token that was refused is replaced once.
    """
    await page.connect(url(greenroom), greenroom.token())
    created = await page.run(
        """
        const answer = await kept.client.fetch("episodes", { method: "POST", json: { title: "Pilot" } });
        return [answer.status, (await answer.json()).created_by];
        """
    )
    assert created == [201, "alice@example.com"]
    tried = await page.run(
        """
        const tokens = ["first", "second"];
        const tried = [];
        const client = connect({
          url: "http://127.0.0.1:9",
          getToken: () => tokens.shift() ?? null,
          fetch: async (url, { headers }) => {
            tried.push([url, headers.get("Authorization"), headers.get("X-Request-Id")]);
            return new Response("", { status: tried.length === 1 ? 401 : 200 });
          },
        });
        const { status } = await client.fetch("/metrics", { headers: { "X-Request-Id": "mine" } });
        client.close();
        return [status, tried];
        """
    )
    metrics = "http://127.0.0.1:9/metrics"
    assert tried == [200, [[metrics, "Bearer first", "mine"], [metrics, "Bearer second", "mine"]]]


async def test_a_subscription_that_is_closed_twice_takes_nothing_from_the_next_one(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    The second time it had taken the whole topic from whoever subscribed in between.
    """
    topic = "episode:" + (episode := (await greenroom.create("Pilot"))["id"])
    await page.connect(url(greenroom), greenroom.token())
    await page.run("kept.first = await kept.client.subscribe(argument).ready; kept.first.close()", topic)
    await page.subscribe(topic)
    await page.run("kept.first.close(); await kept.client.ping()")
    await rename(greenroom, episode, "B")
    assert await page.heard(1) == [2]


async def test_the_catalog_tells_its_past_also_of_an_episode_that_is_listened_to(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    What came by the episode's own topic before was told to others on the page, not to this subscription.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    await page.connect(url(greenroom), greenroom.token())
    await page.subscribe("catalog")
    position = await page.run("kept.subscription.close(); return kept.subscription.position")
    await page.subscribe(f"episode:{episode}")
    await rename(greenroom, episode, "BC")
    assert await page.heard(2) == [2, 3]
    await page.run(
        """
        kept.titles = [];
        const catalog = kept.client.subscribe("catalog", { since: argument });
        catalog.on("event", ({ data }) => kept.titles.push(data.episode.title));
        await catalog.ready;
        await kept.client.ping();
        """,
        position,
    )
    await rename(greenroom, episode, "D")
    await page.until("kept.titles.includes('D')")
    assert await page.run("return kept.titles") == ["B", "C", "D"]
