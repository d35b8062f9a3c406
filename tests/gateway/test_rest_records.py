"""What follows from a change, over REST: activity, notifications, audit; once each, by the table."""

from tests.gateway.node_fixture import NOBODYS

AGENT = "Browser/1.0 (Test)"


async def change_everything(greenroom):
    """
    One of each operation, each by a user of its own. Returns the ids of the episode and the composition.
    """
    headers = {"User-Agent": AGENT, "X-Request-Id": "mutation-1"}
    given = {"title": "Pilot", "categories": ["Drama"]}
    created = await greenroom.request("POST", "episodes", given, user="creator@example.com", headers=headers)
    path = f"episodes/{created.json['id']}"
    await greenroom.request(
        "PATCH", path, {"title": "Pilot, again", "status": "approved"}, user="updater@example.com"
    )
    poster = await greenroom.request(
        "POST", f"{path}/compositions", {"name": "Poster"}, user="artist@example.com"
    )
    one = poster.headers["location"]
    await greenroom.request("PUT", one, {"name": "Still"}, user="artist@example.com")
    await greenroom.request("DELETE", one, user="artist@example.com")
    await greenroom.request("DELETE", path, user="deleter@example.com")
    for reading in (path, "episodes", f"{path}/events"):
        await greenroom.request("GET", reading)
    await greenroom.effects()
    return created.json["id"], poster.json["id"]


async def test_every_change_is_one_activity_record(greenroom):
    """
    Newest first, with the fields that frontends rely on; reading leaves none.
    """
    episode, poster = await change_everything(greenroom)
    page = (await greenroom.request("GET", "activity", role="viewer")).json
    shown = [
        (record["userId"].partition("@")[0], record["action"], record["resourceType"])
        for record in page["data"]
    ]
    assert shown == [
        ("deleter", "DELETE", "episode"),
        ("artist", "DELETE", "composition"),
        ("artist", "UPDATE", "composition"),
        ("artist", "CREATE", "composition"),
        ("updater", "UPDATE", "episode"),
        ("creator", "CREATE", "episode"),
    ]
    assert [record["resourceId"] for record in page["data"]] == [episode, *[poster] * 3, episode, episode]
    newest, *_, updated, oldest = page["data"]
    assert oldest == {
        "id": oldest["id"],
        "userId": "creator@example.com",
        "action": "CREATE",
        "resourceType": "episode",
        "resourceId": episode,
        "metadata": {"title": "Pilot", "categories": ["Drama"], "status": "draft"},
        "createdAt": oldest["createdAt"],
        "ip_address": "127.0.0.1",
        "user_agent": AGENT,
    }
    assert updated["metadata"] == {
        "title": "Pilot, again",
        "categories": ["Drama"],
        "status": "approved",
        "changedFields": ["title", "status"],
    }
    assert newest["metadata"]["title"] == "Pilot, again"
    assert (newest["user_agent"], page["next_cursor"]) == (None, None)
    of_episode = await greenroom.request("GET", f"episodes/{episode}/activity")
    assert of_episode.json == page


async def test_the_activity_of_one_episode_is_its_own(greenroom):
    """
    Its compositions' too, another episode's not; 404 where there never was one.
    """
    one, other = await greenroom.create("One"), await greenroom.create("Other")
    await greenroom.request("POST", f"episodes/{one['id']}/compositions", {"name": "Poster"})
    await greenroom.effects()
    page = (await greenroom.request("GET", f"episodes/{one['id']}/activity")).json
    assert [record["resourceType"] for record in page["data"]] == ["composition", "episode"]
    page = (await greenroom.request("GET", f"episodes/{other['id']}/activity")).json
    assert [record["resourceId"] for record in page["data"]] == [other["id"]]
    (await greenroom.request("GET", f"episodes/{NOBODYS}/activity")).problem(404)


async def test_records_are_paged_without_hole_or_double(greenroom):
    """
    The cursor goes on where the page ended, though new records have come meanwhile.
    """
    for number in range(5):
        await greenroom.create(f"Episode {number}")
    await greenroom.effects()
    for path, role in (("activity", "viewer"), ("audit", "operator"), ("notifications", "viewer")):
        whole = (await greenroom.request("GET", path, role=role)).json["data"]
        first = (await greenroom.request("GET", f"{path}?limit=2", role=role)).json
        await greenroom.create("Newer")
        await greenroom.effects()
        second = (
            await greenroom.request("GET", f"{path}?limit=2&cursor={first['next_cursor']}", role=role)
        ).json
        third = await greenroom.request("GET", f"{path}?limit=200&cursor={second['next_cursor']}", role=role)
        assert first["data"] + second["data"] + third.json["data"] == whole
        assert third.json["next_cursor"] is None
        for wrong in (
            "limit=0",
            "limit=x",
            "cursor=0",
            "cursor=-1",
            "cursor=1.5",
            "since=1",
            "cursor=" + "9" * 30,
        ):
            (await greenroom.request("GET", f"{path}?{wrong}", role=role)).problem(422)


async def test_creating_and_deleting_are_confirmed_to_whoever_did_it(greenroom):
    """
    One notification each in that person's inbox, in wire.md's words; nothing for anything else.
    """
    episode, _ = await change_everything(greenroom)

    async def inbox(who):
        return (
            await greenroom.request("GET", "notifications", user=f"{who}@example.com", role="viewer")
        ).json

    created = await inbox("creator")
    [record] = created["data"]
    assert (created["unread"], created["next_cursor"]) == (1, None)
    assert record == {
        "id": record["id"],
        "userId": "creator@example.com",
        "type": "episode_created",
        "title": "Episode created",
        "message": "Episode 'Pilot' created successfully",
        "resourceType": "episode",
        "resourceId": episode,
        "readAt": None,
        "createdAt": record["createdAt"],
    }
    [record] = (await inbox("deleter"))["data"]
    assert (record["type"], record["message"]) == (
        "episode_deleted",
        "Episode 'Pilot, again' deleted successfully",
    )
    for nobody in ("updater", "artist", "alice"):
        assert await inbox(nobody) == {"data": [], "unread": 0, "next_cursor": None}


async def test_a_notification_is_read_by_its_owner_only(greenroom):
    """
    Reading keeps the first time; unread ones can be asked for; another's is 404, for an operator too.
    """
    for title in ("One", "Two", "Three"):
        await greenroom.create(title)
    await greenroom.effects()
    inbox = (await greenroom.request("GET", "notifications")).json
    path = f"notifications/{inbox['data'][0]['id']}/read"
    (await greenroom.request("POST", path, user="carol@example.com", role="operator")).problem(404)
    (await greenroom.request("POST", f"notifications/{NOBODYS}/read")).problem(404)

    read = await greenroom.request("POST", path, role="viewer")
    assert read.status == 200
    assert read.json == {**inbox["data"][0], "readAt": read.json["readAt"]}
    assert read.json["readAt"] is not None
    assert (await greenroom.request("POST", path)).json == read.json
    unread = (await greenroom.request("GET", "notifications?unread=1")).json
    assert (unread["data"], unread["unread"]) == (inbox["data"][1:], 2)
    assert len((await greenroom.request("GET", "notifications?unread=0")).json["data"]) == 3
    (await greenroom.request("GET", "notifications?unread=yes")).problem(422)

    assert (await greenroom.request("POST", "notifications/read-all", user="carol@example.com")).json == {
        "read": 0
    }
    assert (await greenroom.request("POST", "notifications/read-all")).json == {"read": 2}
    after = (await greenroom.request("GET", "notifications")).json
    assert after["unread"] == 0
    assert after["data"][0] == read.json


async def test_the_audit_trail_has_values_before_and_after(greenroom):
    """
    One record for each change, each naming its event and the request that caused it; for operators only.
    """
    episode, poster = await change_everything(greenroom)
    for role in ("viewer", "editor"):
        assert "operator" in (await greenroom.request("GET", "audit", role=role)).problem(403)["detail"]
    page = (await greenroom.request("GET", "audit", role="operator")).json
    assert [(record["action"], record["resourceType"]) for record in page["data"]] == [
        ("DELETE", "episode"),
        ("DELETE", "composition"),
        ("UPDATE", "composition"),
        ("CREATE", "composition"),
        ("UPDATE", "episode"),
        ("CREATE", "episode"),
    ]
    deleted, gone, changed, made, updated, created = page["data"]
    assert created == {
        "id": created["id"],
        "userId": "creator@example.com",
        "action": "CREATE",
        "resourceType": "episode",
        "resourceId": episode,
        "oldValues": None,
        "newValues": created["newValues"],
        "eventId": created["eventId"],
        "mutationId": "mutation-1",
        "ip_address": "127.0.0.1",
        "user_agent": AGENT,
        "createdAt": created["createdAt"],
    }
    assert (created["newValues"]["title"], created["newValues"]["version"]) == ("Pilot", 1)
    assert (updated["oldValues"]["title"], updated["newValues"]["title"]) == ("Pilot", "Pilot, again")
    assert (updated["oldValues"]["status"], updated["newValues"]["status"]) == ("draft", "approved")
    assert (deleted["oldValues"]["title"], deleted["newValues"]) == ("Pilot, again", None)
    assert made["resourceId"] == changed["resourceId"] == gone["resourceId"] == poster
    assert (made["oldValues"], made["newValues"]["name"]) == (None, "Poster")
    assert (changed["oldValues"]["name"], changed["newValues"]["name"]) == ("Poster", "Still")
    assert (gone["oldValues"]["name"], gone["newValues"]) == ("Still", None)
    events = (await greenroom.request("GET", f"episodes/{episode}/events")).json["data"]
    assert [record["eventId"] for record in reversed(page["data"])] == [event["id"] for event in events]
