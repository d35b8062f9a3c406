"""Events over /real-time: the frames of each operation, to the letter, and who gets them."""

import json

import pytest


async def test_a_frontend_that_only_connected_gets_the_frame_of_a_new_episode(greenroom):
    """
    Exactly in the shape of wire.md: nothing is missing, nothing more is there.
    """
    bob = await greenroom.connect("bob@example.com")
    given = {"title": "Pilot", "episode_number": 1, "description": "secret", "categories": ["Drama"]}
    created = await greenroom.request("POST", "episodes", given, user="alice@example.com")
    frame = await bob.receive()
    [(event, epoch, topic)] = greenroom.rows("select id::text, epoch::text, topic from events")
    assert frame == {
        "event": "episode_created",
        "data": {
            "episode": {
                "id": created.json["id"],
                "title": "Pilot",
                "episode_number": 1,
                "status": "draft",
                "categories": ["Drama"],
            },
            "createdBy": "alice@example.com",
            "timestamp": created.json["created_at"],
        },
        "namespace": "/real-time",
        "broadcast": True,
        "id": event,
        "topic": topic,
        "offset": 1,
        "epoch": epoch,
    }
    assert topic == f"episode:{created.json['id']}"
    assert await bob.pending() == []


async def test_every_change_of_an_episode_and_its_compositions_is_one_frame(greenroom):
    """
    By wire.md's table, in offset order, each saying who did it; reading and changing nothing are none.
    """
    bob = await greenroom.connect("bob@example.com")
    episode = await greenroom.create("Pilot")
    path = f"episodes/{episode['id']}"
    shown = {
        "id": episode["id"],
        "title": "Two",
        "episode_number": None,
        "status": "approved",
        "categories": [],
    }
    await greenroom.request("GET", path)
    await greenroom.request("PATCH", path, {"title": "Two", "status": "approved"}, user="updater@example.com")
    await greenroom.request("PATCH", path, {"title": "Two"})
    poster = await greenroom.request(
        "POST", f"{path}/compositions", {"name": "Poster"}, user="artist@example.com"
    )
    one = poster.headers["location"]
    changed = await greenroom.request("PUT", one, {"name": "Still"}, user="artist@example.com")
    await greenroom.request("DELETE", one, user="artist@example.com")
    await greenroom.request("DELETE", path, user="deleter@example.com")

    frames = [await bob.receive() for _ in range(6)]
    assert [frame["offset"] for frame in frames] == [1, 2, 3, 4, 5, 6]
    for frame in frames:
        assert frame["topic"] == f"episode:{episode['id']}"
        assert (frame["namespace"], frame["broadcast"]) == ("/real-time", True)
        assert frame["data"].pop("timestamp")
    below = {"id": episode["id"], "title": "Two"}
    assert [(frame["event"], frame["data"]) for frame in frames[1:]] == [
        (
            "episode_updated",
            {"episode": shown, "changedFields": ["title", "status"], "updatedBy": "updater@example.com"},
        ),
        (
            "composition_created",
            {"composition": poster.json, "episode": below, "createdBy": "artist@example.com"},
        ),
        (
            "composition_updated",
            {
                "composition": changed.json,
                "episode": below,
                "changedFields": ["name"],
                "updatedBy": "artist@example.com",
            },
        ),
        (
            "composition_deleted",
            {"composition": changed.json, "episode": below, "deletedBy": "artist@example.com"},
        ),
        ("episode_deleted", {"episode": shown, "deletedBy": "deleter@example.com"}),
    ]
    assert await bob.pending() == []


@pytest.mark.parametrize("door", ["message", "header", "subprotocol"])
async def test_a_token_is_taken_at_each_of_the_three_doors(greenroom, door):
    """
    As a first message, as a header of the handshake, as a subprotocol, which browsers can send.
    """
    token = greenroom.token("bob@example.com", "viewer", "Bob")
    if door == "header":
        bob = await greenroom.open(headers=[("Authorization", f"Bearer {token}")])
    elif door == "subprotocol":
        bob = await greenroom.open(subprotocols=["bearer", token])
        assert bob.ws.subprotocol == "bearer"
    else:
        bob = await greenroom.open()
        await bob.send(type="connect", token=token)
    welcome = await bob.receive()
    assert (welcome["type"], welcome["userId"], welcome["userName"]) == ("ok", "bob@example.com", "Bob")
    assert await bob.pending() == []
    await greenroom.create()
    assert (await bob.receive())["event"] == "episode_created"


async def test_a_ref_is_echoed_in_every_reply(greenroom):
    """
    Text or number, in ok and error; without one there is none.
    """
    bob = await greenroom.connect()
    for ref in ("a", "", 0, 7, -1, 2**70, "\U0001f3ac" * 100):
        await bob.send(type="ping", ref=ref)
        assert await bob.receive() == {"type": "ok", "ref": ref}
        await bob.send(type="unsubscribe", topic="nothing", ref=ref)
        reply = await bob.receive()
        assert (reply["type"], reply["ref"], reply["code"]) == ("error", ref, "not_subscribed")
    for none in ({}, {"ref": None}):
        await bob.send(type="ping", **none)
        assert await bob.receive() == {"type": "ok"}


async def test_refusals_are_replies_and_the_session_goes_on(greenroom):
    """
    Each has a code for programs and a text for people; after all of them events still come.
    """
    bob = await greenroom.connect()
    episode = await greenroom.create()
    assert (await bob.receive())["event"] == "episode_created"
    nobodys = "00000000-0000-4000-8000-000000000000"
    present = {"type": "presence", "resourceType": "episode", "resourceId": episode["id"]}
    refused = {
        "unknown_topic": [
            {"type": "subscribe", "topic": topic}
            for topic in (
                "",
                "nothing",
                "episode",
                "episode:",
                "episode:1",
                "catalog:",
                "\0",
                f"episode:{episode['id'].upper()}",
                f"episode:{episode['id']}#presence",
                f"job:{nobodys}",
            )
        ],
        "not_found": [
            {"type": "subscribe", "topic": f"episode:{nobodys}"},
            {**present, "resourceId": nobodys},
        ],
        "not_subscribed": [{"type": "unsubscribe", "topic": f"episode:{episode['id']}"}],
        "bad_state": [{**present, "state": "sleeping"}, {**present, "state": ""}],
        "unknown_resource": [{**present, "resourceType": "job"}, {**present, "resourceId": "1"}],
        "not_present": [{"type": "leave", "resourceType": "episode", "resourceId": episode["id"]}],
        "already_connected": [{"type": "connect", "token": greenroom.token()}],
        "unknown_call": [{"type": "call", "name": "dance", "args": {"deep": [1, {"er": None}]}}],
        "bad_token": [
            {"type": "refresh", "token": "x"},
            {"type": "refresh", "token": greenroom.token("mallory@example.com")},
        ],
    }
    for code, messages in refused.items():
        for message in messages:
            reply = await bob.ask(**message)
            assert (reply["type"], reply["code"]) == ("error", code), message
            assert reply["message"]
    assert await bob.pending() == []
    await greenroom.create("Two")
    assert (await bob.receive())["data"]["episode"]["title"] == "Two"


async def test_many_messages_in_one_packet_are_answered_in_order(greenroom):
    """
    Whether they come one by one or all at once.
    """
    bob = await greenroom.connect()
    for number in range(50):
        await bob.ws.send_message(json.dumps({"type": "ping", "ref": number}))
    assert [(await bob.receive())["ref"] for _ in range(50)] == list(range(50))
