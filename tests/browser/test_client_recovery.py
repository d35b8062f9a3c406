"""The JavaScript client comes back by itself: nothing missed, nothing twice, or it says so."""

import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from tests.acceptance.outside import Program
from tests.browser.node_page import NodePage, rename, states, url
from tests.gateway.chaos_proxy import ChaosProxy, chaos
from tests.gateway.node_fixture import RunningNode
from tests.gateway.scripted_node import scripted

Start = Callable[..., Awaitable[RunningNode]]


@pytest.fixture
async def proxy(greenroom: RunningNode) -> AsyncIterator[ChaosProxy]:
    async with chaos(greenroom.port) as running:
        yield running


async def test_after_a_cut_comes_exactly_what_was_missed(
    greenroom: RunningNode, proxy: ChaosProxy, page: NodePage
) -> None:
    """
    Of an episode, of the catalog and of an iteration; and the state says what is to be trusted.
    """
    episode = (await greenroom.create())["id"]
    await page.connect(proxy.url, greenroom.token())
    await page.subscribe(f"episode:{episode}")
    await page.run(
        """
        kept.list = kept.client.subscribe("catalog");
        kept.taken = [];
        kept.loop = (async () => {
          for await (const item of kept.list) kept.taken.push(item.data.episode.title);
        })();
        await kept.list.ready;
        """
    )
    await rename(greenroom, episode, "B")
    assert await page.heard(1) == [2]
    proxy.refusing = True
    proxy.cut()
    await page.wait_state("stale")
    assert await page.run("return [kept.client.trouble !== '', kept.subscription.isLive]") == [True, False]
    await rename(greenroom, episode, "CDE")
    other = await greenroom.create("Other")
    proxy.refusing = False
    assert await page.heard(5) == [2, 3, 4, 5, "recovered"]
    await page.wait_state("live")
    await rename(greenroom, episode, "F")
    assert await page.heard(6) == [2, 3, 4, 5, "recovered", 6]
    await page.until("kept.taken.length >= 6")
    await page.run("await kept.client.ping()")
    assert sorted(await page.run("return kept.taken")) == ["B", "C", "D", "E", "F", other["title"]]
    assert await states(page) == ["live", "stale", "recovering", "live"]


async def test_whatever_the_network_does_each_event_comes_once_and_in_order(
    greenroom: RunningNode, proxy: ChaosProxy, page: NodePage
) -> None:
    """
    Cut at any moment, again and again, while three subscriptions hear of two episodes.
    """
    one, other = (await greenroom.create("One"))["id"], (await greenroom.create("Other"))["id"]
    chance = random.Random(11)
    await page.connect(proxy.url, greenroom.token(), buffer=8)
    await page.subscribe(f"episode:{one}")
    await page.run(
        """
        kept.ids = [];
        kept.list = await kept.client.subscribe("catalog").ready;
        kept.list.on("event", (event) => kept.ids.push(event.id));
        kept.second = await kept.client.subscribe(`episode:${argument}`).ready;
        kept.taken = [];
        (async () => {
          for await (const item of kept.second) {
            kept.taken.push(item.position.offset);
            await new Promise((slowly) => setTimeout(slowly, 3)); // often behind
          }
        })();
        """,
        other,
    )

    async def cut_now_and_then() -> None:
        while True:
            await trio.sleep(chance.uniform(0.05, 0.4))
            proxy.cut()

    count = 120
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_now_and_then)
        for number in range(count):
            for episode in (one, other):
                await rename(greenroom, episode, "AB"[number % 2])
            await trio.sleep(chance.uniform(0, 0.02))
        nursery.cancel_scope.cancel()
    offsets = list(range(2, count + 2))
    await page.until(f"kept.taken.length >= {count} && kept.ids.length >= {2 * count}")
    await page.until(f"kept.heard.filter(Number).length >= {count}")
    await page.run("await kept.client.ping()")
    assert [each for each in await page.run("return kept.heard") if each != "recovered"] == offsets
    assert await page.run("return kept.taken") == offsets
    ids = await page.run("return kept.ids")
    assert len(ids) == len(set(ids)) == 2 * count
    assert proxy.accepted > 5


async def test_what_cannot_be_recovered_is_a_gap_with_how_things_stand(
    start_greenroom: Start, page: NodePage
) -> None:
    """
    More was missed than the node tells again: both the episode's and the catalog's subscribers are told.
    """
    greenroom = await start_greenroom({"realtime.replay_limit": 2})
    episode = (await greenroom.create())["id"]
    async with chaos(greenroom.port) as proxy:
        await page.connect(proxy.url, greenroom.token())
        await page.subscribe(f"episode:{episode}")
        await page.run("kept.shown = []; kept.subscription.on('snapshot', (now) => kept.shown.push(now))")
        proxy.refusing = True
        proxy.cut()
        await page.wait_state("stale")
        await rename(greenroom, episode, "BCD")
        proxy.refusing = False
        [gap] = await page.heard(1)
        assert (gap["type"], gap["topic"], gap["position"]["offset"]) == ("gap", f"episode:{episode}", 4)
        assert gap["snapshot"]["episode"]["title"] == "D"
        assert await page.run("return kept.shown") == [gap["snapshot"]]
        await rename(greenroom, episode, "E")
        assert (await page.heard(2))[1] == 5


async def test_a_connection_that_stalls_is_found_out_and_replaced(
    greenroom: RunningNode, proxy: ChaosProxy, page: NodePage
) -> None:
    """
    Nobody hangs up, nothing comes: the client asks, and does not wait for ever. Quiet alone is no reason.
    """
    episode = (await greenroom.create())["id"]
    quick = {"pingInterval": 20, "pingTimeout": 500, "connectTimeout": 500}
    await page.connect(proxy.url, greenroom.token(), **quick)
    await page.subscribe(f"episode:{episode}")
    await trio.sleep(1)  # fifty pings, all answered
    assert await states(page) == ["live"]
    assert proxy.accepted == 1
    proxy.stall()
    await rename(greenroom, episode, "BC")
    await page.wait_state("stale")
    assert "did not answer a ping within 0.5 s" in await page.run("return kept.client.trouble")
    proxy.cut()
    proxy.flow()
    assert await page.heard(3) == [2, 3, "recovered"]


async def test_a_page_that_slept_is_not_taken_for_a_dead_connection(
    greenroom: RunningNode, proxy: ChaosProxy, page: NodePage
) -> None:
    """
    A deadline that passed while the page's timers stood still proves nothing.
    """
    await page.connect(proxy.url, greenroom.token(), pingInterval=20, pingTimeout=300)
    for _ in range(3):
        page.process.send_signal(signal.SIGSTOP)
        await trio.sleep(2)
        page.process.send_signal(signal.SIGCONT)
        await page.run("await kept.client.ping()")
    assert await states(page) == ["live"]
    assert proxy.accepted == 1


async def test_a_node_that_is_killed_and_started_again_is_recovered_from(
    serve: Callable[..., Awaitable[Program]], page: NodePage
) -> None:
    """
    kill -9 of the real program while a client listens and is present: it comes back to the next life.
    """
    program = await serve()
    episode = (await program.create())["id"]
    async with chaos(program.port) as proxy:
        await page.connect(proxy.url, program.token())
        await page.subscribe(f"episode:{episode}")
        await page.run("kept.presence = await kept.client.join(argument).ready", episode)
        proxy.refusing = True
        await program.kill()
        await page.wait_state("stale")
        again = await serve(data_dir=program.data_dir)
        proxy.upstream, proxy.refusing = again.port, False
        answer = await again.ask("PATCH", f"/api/v1/episodes/{episode}", {"title": "Later"})
        assert answer.status == 200
        assert await page.heard(2) == [2, "recovered"]
        await page.wait_state("live")
        # Present in the next life, too: another one sees it.
        other = "const other = connect(argument); const p = await other.join(argument.episode).ready;"
        given = {"url": proxy.url, "token": again.token("bob@example.com"), "episode": episode}
        seen = "while (p.total < 2) await new Promise((again) => p.on('change', again));"
        names = await page.run(f"{other}{seen} other.close(); return p.viewers.map((v) => v.userId)", given)
        assert sorted(names) == ["alice@example.com", "bob@example.com"]


async def test_a_node_that_stops_says_when_to_come_back_and_is_believed(page: NodePage) -> None:
    """
    Not before `reconnect_after`, whatever the backoff; then without asking anybody.
    """
    async with scripted() as node:
        await page.connect(node.url, "token")
        began = trio.current_time()
        await node.close(1001, reconnect_after=0.7, resume=True)
        await page.wait_state("stale")
        assert await page.run("return kept.client.trouble") == "because"
        await page.wait_state("live")
        assert trio.current_time() - began >= 0.69
        assert node.count == 2


async def test_a_client_too_slow_is_closed_and_recovers(start_greenroom: Start, page: NodePage) -> None:
    """
    4413 of the real node: its page slept while much happened. Nothing is missed.
    """
    greenroom = await start_greenroom({"realtime.outlet_backlog": "16KiB"})
    episode = (await greenroom.create())["id"]
    await page.connect(url(greenroom), greenroom.token())
    await page.subscribe(f"episode:{episode}")
    categories = [f"{number} {'y' * 40}" for number in range(20)]
    page.process.send_signal(signal.SIGSTOP)
    count = 0
    while greenroom.node.hub.statistics().sessions:  # until the kernel's buffers and the node's are full
        count += 1
        patch = {"title": f"Number {count}", "categories": categories}
        assert (await greenroom.request("PATCH", f"episodes/{episode}", patch)).status == 200
    page.process.send_signal(signal.SIGCONT)
    heard = await page.heard(count + 1)
    assert [each for each in heard if each != "recovered"] == list(range(2, count + 2))
    assert await states(page) == ["live", "stale", "recovering", "live"]


async def test_many_subscriptions_come_back_below_the_node_s_limits(
    start_greenroom: Start, page: NodePage
) -> None:
    """
    A page with ninety topics does not exceed the messages that a session may send.
    """
    greenroom = await start_greenroom({"limits.requests_per_second": 5000})
    ids = [(await greenroom.create(f"Episode {number}"))["id"] for number in range(90)]
    async with chaos(greenroom.port) as proxy:
        await page.connect(proxy.url, greenroom.token())
        await page.run(
            "kept.all = argument.map((id) => kept.client.subscribe(`episode:${id}`));"
            "await Promise.all(kept.all.map((each) => each.ready));",
            ids,
        )
        proxy.cut()
        await page.wait_state("stale")
        await page.wait_state("live")
        assert await page.run("return kept.all.every((each) => each.isLive)")
        assert proxy.accepted == 2
