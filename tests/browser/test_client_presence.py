"""The JavaScript client's presence: who is there, what they do, on every connection anew."""

from tests.browser.node_page import NodePage, url
from tests.gateway.chaos_proxy import chaos
from tests.gateway.node_fixture import RunningNode, until

JOIN = """
kept.presence = kept.client.join(argument.episode, argument.options);
kept.changes = 0;
kept.presence.on("change", () => kept.changes++);
await kept.presence.ready;
"""


async def join(page: NodePage, episode: str, **options: object) -> None:
    await page.run(JOIN, {"episode": episode, "options": options})


def where(greenroom: RunningNode) -> list[str]:
    rows = greenroom.rows("select resource_id::text from user_presence where is_active")
    return sorted(resource for (resource,) in rows)


async def test_people_see_each_other_come_work_and_go(greenroom: RunningNode, page: NodePage) -> None:
    """
    With their states, and as many of them as there are people.
    """
    episode = (await greenroom.create())["id"]
    bob = await greenroom.connect("bob@example.com", name="Bob")
    await page.connect(url(greenroom), greenroom.token(name="Alice"))
    await join(page, f"episode:{episode}", state="editing")
    assert await page.run("return kept.presence.viewers.map((v) => [v.userName, v.state])") == [
        ["Alice", "editing"]
    ]
    await bob.send(type="presence", resourceType="episode", resourceId=episode)
    await page.until("kept.presence.total === 2")
    assert await page.run("return kept.presence.summary.names.length") == 2
    await bob.send(type="presence", resourceType="episode", resourceId=episode, state="idle")
    await page.until("kept.presence.viewers[1]?.state === 'idle'")
    await page.run("await kept.client.setState(argument, 'viewing')", episode)
    await page.until("kept.presence.viewers[0]?.state === 'viewing'")
    assert await page.run("return kept.client.viewers(argument).length", episode) == 2
    await bob.send(type="leave", resourceType="episode", resourceId=episode)
    await page.until("kept.presence.total === 1 && kept.presence.complete")


async def test_one_who_joins_twice_leaves_twice(greenroom: RunningNode, page: NodePage) -> None:
    """
    Two components on one page are one presence.
    """
    episode = (await greenroom.create())["id"]
    await page.connect(url(greenroom), greenroom.token())
    await join(page, episode)
    await page.run("kept.again = await kept.client.join(argument).ready", episode)
    assert await page.run("return kept.again === kept.presence")
    await page.run("kept.again.leave(); await kept.client.ping()")
    assert await page.run("return kept.client.viewers(argument).length", episode) == 1
    await until(lambda: where(greenroom) == [episode])
    await page.run("kept.presence.leave(); await kept.client.ping()")
    await until(lambda: where(greenroom) == [])


async def test_presence_is_restored_with_its_state(greenroom: RunningNode, page: NodePage) -> None:
    """
    On the next connection, also what was wished meanwhile; what was left is left.
    """
    episode, other = (await greenroom.create())["id"], (await greenroom.create())["id"]
    async with chaos(greenroom.port) as proxy:
        await page.connect(proxy.url, greenroom.token())
        await join(page, episode)
        await page.run("kept.other = await kept.client.join(argument).ready", other)
        await until(lambda: where(greenroom) == sorted([episode, other]))
        proxy.refusing = True
        proxy.cut()
        await page.wait_state("stale")
        assert await page.run("return kept.presence.viewers.length") == 1  # as it was told last
        await page.run("kept.other.leave(); kept.set = kept.presence.setState('editing')")
        await until(lambda: where(greenroom) == [])
        proxy.refusing = False
        await page.run("await kept.set")
        await page.until("kept.presence.viewers[0]?.state === 'editing'")
        await until(lambda: where(greenroom) == [episode])


async def test_of_a_crowd_the_whole_list_comes_by_and_by(greenroom: RunningNode, page: NodePage) -> None:
    """
    A message shows a part; the client asks for the rest, and then knows everyone.
    """
    episode = (await greenroom.create())["id"]
    crowd = [await greenroom.connect(f"viewer-{number:03}@example.com") for number in range(60)]
    await page.connect(url(greenroom), greenroom.token())
    await join(page, episode)
    for viewer in crowd:
        await viewer.send(type="presence", resourceType="episode", resourceId=episode)
    await page.until("kept.presence.total === 61 && kept.presence.complete")
    assert await page.run("return kept.presence.viewers.length") == 61
    for viewer in crowd[:50]:
        await viewer.send(type="leave", resourceType="episode", resourceId=episode)
    await page.until("kept.presence.total === 11 && kept.presence.complete")


async def test_the_list_of_a_crowd_comes_although_the_connection_was_lost_before_it(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    The question was about to be put to the connection that broke off, and nobody put it to the next.
    """
    episode = (await greenroom.create())["id"]
    for number in range(60):
        viewer = await greenroom.connect(f"viewer-{number:03}@example.com")
        await viewer.send(type="presence", resourceType="episode", resourceId=episode)
    async with chaos(greenroom.port) as proxy:
        await page.run("Math.random = () => 0.999")  # the longest wait before a list
        await page.connect(proxy.url, greenroom.token())
        await join(page, episode)
        assert not await page.run("return kept.presence.complete")
        proxy.cut()
        await page.wait_state("stale")
        await page.wait_state("live")
        await page.until("kept.presence.total === 61 && kept.presence.complete")
