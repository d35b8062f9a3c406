"""Episodes over REST: each verb, versions and preconditions, doing a creation twice."""

import re
import uuid
from functools import partial

import pytest
import trio

from tests.gateway.node_fixture import NOBODYS

EPISODE = {
    "title": "Pilot",
    "episode_number": 1,
    "description": "Where it begins",
    "status": "in_review",
    "categories": ["Drama", "Crime"],
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_a_created_episode_is_answered_as_it_is_stored(greenroom):
    """
    201 with the whole episode, where it is, and its version as the entity tag; a GET answers the same.
    """
    created = await greenroom.request("POST", "episodes", EPISODE)
    assert created.status == 201
    episode = created.json
    assert uuid.UUID(episode["id"]).version == 4
    assert TIME.fullmatch(episode["created_at"])
    assert episode == {
        "id": episode["id"],
        **EPISODE,
        "version": 1,
        "created_by": "alice@example.com",
        "created_at": episode["created_at"],
        "updated_at": episode["created_at"],
    }
    assert created.headers["location"] == f"/api/v1/episodes/{episode['id']}"
    assert created.headers["etag"] == '"1"'
    assert created.headers["content-type"] == "application/json"

    read = await greenroom.request("GET", created.headers["location"], role="viewer")
    assert (read.status, read.json, read.headers["etag"]) == (200, episode, '"1"')
    logged = greenroom.rows("select topic_offset, type from events where starts_with(topic, 'episode:')")
    assert logged == [(1, "episode_created")]


async def test_what_is_left_out_takes_its_default_and_text_is_trimmed(greenroom):
    """
    Only the title is required.
    """
    episode = await greenroom.create("  Pilot\n", categories=[" Drama "])
    assert (episode["title"], episode["categories"]) == ("Pilot", ["Drama"])
    assert (episode["episode_number"], episode["description"], episode["status"]) == (None, None, "draft")


async def test_a_put_replaces_and_a_patch_changes(greenroom):
    """
    PUT resets what is left out; PATCH leaves it alone; both answer the whole episode in its new version.
    """
    created = (await greenroom.request("POST", "episodes", EPISODE)).json
    path = f"episodes/{created['id']}"

    patched = await greenroom.request("PATCH", path, {"title": "Second", "episode_number": None})
    assert (patched.status, patched.headers["etag"]) == (200, '"2"')
    assert patched.json == {
        **created,
        "title": "Second",
        "episode_number": None,
        "version": 2,
        "updated_at": patched.json["updated_at"],
    }

    replaced = await greenroom.request("PUT", path, {"title": "Third"}, user="carol@example.com")
    assert (replaced.status, replaced.headers["etag"]) == (200, '"3"')
    assert replaced.json == {
        **created,
        "title": "Third",
        "episode_number": None,
        "description": None,
        "status": "draft",
        "categories": [],
        "version": 3,
        "updated_at": replaced.json["updated_at"],
    }
    assert (await greenroom.request("GET", path)).json == replaced.json


async def test_a_change_that_changes_nothing_is_no_event(greenroom):
    """
    The episode is answered as it is, in its old version, and nobody is told anything.
    """
    episode = await greenroom.create(categories=["Drama"])
    path = f"episodes/{episode['id']}"
    for method, same in (
        ("PATCH", {}),
        ("PATCH", {"title": "Pilot"}),
        ("PUT", {"title": "Pilot", "categories": ["Drama"]}),
    ):
        answer = await greenroom.request(method, path, same)
        assert (answer.status, answer.json) == (200, episode)
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(1,)]


async def test_a_deleted_episode_is_gone_and_its_events_stay(greenroom):
    """
    204, then 404 to every verb; the log is still readable.
    """
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    deleted = await greenroom.request("DELETE", path)
    assert (deleted.status, deleted.body) == (204, b"")
    for method, given in (("GET", None), ("PUT", {"title": "x"}), ("PATCH", {}), ("DELETE", None)):
        (await greenroom.request(method, path, given)).problem(404)
    (await greenroom.request("GET", f"{path}/presence")).problem(404)
    (await greenroom.request("GET", f"{path}/compositions")).problem(404)
    events = await greenroom.request("GET", f"{path}/events")
    assert [event["event"] for event in events.json["data"]] == ["episode_created", "episode_deleted"]
    assert (await greenroom.request("GET", "episodes")).json["total"] == 0


async def test_if_match_lets_only_the_expected_version_be_changed(greenroom):
    """
    412 for any other, with the present version's tag, and nothing is written.
    """
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    requests = (("PUT", {"title": "New"}), ("PATCH", {"title": "New"}), ("DELETE", None))
    for tag in ('"2"', '"7", "8"', "1", 'W/"1', ""):
        for method, given in requests:
            answer = await greenroom.request(method, path, given, headers={"If-Match": tag})
            assert "version 1" in answer.problem(412)["detail"]
            assert answer.headers["etag"] == '"1"'
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(1,)]
    for version, tag in enumerate(('"1"', '"5", "2"', "*"), start=2):
        title = f"Version {version}"
        answer = await greenroom.request("PATCH", path, {"title": title}, headers={"If-Match": tag})
        assert (answer.status, answer.json["version"]) == (200, version)
    assert (await greenroom.request("DELETE", path, headers={"If-Match": '"4"'})).status == 204


async def test_of_two_writers_with_the_same_version_one_wins(greenroom):
    """
    Concurrent conditional changes: one 200, the rest 412, one event.
    """
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    statuses = []

    async def change(number):
        answer = await greenroom.request(
            "PATCH", path, {"title": f"Title {number}"}, headers={"If-Match": '"1"'}
        )
        statuses.append(answer.status)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(change, number)
    assert sorted(statuses) == [200, 412, 412, 412, 412, 412]
    assert greenroom.rows("select count(*) from events where type = 'episode_updated'") == [(1,)]


async def test_concurrent_changes_of_different_fields_all_come_true(greenroom):
    """
    Without If-Match a change is decided again on the newest version: none is lost, none refused.
    """
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    changes = {
        "title": "New",
        "episode_number": 7,
        "description": "d",
        "status": "approved",
        "categories": ["x"],
    }
    async with trio.open_nursery() as nursery:
        for name, value in changes.items():
            nursery.start_soon(greenroom.request, "PATCH", path, {name: value})
    final = (await greenroom.request("GET", path)).json
    assert {name: final[name] for name in changes} == changes
    assert final["version"] == 6
    assert greenroom.rows(
        "select array_agg(topic_offset order by seq) from events where starts_with(topic, 'episode:')"
    ) == [([1, 2, 3, 4, 5, 6],)]


async def test_if_none_match_saves_the_body(greenroom):
    """
    304 with the tag while the client's version is the present one; 200 as soon as it is not.
    """
    episode = await greenroom.create()
    read = partial(greenroom.request, "GET", f"episodes/{episode['id']}")
    for tag in ('"1"', 'W/"1"', '"9", "1"', "*"):
        answer = await read(headers={"If-None-Match": tag})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", '"1"')
    for tag in ('"2"', '"11"', "1"):
        assert (await read(headers={"If-None-Match": tag})).status == 200


async def test_changes_without_if_match_are_refused_where_the_settings_say_so(start_greenroom):
    """
    428 on PUT, PATCH and DELETE of episodes and compositions; nobody overwrites unseen changes.
    """
    greenroom = await start_greenroom({"server.require_if_match": True})
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    composition = (await greenroom.request("POST", f"{path}/compositions", {"name": "Poster"})).json
    for one, field in ((path, "title"), (f"{path}/compositions/{composition['id']}", "name")):
        for method, given in (("PUT", {field: "New"}), ("PATCH", {field: "New"}), ("DELETE", None)):
            assert "If-Match" in (await greenroom.request(method, one, given)).problem(428)["detail"]
        answer = await greenroom.request("PATCH", one, {field: "New"}, headers={"If-Match": '"1"'})
        assert (answer.status, answer.headers["etag"]) == (200, '"2"')


async def test_the_same_creation_twice_is_one_episode(greenroom):
    """
    An Idempotency-Key of the same user makes the second be answered as the first was.
    """
    post = partial(greenroom.request, "POST", "episodes", headers={"Idempotency-Key": "key-1"})
    first = await post(EPISODE)
    again = await post(dict(reversed(EPISODE.items())))
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert greenroom.rows("select count(*) from episodes") == [(1,)]
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(1,)]
    # The key is alice's own.
    assert (await post(EPISODE, user="carol@example.com")).json["id"] != first.json["id"]


async def test_a_used_idempotency_key_does_not_fit_another_request(greenroom):
    """
    422, and nothing is created.
    """
    post = partial(greenroom.request, "POST", "episodes", headers={"Idempotency-Key": "key-1"})
    assert (await post({"title": "Pilot"})).status == 201
    assert "Idempotency-Key" in (await post({"title": "Another"})).problem(422)["detail"]
    assert greenroom.rows("select count(*) from episodes") == [(1,)]


async def test_concurrent_duplicates_are_one_episode(greenroom):
    """
    However the requests interleave, one creates and all answer the same.
    """
    answers = []

    async def post():
        answers.append(
            await greenroom.request("POST", "episodes", EPISODE, headers={"Idempotency-Key": "key-1"})
        )

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(post)
    assert {answer.status for answer in answers} == {201}
    assert all(answer.json == answers[0].json for answer in answers)
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 7
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(1,)]


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
async def test_an_unusable_idempotency_key_is_refused(greenroom, key):
    """
    400, rather than a creation that cannot be recognised again.
    """
    (await greenroom.request("POST", "episodes", EPISODE, headers={"Idempotency-Key": key})).problem(400)
    assert greenroom.rows("select count(*) from episodes") == [(0,)]


async def test_an_id_may_be_written_in_any_way_that_uuids_are(greenroom):
    """
    Upper case finds the same episode; one that nobody has is 404.
    """
    episode = await greenroom.create()
    assert (await greenroom.request("GET", f"episodes/{episode['id'].upper()}")).json == episode
    assert NOBODYS in (await greenroom.request("GET", f"episodes/{NOBODYS}")).problem(404)["detail"]
