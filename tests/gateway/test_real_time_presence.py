"""Presence over /real-time: who is here, as everybody present sees it, and the table that follows."""

import pytest

from engine.actors.episode import leaving_topic
from tests.gateway.node_fixture import until
from tests.patience import patience, undisturbed


@pytest.fixture
async def episode(greenroom):
    return await greenroom.create()


def names(viewers):
    return sorted(viewer["userName"] for viewer in viewers)


async def come(greenroom, episode, name, **more):
    """
    A frontend of that person that is present, and the first presence message that it gets.
    """
    frontend = await greenroom.connect(f"{name}@example.com", name=name.title())
    assert await frontend.ask(**present(episode, **more)) == {"type": "ok"}
    return frontend, await frontend.receive()


def present(episode, **more):
    return {"type": "presence", "resourceType": "episode", "resourceId": episode["id"], **more}


async def told(frontend, *, joined=(), left=()):
    """
    Wait until these joins and leaves were told, in as many diffs as it took; returns the last diff.
    """
    missing_joins, missing_leaves = set(joined), set(left)
    while missing_joins or missing_leaves:
        update = await frontend.receive()
        assert update["type"] == "presence"
        missing_joins -= set(names(update["joined"]))
        missing_leaves -= set(names(update["left"]))
    return update


async def test_who_comes_is_shown_everyone_and_everyone_is_told(greenroom, episode):
    """
    The newcomer gets the whole list, the others a diff; both to the letter of wire.md.
    """
    bob, first = await come(greenroom, episode, "bob")
    topic = f"episode:{episode['id']}"
    [viewer] = first["viewers"]
    assert viewer == {
        "id": viewer["id"],
        "userId": "bob@example.com",
        "userName": "Bob",
        "resourceType": "episode",
        "resourceId": episode["id"],
        "viewedAt": viewer["viewedAt"],
        "lastActive": viewer["lastActive"],
        "isActive": True,
        "state": "viewing",
    }
    assert first == {
        "type": "presence",
        "topic": topic,
        "resourceType": "episode",
        "resourceId": episode["id"],
        "total": 1,
        "joined": [],
        "left": [],
        "viewers": [viewer],
        "complete": True,
        "version": first["version"],
        "summary": {"names": ["Bob"], "others": 0},
    }
    carol, first = await come(greenroom, episode, "carol", state="editing")
    assert names(first["viewers"]) == ["Bob", "Carol"]
    update = await bob.receive()
    [joined] = update["joined"]
    assert (joined["userName"], joined["state"], joined["isActive"]) == ("Carol", "editing", True)
    assert (update["total"], update["left"], "viewers" in update) == (2, [], False)
    assert update["summary"] == {"names": ["Bob", "Carol"], "others": 0}
    await told(carol, joined=["Carol"])
    _, first = await come(greenroom, episode, "dave")
    assert (first["total"], first["summary"]) == (3, {"names": ["Bob", "Carol"], "others": 1})


async def test_who_leaves_is_gone_for_the_others(greenroom, episode):
    """
    By a message, by a close, by a lost connection: each at once; it hears no more itself.
    """
    bob, _ = await come(greenroom, episode, "bob")
    carol, _ = await come(greenroom, episode, "carol")
    dave, _ = await come(greenroom, episode, "dave")
    erin, _ = await come(greenroom, episode, "erin")
    await told(bob, joined=["Carol", "Dave", "Erin"])
    await told(carol, joined=["Carol", "Dave", "Erin"])

    with patience():
        assert await carol.ask(type="leave", resourceType="episode", resourceId=episode["id"]) == {
            "type": "ok"
        }
        assert (await told(bob, left=["Carol"]))["total"] == 3
    with patience():
        await dave.ws.aclose()
        assert (await told(bob, left=["Dave"]))["total"] == 2
    with patience():
        await erin.vanish()
        assert (await told(bob, left=["Erin"]))["total"] == 1
    assert await carol.pending() == []
    assert (await carol.ask(type="leave", resourceType="episode", resourceId=episode["id"]))[
        "code"
    ] == "not_present"


async def test_several_sessions_of_one_user_are_one_viewer(greenroom, episode):
    """
    Shown in the strongest state; gone only with the last of them.
    """
    bob, _ = await come(greenroom, episode, "bob")
    one, _ = await come(greenroom, episode, "carol", state="idle")
    update = await told(bob, joined=["Carol"])
    assert (update["joined"][0]["state"], update["joined"][0]["isActive"]) == ("idle", False)
    two, first = await come(greenroom, episode, "carol", state="editing")
    assert (first["total"], names(first["viewers"])) == (2, ["Bob", "Carol"])
    update = await told(bob, joined=["Carol"])
    assert (update["total"], update["joined"][0]["state"]) == (2, "editing")
    await two.ws.aclose()
    update = await told(bob, joined=["Carol"])
    assert (update["total"], update["joined"][0]["state"], update["left"]) == (2, "idle", [])
    await one.ws.aclose()
    assert (await told(bob, left=["Carol"]))["total"] == 1


async def test_a_changed_state_is_told_and_the_same_again_is_not(greenroom, episode):
    """
    viewing, editing, idle; a viewer stays since when it came.
    """
    bob, _ = await come(greenroom, episode, "bob")
    carol, first = await come(greenroom, episode, "carol")
    since = next(viewer["viewedAt"] for viewer in first["viewers"] if viewer["userName"] == "Carol")
    assert (await told(bob, joined=["Carol"]))["joined"][0]["state"] == "viewing"
    for state in ("editing", "idle", "viewing"):
        await carol.ask(**present(episode, state=state))
        update = await told(bob, joined=["Carol"])
        assert [(viewer["state"], viewer["viewedAt"]) for viewer in update["joined"]] == [(state, since)]
    await carol.ask(**present(episode, state="viewing"))
    await carol.ask(type="leave", resourceType="episode", resourceId=episode["id"])
    update = await bob.receive()
    assert (update["joined"], names(update["left"])) == ([], ["Carol"])


async def test_presence_is_of_one_episode_and_brings_no_events(greenroom, episode):
    """
    Others' presence stays theirs; the implicit catalog goes on beside it.
    """
    other = await greenroom.create("Other")
    bob, _ = await come(greenroom, episode, "bob")
    carol, first = await come(greenroom, other, "carol")
    assert names(first["viewers"]) == ["Carol"]
    await greenroom.request("PATCH", f"episodes/{episode['id']}", {"title": "New"})
    assert (await bob.receive())["event"] == "episode_updated"
    assert (await carol.receive())["event"] == "episode_updated"
    assert await bob.pending() == await carol.pending() == []


async def test_a_name_that_the_token_proves_is_not_open_to_wishes(greenroom, episode):
    """
    Who has none in the token may choose one; what cannot be shown is left out of it.
    """
    _, first = await come(greenroom, episode, "bob", userName="Mallory")
    assert names(first["viewers"]) == ["Bob"]
    chosen = {
        "Anna\0\n": "Anna",
        "\0": "anonymous2@example.com",
        "x" * 500: "x" * 200,
        "": "anonymous4@example.com",
    }
    for number, (wish, shown) in enumerate(chosen.items(), start=1):
        frontend = await greenroom.connect(f"anonymous{number}@example.com")
        await frontend.ask(**present(episode, userName=wish))
        assert shown in names((await frontend.receive())["viewers"])
    count = "select count(*) from user_presence"
    await until(lambda: greenroom.rows(count) == [(5,)])
    assert {child.restarts for child in greenroom.node.root.children()} == {0}


async def test_the_table_follows_the_viewers(greenroom, episode):
    """
    One row for each viewer, with the latest state; none once nobody is there.
    """
    rows = (
        "select user_id, user_name, state, is_active, resource_type, resource_id::text, node "
        "from user_presence order by user_id"
    )

    def row(name, state):
        where = ("episode", episode["id"], "test-node")
        return (f"{name.lower()}@example.com", name, state, state != "idle", *where)

    bob, _ = await come(greenroom, episode, "bob")
    carol, _ = await come(greenroom, episode, "carol", state="editing")
    again, _ = await come(greenroom, episode, "carol", state="viewing")
    await until(lambda: greenroom.rows(rows) == [row("Bob", "viewing"), row("Carol", "editing")])
    await bob.ask(**present(episode, state="idle"))
    await until(lambda: greenroom.rows(rows) == [row("Bob", "idle"), row("Carol", "editing")])
    await carol.ws.aclose()
    await until(lambda: greenroom.rows(rows) == [row("Bob", "idle"), row("Carol", "viewing")])
    for frontend in (bob, again):
        await frontend.ws.aclose()
    await until(lambda: greenroom.rows(rows) == [])


async def test_who_reloads_a_page_is_on_every_page_of_viewers_meanwhile(start_greenroom):
    """
    Nobody was told that it left: who asks is not told so either. When it stays away, both are.
    """
    greenroom = await start_greenroom({"presence.reload_grace": "1s"})

    async def reload():
        episode = await greenroom.create()
        carol, _ = await come(greenroom, episode, "carol")
        bob, _ = await come(greenroom, episode, "bob")
        await told(carol, joined=["Bob"])
        await bob.vanish()
        await until(lambda: len(bobs(greenroom, episode)) == 1)

        async def pages():
            answer = await greenroom.request("GET", f"episodes/{episode['id']}/presence")
            asked = await carol.ask(type="viewers", resourceType="episode", resourceId=episode["id"])
            return names(answer.json["data"]), names(asked["viewers"])

        assert await pages() == (["Bob", "Carol"], ["Bob", "Carol"])
        await told(carol, left=["Bob"])
        assert await pages() == (["Carol"], ["Carol"])
        assert bobs(greenroom, episode) == {}

    await undisturbed(reload)


def bobs(greenroom, episode):
    return greenroom.node.hub.metas(leaving_topic(f"episode:{episode['id']}"))
