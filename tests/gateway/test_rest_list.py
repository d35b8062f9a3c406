"""The list of episodes: filters, sorts, pages, and what is no right question."""

import base64
import json

import pytest

from tests.gateway.node_fixture import query

EPISODES = (
    {"title": "Pilot", "episode_number": 1, "status": "published", "categories": ["Drama"]},
    {
        "title": "100% true_story",
        "episode_number": 3,
        "description": "A pilot's life",
        "categories": ["Drama", "War"],
    },
    {"title": "Finale", "status": "draft", "categories": ["War"]},
    {"title": "finale, part two", "episode_number": 2, "description": "back\\slash"},
    {"title": "Ärger", "episode_number": 2, "status": "published"},
)


@pytest.fixture
async def listed(greenroom):
    """
    Ask a node with the episodes for a list: `await listed(status="draft")`.
    """
    for episode in EPISODES:
        await greenroom.create(**episode)

    async def ask(**parameters):
        return await greenroom.request("GET", f"episodes{query(**parameters)}", role="viewer")

    return ask


def titles(answer):
    assert answer.status == 200, answer
    return [episode["title"] for episode in answer.json["data"]]


async def test_the_newest_come_first_and_all_are_counted(listed):
    """
    Without parameters: everything, newest first, as the episodes themselves are answered.
    """
    answer = await listed()
    assert titles(answer) == [episode["title"] for episode in reversed(EPISODES)]
    assert (answer.json["total"], answer.json["next_cursor"]) == (5, None)
    assert set(answer.json["data"][0]) == {
        *("id", "title", "episode_number", "description", "status", "categories"),
        *("version", "created_by", "created_at", "updated_at"),
    }


async def test_filters_keep_what_fits_them_all(listed):
    """
    status and category are exact; q is a part of title or description, in any case, and no pattern.
    """
    found = {
        "Pilot": {"status": "published", "category": "Drama"},
        "100% true_story,Finale": {"category": "War", "sort": "created_at"},
        "Pilot,100% true_story": {"q": "PILOT", "sort": "created_at"},
        "100% true_story": {"q": "0% true_"},
        "finale, part two": {"q": "\\"},
        "Finale,finale, part two": {"q": "finale", "sort": "created_at"},
        "Ärger": {"q": "ärger"},
        "": {"q": "%%"},
        " ": {"category": "drama"},
    }
    for wanted, parameters in found.items():
        answer = await listed(**parameters)
        assert ",".join(titles(answer)) == wanted.strip(), parameters
        assert answer.json["total"] == len(answer.json["data"])


async def test_each_sort_goes_both_ways(greenroom, listed):
    """
    Missing numbers come last when ascending; equal keys have one order, so that pages can follow.
    """
    oldest = (await listed(sort="created_at")).json["data"][0]
    await greenroom.request("PATCH", f"episodes/{oldest['id']}", {"status": "archived"})
    assert titles(await listed(sort="updated_at"))[-1] == "Pilot"
    assert titles(await listed(sort="created_at"))[0] == "Pilot"
    numbers = [episode["episode_number"] for episode in (await listed(sort="episode_number")).json["data"]]
    assert numbers == [1, 2, 2, 3, None]
    assert titles(await listed(sort="title"))[0] == "100% true_story"
    for sort in ("created_at", "updated_at", "episode_number", "title"):
        assert titles(await listed(sort=f"-{sort}")) == titles(await listed(sort=sort))[::-1]


@pytest.mark.parametrize(
    "sort", ["created_at", "-updated_at", "episode_number", "-episode_number", "-title", "title"]
)
async def test_pages_follow_each_other_without_hole_or_double(listed, sort):
    """
    However it is sorted, and though an episode is created meanwhile, each episode is on one page.
    """
    whole = titles(await listed(sort=sort))
    got, cursor = [], {}
    while cursor is not None:
        page = await listed(sort=sort, limit="2", **cursor)
        got += titles(page)
        assert page.json["total"] == 5
        cursor = {"cursor": page.json["next_cursor"]} if page.json["next_cursor"] else None
    assert got == whole


async def test_a_cursor_stays_right_while_episodes_come_and_go(greenroom, listed):
    """
    What is created before the cursor, or deleted at it, moves nothing.
    """
    first = await listed(limit="2")
    await greenroom.create("Newer")
    await greenroom.request("DELETE", f"episodes/{first.json['data'][-1]['id']}")
    rest = await listed(limit="200", cursor=first.json["next_cursor"])
    assert titles(first) + titles(rest) == [episode["title"] for episode in reversed(EPISODES)]


async def test_questions_that_make_no_sense_are_refused(listed):
    """
    422 with what would be right, for parameters unknown, of no known value, out of range or with a NUL.
    """
    wrong = {
        "colour": {"colour": "red"},
        "draft, in_review": {"status": "done"},
        "created_at": {"sort": "id"},
        "episode_number": {"sort": "--title"},
        "from 1 to 200": {"limit": "0"},
        "not '201'": {"limit": "201"},
        "whole number": {"limit": "1e1"},
        "'9999": {"limit": "9" * 5000},
        "NUL": {"q": "a\0b"},
        "category must": {"category": "\0"},
        "next_cursor": {"cursor": "é"},
    }
    for wanted, parameters in wrong.items():
        assert wanted in (await listed(**parameters)).problem(422)["detail"], parameters


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("created_at", "soon"),
        ("created_at", "2026-W01-1"),
        ("created_at", "2026-01-01T00:00:00+23:59"),
        ("updated_at", "2026-01-01T00:00:00"),
        ("episode_number", "99999999999"),
        ("episode_number", " 1_0"),
        ("title", "a\0b"),
        ("-created_at", 1),
    ],
)
async def test_a_forged_cursor_is_refused(listed, sort, key):
    """
    422 for every cursor that this list cannot have given: none reaches the database.
    """
    for forged in (
        [sort, key, "00000000-0000-4000-8000-000000000000"],
        [sort, key, "x"],
        [sort, key],
        {},
        sort,
    ):
        cursor = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        assert "cursor" in (await listed(sort=sort, cursor=cursor)).problem(422)["detail"]


async def test_a_cursor_of_another_sort_is_refused(listed):
    """
    A key of one sort means nothing to another.
    """
    cursor = (await listed(sort="title", limit="1")).json["next_cursor"]
    assert "another sort" in (await listed(sort="-title", cursor=cursor)).problem(422)["detail"]
