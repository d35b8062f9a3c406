"""An episode's compositions over REST."""

import pytest

from tests.gateway.node_fixture import NOBODYS

LAYERS = [
    {"kind": "box", "x": 0, "y": 0, "width": 1920, "height": 1080.5, "color": "#102030"},
    {"kind": "text", "text": "Pilot", "size": 96},
    {"kind": "image", "image": "https://example.com/poster.png"},
]
POSTER = {"name": "Poster", "layers": LAYERS, "status": "final"}


@pytest.fixture
async def episode(greenroom):
    return await greenroom.create()


async def test_a_composition_is_created_read_changed_and_deleted(greenroom, episode):
    """
    Each answer is the whole composition with its version as the entity tag; each change is one event.
    """
    path = f"episodes/{episode['id']}/compositions"
    created = await greenroom.request("POST", path, POSTER)
    poster = created.json
    assert (created.status, created.headers["etag"]) == (201, '"1"')
    assert created.headers["location"] == f"/api/v1/{path}/{poster['id']}"
    assert poster == {
        "id": poster["id"],
        "episode_id": episode["id"],
        **POSTER,
        "version": 1,
        "created_by": "alice@example.com",
        "created_at": poster["created_at"],
        "updated_at": poster["created_at"],
    }
    one = f"{path}/{poster['id']}"
    assert (await greenroom.request("GET", one, role="viewer")).json == poster
    assert (await greenroom.request("GET", one, headers={"If-None-Match": '"1"'})).status == 304

    patched = await greenroom.request("PATCH", one, {"status": "archived"})
    assert (patched.status, patched.headers["etag"]) == (200, '"2"')
    assert patched.json == {
        **poster,
        "status": "archived",
        "version": 2,
        "updated_at": patched.json["updated_at"],
    }
    replaced = await greenroom.request("PUT", one, {"name": "Still"})
    assert replaced.json == {
        **poster,
        "name": "Still",
        "layers": [],
        "status": "draft",
        "version": 3,
        "updated_at": replaced.json["updated_at"],
    }
    assert (await greenroom.request("PATCH", one, {"name": "Still"})).json == replaced.json

    assert (await greenroom.request("DELETE", one)).status == 204
    for method, given in (("GET", None), ("PUT", {"name": "x"}), ("PATCH", {}), ("DELETE", None)):
        (await greenroom.request(method, one, given)).problem(404)
    assert greenroom.rows(
        "select topic_offset, type from events where starts_with(topic, 'episode:') order by seq"
    ) == [
        (1, "episode_created"),
        (2, "composition_created"),
        (3, "composition_updated"),
        (4, "composition_updated"),
        (5, "composition_deleted"),
    ]


async def test_the_list_has_this_episodes_compositions_oldest_first(greenroom, episode):
    """
    And nobody else's; a composition is found only below its own episode.
    """
    other = await greenroom.create("Other")
    made = []
    for where, name in ((episode, "One"), (other, "Two"), (episode, "Three")):
        made.append(await greenroom.request("POST", f"episodes/{where['id']}/compositions", {"name": name}))
    listed = await greenroom.request("GET", f"episodes/{episode['id']}/compositions")
    shown = [{**one.json, "rendered_version": None} for one in (made[0], made[2])]
    assert listed.json == {"data": shown, "total": 2}
    wrong = f"episodes/{other['id']}/compositions/{made[0].json['id']}"
    for method, given in (("GET", None), ("PUT", {"name": "x"}), ("PATCH", {}), ("DELETE", None)):
        (await greenroom.request(method, wrong, given)).problem(404)
    (await greenroom.request("POST", f"episodes/{NOBODYS}/compositions", {"name": "x"})).problem(404)


async def test_if_match_guards_a_composition(greenroom, episode):
    """
    412 with the present version's tag, and no event.
    """
    path = f"episodes/{episode['id']}/compositions"
    one = (await greenroom.request("POST", path, POSTER)).headers["location"]
    for method, given in (("PUT", {"name": "x"}), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = await greenroom.request(method, one, given, headers={"If-Match": '"2"'})
        answer.problem(412)
        assert answer.headers["etag"] == '"1"'
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(2,)]
    assert (await greenroom.request("DELETE", one, headers={"If-Match": '"1"'})).status == 204


async def test_every_bad_field_of_a_composition_is_named(greenroom, episode):
    """
    422 with an entry for each, deep ones included; nothing is written.
    """
    path = f"episodes/{episode['id']}/compositions"
    wrong = {
        "layers": [{"kind": "text"}, {"kind": "circle", "x": "left", "z": 1}],
        "status": "done",
        "colour": 1,
    }
    answer = await greenroom.request("POST", path, wrong)
    assert answer.fields() == ["colour", "layers", "name", "status"]
    assert (await greenroom.request("POST", path, [])).fields() == [""]
    assert (
        await greenroom.request("POST", path, {"name": "x", "layers": [{"kind": "box"}] * 101})
    ).fields() == ["layers"]
    assert greenroom.rows("select count(*) from compositions") == [(0,)]
