"""An episode's actor crashes under its viewers: they stay connected, and miss nothing."""

import trio

from engine.actors.episode import Leave, presence_topic
from engine.domain.event import episode_topic
from tests.gateway.node_fixture import until

# Often, soon, and never parked: the supervisor's patience has tests of its own.
CRASHES = {"supervision.episode.max_restarts": 1000, "supervision.episode.backoff_cap": "5ms"}


async def test_viewers_of_a_crashed_actor_see_every_offset_once(start_greenroom):
    """
    While writers go on and the actor crashes again and again, each viewer hears 2 … 61 in order.
    """
    greenroom = await start_greenroom(CRASHES)
    greenroom.may_log_tracebacks = True  # of the crashes
    episode = await greenroom.create()
    topic = f"episode:{episode['id']}"
    viewers = [await greenroom.subscriber(topic, f"user{number}@example.com") for number in range(5)]
    both = await greenroom.connect("both@example.com")
    for named in ("catalog", topic):
        await both.ask(type="subscribe", topic=named)
    await both.pending()
    heard = {}

    async def listen(number, viewer):
        heard[number] = [(await viewer.receive())["offset"] for _ in range(60)]

    async def write(writer):
        for number in range(15):
            answer = await greenroom.request(
                "PATCH", f"episodes/{episode['id']}", {"title": f"Title {writer} {number}"}
            )
            assert answer.status == 200

    async with trio.open_nursery() as nursery:
        for number, viewer in enumerate([*viewers, both]):
            nursery.start_soon(listen, number, viewer)
        async with trio.open_nursery() as writers:
            for writer in range(4):
                writers.start_soon(write, writer)
            for crashes in range(1, 16):
                greenroom.node.crash_episodes()
                await until(lambda crashes=crashes: restarts(greenroom) >= crashes)
    assert list(heard.values()) == [list(range(2, 62))] * 6
    for viewer in [*viewers, both]:
        assert await viewer.pending() == []
        assert viewer.ws.closed is None
    assert restarts(greenroom) >= 15


async def test_events_of_the_time_without_an_actor_are_brought_by_the_next(start_greenroom):
    """
    It was told of none of them: it finds in the log what its subscribers are owed.
    """
    greenroom = await start_greenroom(
        {**CRASHES, "supervision.episode.backoff_first": "300ms", "supervision.episode.backoff_cap": "300ms"}
    )
    greenroom.may_log_tracebacks = True
    episode = await greenroom.create()
    bob = await greenroom.subscriber(f"episode:{episode['id']}")
    greenroom.node.crash_episodes()
    await until(lambda: state(greenroom) != "running")
    for title in ("2", "3", "4"):
        await greenroom.request("PATCH", f"episodes/{episode['id']}", {"title": title})
    assert state(greenroom) != "running"
    assert await bob.pending() == []
    assert [(await bob.receive())["offset"] for _ in range(3)] == [2, 3, 4]
    assert await bob.pending() == []


async def test_presence_outlives_a_crash(start_greenroom):
    """
    Everyone is told once more who is there; who left meanwhile is not among them, nor in the table.
    """
    greenroom = await start_greenroom(CRASHES)
    greenroom.may_log_tracebacks = True
    episode = await greenroom.create()
    present = {"type": "presence", "resourceType": "episode", "resourceId": episode["id"]}
    bob, carol = await greenroom.connect("bob@example.com"), await greenroom.connect("carol@example.com")
    for frontend in (bob, carol):
        assert await frontend.ask(**present) == {"type": "ok"}
    rows = "select user_id from user_presence order by user_id"
    await until(lambda: greenroom.rows(rows) == [("bob@example.com",), ("carol@example.com",)])
    # The crash takes the message with it that carol left: nobody tells the actor again.
    node, there = greenroom.node, presence_topic(episode_topic(episode["id"]))
    carols = {
        session: meta for session, meta in node.hub.metas(there).items() if meta.user != "bob@example.com"
    }
    [(session, meta)] = carols.items()
    node.crash_episodes()
    node.hub.drop_session(session)
    node.episodes.tell_nowait(episode["id"], Leave(session, meta.user))
    while (update := await bob.receive()).get("total") != 1 or "viewers" not in update:
        assert update["type"] == "presence"
    assert [viewer["userId"] for viewer in update["viewers"]] == ["bob@example.com"]
    await until(lambda: greenroom.rows(rows) == [("bob@example.com",)])


def restarts(greenroom):
    return sum(child.restarts for child in greenroom.node.episode_supervisor.children())


def state(greenroom):
    [child] = greenroom.node.episode_supervisor.children()
    return child.state
