"""Many episodes at once: as if each had been created by itself, and all of them or none."""

import uuid

import attrs
import pytest
from psycopg import errors

from engine.domain import episode as episodes
from engine.domain.event import EpisodeId, LogPlace, Request, UserId, episode_topic, utc_now
from engine.store.episode_batch import BATCH, create_episodes
from engine.store.events import Author

ALICE = Author(
    user=UserId("alice@example.com"),
    request=Request(mutation_id="m1", ip="::1", user_agent="Firefox", traceparent="00-1-2-01"),
)


def new(count):
    """
    Decided creations, the last with all that an episode may have.
    """
    fields = [{"title": f"Episode {n}", "episode_number": n} for n in range(count - 1)]
    fields.append(
        {
            "title": 'Q "uo\\te" {braces} %s 🎬',
            "description": "a\nb\t",
            "status": "approved",
            "categories": ["Drama, and more", "Büro"],
        }
    )
    return [created(one) for one in fields]


def created(fields):
    return episodes.create(EpisodeId(str(uuid.uuid4())), fields, user=ALICE.user, now=utc_now())


async def test_each_is_there_as_if_it_had_been_created_by_itself(studio):
    """
    The row, and in a log of its own the event, which is the writer's as it is every reader's.
    """
    changes = new(3)
    async with studio.store.requests.connection() as connection, connection.transaction():
        events = await create_episodes(connection, changes, ALICE, studio.store.epoch)
    for change, event in zip(changes, events, strict=True):
        assert await studio.get(change.episode.id) == change.episode
        assert await studio.store.log.since(event.topic, 0, 10) == [event]
    assert [event.topic for event in events] == [episode_topic(change.episode.id) for change in changes]
    alone = await studio.store.episodes.create(created({"title": "Alone"}), ALICE)
    own = {name: getattr(events[0], name) for name in ("id", "place", "topic", "data", "at")}
    assert attrs.evolve(alone, **own) == events[0]


async def test_more_than_one_batch_stands_in_the_log_in_the_order_given(studio):
    """
    Whatever is created meanwhile.
    """
    count = BATCH + 7
    beginning = await studio.store.log.end()
    async with studio.store.requests.connection() as connection, connection.transaction():
        events = await create_episodes(connection, new(count), ALICE, studio.store.epoch)
        other = await studio.create("Meanwhile")
        assert await studio.store.log.after(beginning, 10) == [], "nobody reads past what may still commit"
    read = await studio.store.log.after(LogPlace(beginning.xid, beginning.seq), count + 10)
    assert read == [*events, other]


async def test_one_that_cannot_be_written_undoes_all(studio):
    """
    All or nothing, across batches.
    """
    changes = new(BATCH + 2)
    changes[-1] = changes[0]
    with pytest.raises(errors.UniqueViolation):
        async with studio.store.requests.connection() as connection, connection.transaction():
            await create_episodes(connection, changes, ALICE, studio.store.epoch)
    assert await studio.store.episodes.get(changes[0].episode.id) is None
    assert await studio.store.log.since(episode_topic(changes[0].episode.id), 0, 10) == []


async def test_none_are_nothing(studio):
    """
    No statement is run.
    """
    async with studio.store.requests.connection() as connection, connection.transaction():
        assert await create_episodes(connection, [], ALICE, studio.store.epoch) == []
