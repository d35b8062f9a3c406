"""The main job from outside: one creates, changes and deletes; another sees it live; the records follow."""

import uuid
from collections.abc import Awaitable, Callable

from tests.acceptance.outside import Listener, Program

Serve = Callable[..., Awaitable[Program]]
Listen = Callable[..., Awaitable[Listener]]
ALICE = "alice@example.com"


async def test_another_user_sees_a_new_episode_without_asking(serve: Serve, listen: Listen) -> None:
    """
    201 with the stored episode and its Location; the frame has exactly the shape of the wire format.
    """
    program = await serve()
    bob = await listen(program, "bob@example.com")
    fields = {"title": "Pilot", "episode_number": 1, "description": "First.", "categories": ["Drama"]}
    answer = await program.ask("POST", "/api/v1/episodes", fields)
    episode = answer.json
    assert answer.status == 201
    assert answer.headers["location"] == f"/api/v1/episodes/{episode['id']}"
    assert answer.headers["etag"] == '"1"'
    assert episode == {
        **fields,
        "id": episode["id"],
        "status": "draft",
        "version": 1,
        "created_by": ALICE,
        "created_at": episode["created_at"],
        "updated_at": episode["created_at"],
    }
    found = await program.ask("GET", answer.headers["location"])
    assert (found.status, found.json) == (200, episode)
    await bob.wait(bob.frames)
    (frame,) = bob.frames()
    shown = ("id", "title", "episode_number", "status", "categories")
    assert frame == {
        "event": "episode_created",
        "data": {
            "episode": {name: episode[name] for name in shown},
            "createdBy": ALICE,
            "timestamp": frame["data"]["timestamp"],
        },
        "namespace": "/real-time",
        "broadcast": True,
        "id": str(uuid.UUID(frame["id"])),
        "topic": f"episode:{episode['id']}",
        "offset": 1,
        "epoch": frame["epoch"],
    }


async def test_every_change_is_told_and_recorded_once(serve: Serve, listen: Listen) -> None:
    """
    Create, replace, change and delete an episode, and a composition of it: frames and records by the table.
    """
    program = await serve()
    bob = await listen(program, "bob@example.com")
    path = f"/api/v1/episodes/{(await program.create('Pilot'))['id']}"
    part = f"{path}/compositions"
    made = await program.ask("POST", part, {"name": "Poster"})
    part = f"{part}/{made.json['id']}"
    answers = [
        made,
        await program.ask("PUT", path, {"title": "Pilot II", "status": "in_review"}),
        await program.ask("PATCH", path, {"categories": ["Drama"]}),
        await program.ask("PATCH", path, {"categories": ["Drama"]}),  # changes nothing
        await program.ask("GET", path),
        await program.ask("PUT", part, {"name": "Banner"}),
        await program.ask("DELETE", part),
        await program.ask("DELETE", path),
        await program.ask("GET", path),
    ]
    assert [answer.status for answer in answers] == [201, 200, 200, 200, 200, 200, 204, 204, 404]
    await bob.wait(lambda: len(bob.frames()) >= 7)
    assert [(frame["event"], frame["offset"]) for frame in bob.frames()] == [
        ("episode_created", 1),
        ("composition_created", 2),
        ("episode_updated", 3),
        ("episode_updated", 4),
        ("composition_updated", 5),
        ("composition_deleted", 6),
        ("episode_deleted", 7),
    ]
    updated = bob.frames()[2]["data"]
    assert (updated["updatedBy"], updated["changedFields"]) == (ALICE, ["title", "status"])
    assert bob.frames()[6]["data"]["deletedBy"] == ALICE

    await program.wait_recorded()
    changes = [
        ("DELETE", "episode"),
        ("DELETE", "composition"),
        ("UPDATE", "composition"),
        ("UPDATE", "episode"),
        ("UPDATE", "episode"),
        ("CREATE", "composition"),
        ("CREATE", "episode"),
    ]
    for records in ("/activity", "/audit"):
        listed = await program.everything(records)
        assert [(record["action"], record["resourceType"]) for record in listed] == changes, records
        assert {record["userId"] for record in listed} == {ALICE}
    activity = (await program.everything("/activity"))[4]
    assert activity["metadata"]["changedFields"] == ["title", "status"]
    messages = [record["message"] for record in await program.everything("/notifications")]
    assert messages == ["Episode 'Pilot II' deleted successfully", "Episode 'Pilot' created successfully"]
    inbox = await program.ask("GET", "/api/v1/notifications", token=program.token("bob@example.com"))
    assert inbox.json["data"] == []


async def test_viewers_of_an_episode_see_each_other(serve: Serve, listen: Listen) -> None:
    """
    Who joins gets the list, the others a diff; who closes the connection leaves.
    """
    program = await serve()
    episode = (await program.create())["id"]
    bob, carol = await listen(program, "bob@example.com"), await listen(program, "carol@example.com")
    for listener in (bob, carol):
        wish = {"resourceType": "episode", "resourceId": episode, "state": "viewing"}
        assert (await listener.answer("here", type="presence", **wish))["type"] == "ok"
    await carol.wait(lambda: carol.of_type("presence"))
    assert {viewer["userId"] for viewer in carol.of_type("presence")[0]["viewers"]} == {
        "bob@example.com",
        "carol@example.com",
    }
    await bob.wait(lambda: any(diff["total"] == 2 for diff in bob.of_type("presence")))
    await carol.socket.aclose()
    await bob.wait(lambda: bob.of_type("presence")[-1]["left"])
    assert [viewer["userId"] for viewer in bob.of_type("presence")[-1]["left"]] == ["carol@example.com"]
