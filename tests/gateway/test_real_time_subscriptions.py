"""Subscriptions over /real-time: the implicit catalog, explicit topics, positions, recovery, snapshots."""

import trio

from engine.domain.event import CATALOG
from engine.runtime.hub import Hub
from tests.gateway.node_fixture import NOBODYS


async def change(greenroom, episode, *titles):
    for title in titles:
        answer = await greenroom.request("PATCH", f"episodes/{episode['id']}", {"title": title})
        assert answer.status == 200


def offsets(messages):
    return [message["offset"] for message in messages]


async def test_an_explicit_subscription_takes_the_place_of_the_implicit_catalog(greenroom):
    """
    Who has chosen a topic hears of that one only; a refused choice is none.
    """
    mine, other = await greenroom.create("Mine"), await greenroom.create("Other")
    witness, bob = await greenroom.connect("witness@example.com"), await greenroom.connect()
    assert (await bob.ask(type="subscribe", topic=f"episode:{NOBODYS}"))["type"] == "error"
    await change(greenroom, other, "Other 2")
    assert (await bob.receive())["data"]["episode"]["title"] == "Other 2"

    assert await bob.ask(type="subscribe", topic=f"episode:{mine['id']}") == {"type": "ok"}
    subscribed = await bob.receive()
    assert subscribed == {
        "type": "subscribed",
        "topic": f"episode:{mine['id']}",
        "recovered": False,
        "position": {"offset": 1, "epoch": subscribed["position"]["epoch"]},
    }
    await change(greenroom, other, "Other 3")
    await change(greenroom, mine, "Mine 2")
    # Who listens to the catalog has heard of both: nothing is on its way to bob any more.
    assert [(await witness.receive())["data"]["episode"]["title"] for _ in range(3)][-2:] == [
        "Other 3",
        "Mine 2",
    ]
    assert (await bob.receive())["data"]["episode"]["title"] == "Mine 2"
    assert await bob.pending() == []


async def test_whoever_comes_back_to_an_episode_hears_nothing_again_from_the_catalog_it_leaves(
    greenroom, monkeypatch
):
    """
    Which may be late: it tells then, just before it is left, what the client has heard in an earlier session.
    """
    mine = await greenroom.create("Mine")
    topic = f"episode:{mine['id']}"
    before = await greenroom.subscriber(topic)
    await change(greenroom, mine, "Mine 2")
    heard = await before.receive()
    await before.vanish()
    (event,) = await greenroom.node.store.log.since(topic, 1, 10)
    bob = await greenroom.connect()
    leave = Hub.unsubscribe

    def leave_late(hub, left, session):
        if left == CATALOG:
            hub.publish(CATALOG, [event], but_not=topic, at=event.offset)
        leave(hub, left, session)

    monkeypatch.setattr(Hub, "unsubscribe", leave_late)
    since = {"offset": heard["offset"], "epoch": heard["epoch"]}
    assert await bob.ask(type="subscribe", topic=topic, since=since) == {"type": "ok"}
    assert [message["type"] for message in await bob.pending()] == ["subscribed"]


async def test_who_listens_to_the_catalog_and_an_episode_hears_each_event_once(greenroom):
    """
    Whatever the order of subscribing.
    """
    mine, other = await greenroom.create("Mine"), await greenroom.create("Other")
    topic = f"episode:{mine['id']}"
    for topics in (("catalog", topic), (topic, "catalog")):
        bob = await greenroom.subscriber(topics[0])
        assert await bob.ask(type="subscribe", topic=topics[1]) == {"type": "ok"}
        assert (await bob.receive())["type"] == "subscribed"
        witness, watcher = await greenroom.connect("witness@example.com"), await greenroom.subscriber(topic)
        titles = [f"{topics[0]} {number}" for number in range(5)]
        for title in titles:
            await change(greenroom, mine, title)
            await change(greenroom, other, title)
        for _ in range(10):
            await witness.receive()
        for _ in range(5):
            await watcher.receive()
        heard = [
            (event["data"]["episode"]["id"], event["data"]["episode"]["title"])
            for event in await bob.pending()
        ]
        assert sorted(heard) == sorted(
            (episode["id"], title) for title in titles for episode in (mine, other)
        )


async def test_subscribing_to_the_catalog_by_name_is_answered(greenroom):
    """
    With the place of the feed as its position.
    """
    bob = await greenroom.connect()
    assert await bob.ask(type="subscribe", topic="catalog") == {"type": "ok"}
    [subscribed] = await bob.pending()
    assert subscribed == {
        "type": "subscribed",
        "topic": "catalog",
        "recovered": False,
        "position": {"offset": subscribed["position"]["offset"], "epoch": greenroom.node.store.epoch},
    }
    await greenroom.create()
    assert (await bob.receive())["event"] == "episode_created"
    assert await bob.pending() == []


async def test_who_unsubscribes_hears_no_more(greenroom):
    """
    Of an episode, of the catalog by name, and of the implicit one.
    """
    episode = await greenroom.create()
    topic = f"episode:{episode['id']}"
    witness = await greenroom.connect("witness@example.com")
    bob, carol, dave = [await greenroom.connect(f"{name}@example.com") for name in ("bob", "carol", "dave")]
    for frontend, subscribed in ((bob, topic), (carol, "catalog")):
        await frontend.ask(type="subscribe", topic=subscribed)
        assert await frontend.ask(type="unsubscribe", topic=subscribed) == {"type": "ok"}
        assert (await frontend.ask(type="unsubscribe", topic=subscribed))["code"] == "not_subscribed"
        assert [message["type"] for message in await frontend.pending()] == ["subscribed"]
    assert await dave.ask(type="unsubscribe", topic="catalog") == {"type": "ok"}
    await change(greenroom, episode, "Two")
    await witness.receive()
    for frontend in (bob, carol, dave):
        assert await frontend.pending() == []
    assert await bob.ask(type="subscribe", topic=topic) == {"type": "ok"}
    await change(greenroom, episode, "Three")
    assert [(await bob.receive()).get("offset") for _ in range(2)] == [None, 3]


async def test_a_client_that_returns_gets_exactly_what_it_missed(greenroom):
    """
    recovered: true, then the missed events in offset order, then live ones: neither hole nor double.
    """
    episode = await greenroom.create()
    topic = f"episode:{episode['id']}"
    bob = await greenroom.subscriber(topic)
    await change(greenroom, episode, "2", "3")
    position = {name: (await bob.receive())[name] for name in ("offset", "epoch")}
    assert position["offset"] == 2
    await bob.ws.aclose()
    await change(greenroom, episode, "4", "5")

    again = await greenroom.connect()
    assert await again.ask(type="subscribe", topic=topic, since=position) == {"type": "ok"}
    first = await again.receive()
    assert first == {
        "type": "subscribed",
        "topic": topic,
        "recovered": True,
        "position": {"offset": 5, "epoch": position["epoch"]},
    }
    assert offsets(await again.pending()) == [3, 4, 5]
    await change(greenroom, episode, "6")
    assert (await again.receive())["offset"] == 6
    assert await again.pending() == []


async def test_recovery_has_no_hole_while_others_write(greenroom):
    """
    Ten clients return, each at its own position, in the middle of thirty changes: each hears all, once.
    """
    episode = await greenroom.create()
    topic = f"episode:{episode['id']}"
    [(epoch,)] = greenroom.rows("select value from engine_meta where name = 'epoch'")
    await change(greenroom, episode, *map(str, range(2, 12)))
    heard = {}

    async def come_back(bob, since):
        await bob.send(type="subscribe", topic=topic, since={"offset": since, "epoch": epoch})
        # Until the subscription begins the implicit catalog is heard.
        while (first := await bob.receive()).get("type") != "subscribed":
            pass
        heard[since] = messages = [first]
        while messages[-1].get("offset") != 41:
            messages.append(await bob.receive())
        messages += await bob.pending()

    returning = [await greenroom.connect(f"user{since}@example.com") for since in range(1, 11)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(change, greenroom, episode, *map(str, range(12, 42)))
        for since, bob in enumerate(returning, start=1):
            nursery.start_soon(come_back, bob, since)
    for since, (subscribed, *rest) in heard.items():
        assert subscribed["recovered"]
        events = [message for message in rest if message != {"type": "ok"}]
        assert offsets(events) == list(range(since + 1, 42))


async def test_who_missed_too_much_gets_a_snapshot_instead(start_greenroom):
    """
    recovered: false with the present state, when more was missed than is replayed, or the epoch is another.
    """
    greenroom = await start_greenroom({"realtime.replay_limit": 3, "realtime.replay_ring": 2})
    episode = await greenroom.create()
    topic = f"episode:{episode['id']}"
    [(epoch,)] = greenroom.rows("select value from engine_meta where name = 'epoch'")
    await change(greenroom, episode, "2", "3", "4", "5")
    now = (await greenroom.request("GET", f"episodes/{episode['id']}")).json
    lost = {
        "too long ago": (1, epoch),
        "another epoch": (5, NOBODYS),
        "no epoch": (5, ""),
        "the future": (6, epoch),
        "before time": (-5, epoch),
        "never": (10**30, epoch),
    }
    for why, (offset, named) in lost.items():
        bob = await greenroom.connect()
        assert await bob.ask(type="subscribe", topic=topic, since={"offset": offset, "epoch": named}) == {
            "type": "ok"
        }
        assert await bob.pending() == [
            {
                "type": "subscribed",
                "topic": topic,
                "recovered": False,
                "position": {"offset": 5, "epoch": epoch},
                "snapshot": {"episode": now, "viewers": [], "jobs": []},
            }
        ], why
        await bob.ws.aclose()
    # Just not too much: from the store, though the ring is shorter.
    bob = await greenroom.connect()
    await bob.ask(type="subscribe", topic=topic, since={"offset": 2, "epoch": epoch})
    messages = await bob.pending()
    assert (messages[0]["recovered"], "snapshot" in messages[0], offsets(messages[1:])) == (
        True,
        False,
        [3, 4, 5],
    )


async def test_a_snapshot_is_the_present_state_with_its_position(greenroom):
    """
    The episode, who is there, and where the events go on; of a deleted episode there is none.
    """
    episode = await greenroom.create()
    topic = f"episode:{episode['id']}"
    alice = await greenroom.connect("alice@example.com")
    await alice.ask(type="presence", resourceType="episode", resourceId=episode["id"])
    bob = await greenroom.connect()
    assert await bob.ask(type="subscribe", topic=topic, snapshot=True) == {"type": "ok"}
    [first] = await bob.pending()
    assert (first["recovered"], first["position"]["offset"]) == (False, 1)
    assert first["snapshot"]["episode"] == episode
    assert [viewer["userId"] for viewer in first["snapshot"]["viewers"]] == ["alice@example.com"]

    await greenroom.request("DELETE", f"episodes/{episode['id']}")
    assert (await bob.receive())["event"] == "episode_deleted"
    carol = await greenroom.connect("carol@example.com")
    await carol.ask(type="subscribe", topic=topic, snapshot=True)
    assert (await carol.receive())["snapshot"]["episode"] is None


async def test_a_session_has_a_bounded_number_of_subscriptions(start_greenroom):
    """
    One more is refused; the same again is not one more, and unsubscribing makes room.
    """
    greenroom = await start_greenroom({"limits.subscriptions_per_session": 2})
    topics = [f"episode:{(await greenroom.create(str(number)))['id']}" for number in range(3)]
    bob = await greenroom.subscriber(topics[0])
    assert (await bob.ask(type="subscribe", topic=topics[1]))["type"] == "ok"
    assert (await bob.ask(type="subscribe", topic=topics[2]))["code"] == "too_many"
    assert (await bob.ask(type="subscribe", topic=topics[1]))["type"] == "ok"
    assert (await bob.ask(type="unsubscribe", topic=topics[0]))["type"] == "ok"
    assert (await bob.ask(type="subscribe", topic=topics[2]))["type"] == "ok"


async def test_who_missed_more_than_may_wait_for_a_slow_client_is_told_all_of_it(start_greenroom):
    """
    A replay is no sign of slowness: else the same client would come back to the same 4413 again and again.
    """
    greenroom = await start_greenroom({"realtime.outlet_backlog": "1KiB"})
    episode = await greenroom.create()
    topic = f"episode:{episode['id']}"
    [(epoch,)] = greenroom.rows("select value from engine_meta where name = 'epoch'")
    await change(greenroom, episode, *(f"{number:03}" * 66 for number in range(2, 252)))
    bob = await greenroom.connect()
    assert await bob.ask(type="subscribe", topic=topic, since={"offset": 1, "epoch": epoch}) == {"type": "ok"}
    subscribed, *missed = await bob.pending()
    assert subscribed["recovered"]
    assert offsets(missed) == list(range(2, 252))
