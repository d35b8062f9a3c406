"""The table of who is present: each node keeps its own rows, and clears up after those that have died."""

import attrs
import pytest

from engine.domain.event import EpisodeId, UserId, utc_now
from engine.domain.presence import Viewer

EPISODE = EpisodeId("00000000-0000-4000-8000-000000000001")


@pytest.fixture
async def rows(store):
    """
    The rows of two nodes on one database, each with a viewer.
    """
    here, there = store.presence, attrs.evolve(store.presence, node="there")
    for node, user in ((here, "alice"), (there, "bob")):
        await node.begin()
        await node.write({(EPISODE, UserId(user)): viewer(user)})
    return here, there


def viewer(user):
    now = utc_now()
    return Viewer(user=UserId(user), name=user, state="viewing", viewed_at=now, active_at=now)


async def present(studio):
    return await studio.rows("select node, user_id from user_presence order by 1, 2")


async def silent_for(studio, node, seconds):
    await studio.rows(
        "update nodes set seen_at = now() - make_interval(secs => %s) where name = %s", seconds, node
    )


async def test_what_a_dead_node_left_behind_is_removed_by_whoever_lives(studio, rows):
    """
    After the silence that is allowed, not before; and nothing of the living.
    """
    here, _ = rows
    await silent_for(studio, "there", 80)
    await here.heartbeat(90)
    assert await present(studio) == [("here", "alice"), ("there", "bob")]
    await silent_for(studio, "there", 100)
    await here.heartbeat(90)
    assert await present(studio) == [("here", "alice")]
    assert await studio.rows("select name from nodes") == [("here",)]


async def test_a_node_that_was_silent_itself_does_not_remove_its_own(studio, rows):
    """
    Its own sign of life comes first.
    """
    here, _ = rows
    await silent_for(studio, "here", 1000)
    await here.heartbeat(90)
    assert await present(studio) == [("here", "alice"), ("there", "bob")]


async def test_a_new_life_of_a_node_begins_without_what_the_last_one_left(studio, rows):
    """
    It was killed; nobody else needs to notice.
    """
    here, _ = rows
    await here.begin()
    assert await present(studio) == [("there", "bob")]


async def test_rows_of_a_node_that_nobody_has_ever_seen_are_removed(studio, rows):
    """
    Its name may have been forgotten with an earlier clean-up while it was writing.
    """
    here, _ = rows
    await studio.rows("delete from nodes where name = 'there'")
    await here.heartbeat(90)
    assert await present(studio) == [("here", "alice")]
