"""The list of episodes: right pages by every sort, however much changes between two of them."""

import random
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from engine.domain.event import EpisodeId
from engine.store.episode_list import SORTS, ListQuery, parse_key
from engine.store.store import Store

NOON = datetime(2026, 1, 7, 12, tzinfo=UTC)
SET_TIMES = "update episodes set created_at = %s, updated_at = %s where id = %s"
BOTH = [(sort, descending) for sort in SORTS for descending in (False, True)]


def id_of(event) -> EpisodeId:
    return EpisodeId(event.topic.removeprefix("episode:"))


def key_of(sort, episode):
    """
    What decides the order, spelled out once more: missing numbers are last.
    """
    match sort:
        case "episode_number":
            number = episode.episode_number
            key = float("inf") if number is None else number
        case _:
            key = getattr(episode, sort)
    return key, episode.id


async def fill(studio, count):
    """
    Episodes with many equal keys of every kind: in no order, some without numbers.
    """
    chance = random.Random(count)
    for _ in range(count):
        number = chance.choice([None, 0, 1, 2])
        event = await studio.create(f"Title {chance.randrange(3)}", episode_number=number)
        created, updated = (NOON + timedelta(seconds=chance.randrange(4)) for _ in range(2))
        await studio.rows(SET_TIMES, created, updated, id_of(event))


async def pages(store, query, between=None):
    """
    All pages to the end; `between` meddles after each.
    """
    found = []
    while True:
        page = await store.episode_list.page(query)
        assert len(page.episodes) <= query.limit
        found += page.episodes
        if page.next_after is None:
            return found
        assert len(page.episodes) == query.limit
        assert parse_key(query.sort, page.next_after[0])
        query = attrs.evolve(query, after=page.next_after)
        if between is not None:
            await between(page)


async def everything(store):
    found = await store.episode_list.page(ListQuery(limit=1000))
    assert found.next_after is None
    return found.episodes


@pytest.mark.parametrize("limit", [1, 3, 12, 24, 25])
@pytest.mark.parametrize("sort, descending", [("episode_number", False), ("created_at", True)])
async def test_pages_of_any_size_together_are_the_list(studio, store, limit, sort, descending):
    """
    Also when the last page is full, and when everything fits on the first.
    """
    await fill(studio, 24)
    query = ListQuery(sort=sort, descending=descending, limit=limit)
    found = await pages(store, query)
    expected = sorted(await everything(store), key=lambda one: key_of(sort, one), reverse=descending)
    assert found == expected
    assert len(found) == 24


@pytest.mark.parametrize("sort, descending", BOTH)
async def test_every_sort_pages_through_equal_keys(studio, store, sort, descending):
    """
    Equal keys and missing numbers neither repeat nor hide anything.
    """
    await fill(studio, 20)
    found = await pages(store, ListQuery(sort=sort, descending=descending, limit=3))
    expected = sorted(await everything(store), key=lambda one: key_of(sort, one), reverse=descending)
    assert found == expected


@pytest.mark.parametrize("sort, descending", BOTH)
async def test_whatever_comes_and_goes_between_pages_what_stays_is_shown_once(
    studio, store, sort, descending
):
    """
    Insertions and deletions around the place where the reader stands move no page: not even the deletion
    of the episode that the cursor names.
    """
    await fill(studio, 18)
    before = await everything(store)
    chance, deleted = random.Random(sort), set()

    async def meddle(page):
        last = page.episodes[-1]
        for _ in range(2):
            new = await studio.create(last.title, episode_number=last.episode_number)
            await studio.rows(SET_TIMES, last.created_at, last.updated_at, id_of(new))
        rest = [one.id for one in before if one.id not in deleted and one.id != last.id]
        for victim in (last.id, chance.choice(rest)):
            await studio.delete(victim)
            deleted.add(victim)

    found = await pages(store, ListQuery(sort=sort, descending=descending, limit=4), meddle)
    ids = [one.id for one in found]
    assert len(set(ids)) == len(ids)
    stayed = {one.id for one in before} - deleted
    assert stayed <= set(ids)
    ours = [one for one in found if one.id in {one.id for one in before}]
    assert ours == sorted(ours, key=lambda one: key_of(sort, one), reverse=descending)


async def test_missing_numbers_come_last(studio, store):
    """
    Also behind the greatest number there is, if only by id when it is as great as can be.
    """
    await studio.create("None")
    for number in (2_147_483_646, 0, 7):
        await studio.create(str(number), episode_number=number)
    found = await pages(store, ListQuery(sort="episode_number", descending=False, limit=1))
    assert [one.episode_number for one in found] == [0, 7, 2_147_483_646, None]


async def test_filters_narrow_the_pages_and_the_total(studio, store):
    """
    The total counts what the filters let through, not the page.
    """
    for number in range(5):
        await studio.create(f"Drama {number}", categories=["Drama", "Crime"], status="published")
    await studio.create("Comedy", categories=["Comedy"], description="no drama here")
    gone = await studio.create("Drama gone", categories=["Drama"])
    await studio.delete(id_of(gone))

    async def count(**filters):
        page = await store.episode_list.page(ListQuery(limit=2, sort="title", descending=False, **filters))
        shown = await pages(store, ListQuery(limit=2, sort="title", descending=False, **filters))
        assert page.total == len(shown)
        return page.total

    assert await count() == 6
    assert await count(category="Drama") == 5
    assert await count(category="Crime", status="published") == 5
    assert await count(category="Dram") == 0
    assert await count(status="draft") == 1
    assert await count(text="drama") == 6
    assert await count(text="DRAMA 3") == 1
    assert await count(text="drama", status="draft") == 1


@pytest.mark.parametrize(
    "text, finds", [("100%", "100% true"), ("a_b", "a_b"), (r"c:\d", r"c:\d"), ("'; --", "'; --")]
)
async def test_a_search_takes_every_character_for_itself(studio, store, text, finds):
    """
    Neither wildcards nor quotes.
    """
    for title in ("100% true", "1000 true", "a_b", "axb", r"c:\d", "c:d", "'; --"):
        await studio.create(title)
    page = await store.episode_list.page(ListQuery(text=text))
    assert [one.title for one in page.episodes] == [finds]
    assert page.total == 1


async def test_cursors_do_not_depend_on_the_time_zone_of_the_database(studio, migrated_database):
    """
    An operator's PostgreSQL has its own: the pages are the same, and its cursors are ours.
    """
    for _ in range(3):
        await studio.create()
    name = conninfo_to_dict(migrated_database)["dbname"]
    await studio.rows(
        sql.SQL("alter database {} set timezone = 'Europe/Berlin'").format(sql.Identifier(name))
    )
    store = await Store.open(migrated_database, node="there", pool_size=1, background_size=1, deadline=20)
    try:
        async with store.requests.connection() as connection:
            row = await (await connection.execute("show timezone")).fetchone()
        assert row == ("Europe/Berlin",)
        assert len(await pages(store, ListQuery(sort="created_at", limit=1))) == 3
        assert len(await pages(store, ListQuery(sort="updated_at", limit=1))) == 3
    finally:
        await store.aclose()


@pytest.mark.parametrize(
    "sort, key, ours",
    [
        ("episode_number", "0", True),
        ("episode_number", "2147483647", True),
        ("episode_number", "2147483648", False),
        ("episode_number", "-1", False),
        ("episode_number", "1.0", False),
        ("episode_number", " 1", False),
        ("episode_number", "1_0", False),
        ("episode_number", "٣", False),
        ("created_at", "2026-01-07T12:00:00+00:00", True),
        ("created_at", "2026-01-07T12:00:00.123000+00:00", True),
        ("created_at", "2026-01-07T12:00:00", False),
        ("created_at", "2026-W02-3", False),
        ("updated_at", "yesterday", False),
        ("updated_at", "", False),
        ("title", "anything; --", True),
        ("title", "a\x00b", False),
    ],
)
def test_only_a_key_that_a_sort_can_have_written_is_one(sort, key, ours):
    """
    Clients bring cursors back, and may make them up: nothing that PostgreSQL would stumble over passes.
    """
    assert parse_key(sort, key) == ours
