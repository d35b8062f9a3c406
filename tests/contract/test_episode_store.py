"""Episodes in the store: a row and its event in one statement, both or neither."""

import attrs
import pytest
import trio
from psycopg import errors

from engine.domain import composition as compositions
from engine.domain import episode as episodes
from engine.domain.event import EpisodeId, Request, UserId, episode_topic, utc_now
from engine.errors import StoreUnavailableError
from engine.store.episodes import Episodes, Idempotency, Replay
from engine.store.events import Author
from engine.store.postgres import Database

BOB = Author(
    user=UserId("bob@example.com"),
    request=Request(mutation_id="m2", ip="::1", user_agent="Firefox", traceparent="00-1-2-01"),
)
UNKNOWN = EpisodeId("6f0e7f5e-52b1-4a52-8f2d-1f0e2a3b4c5d")


def id_of(event) -> EpisodeId:
    return EpisodeId(event.topic.removeprefix("episode:"))


def key_of(fingerprint) -> Idempotency:
    return Idempotency(key="k", fingerprint=fingerprint)


async def log_of(studio, event):
    return await studio.store.log.since(event.topic, 0, 1000)


async def test_what_was_created_is_there_with_its_event(studio):
    """
    The event as the writer has it is the event as every reader will.
    """
    event = await studio.create("Pilot", episode_number=3, categories=["Drama", "Büro"], description="")
    episode = await studio.get(id_of(event))
    assert episode.to_json() == event.data["episode"]
    assert (event.offset, event.epoch, episode.log_offset) == (1, studio.store.epoch, 1)
    assert await log_of(studio, event) == [event]


async def test_an_update_is_committed_with_its_author_and_its_place_in_the_log(studio):
    """
    Version and offset count up together; the log has the whole fact.
    """
    created = await studio.create()
    before = await studio.get(id_of(created))
    change = episodes.update(before, {"status": "approved"}, now=utc_now())
    event = await studio.episodes.update(change, BOB)
    after = await studio.get(before.id)
    assert after == attrs.evolve(change.episode, log_offset=2)
    assert (event.user, event.request, event.offset) == (BOB.user, BOB.request, 2)
    assert await log_of(studio, created) == [created, event]
    assert event.place > created.place


async def test_a_change_decided_on_an_old_version_is_refused_and_leaves_nothing(studio):
    """
    Neither row nor event nor offset: somebody else was faster.
    """
    created = await studio.create()
    old = await studio.get(id_of(created))
    faster = await studio.update(old.id, title="Faster")
    change = episodes.update(old, {"title": "Slower"}, now=utc_now())
    assert await studio.episodes.update(change, BOB) is None
    assert await studio.episodes.delete(old, episodes.delete(old), BOB) is None
    assert (await studio.get(old.id)).title == "Faster"
    assert await log_of(studio, created) == [created, faster]
    assert await studio.episodes.log_offset(old.id) == 2


async def test_a_deleted_episode_is_gone_and_its_log_stays(studio):
    """
    It cannot be changed or deleted again.
    """
    created = await studio.create()
    last = await studio.get(id_of(created))
    deleted = await studio.delete(last.id)
    assert await studio.episodes.get(last.id) is None
    assert await studio.episodes.log_offset(last.id) == 2
    assert await log_of(studio, created) == [created, deleted]
    change = episodes.update(last, {"title": "Back"}, now=utc_now())
    assert await studio.episodes.update(change, BOB) is None
    assert await studio.episodes.delete(last, episodes.delete(last), BOB) is None
    assert await studio.episodes.log_offset(last.id) == 2


async def test_an_episode_that_never_was_has_neither_row_nor_log(studio):
    """
    None, not an error.
    """
    assert await studio.episodes.get(UNKNOWN) is None
    assert await studio.episodes.log_offset(UNKNOWN) is None
    assert await studio.store.log.since(episode_topic(UNKNOWN), 0, 10) == []


async def test_a_row_whose_event_cannot_be_written_is_not_written_either(studio):
    """
    One statement: the event's failure undoes the row.
    """
    created = await studio.create()
    await studio.rows("update events set topic_offset = 2")
    with pytest.raises(errors.UniqueViolation):
        await studio.update(id_of(created), title="New")
    assert (await studio.get(id_of(created))).title == "Pilot"
    await studio.rows("alter table events add check (type <> 'episode_created') not valid")
    with pytest.raises(errors.CheckViolation):
        await studio.create("Other", key_of("f"))
    assert await studio.rows("select count(*) from episodes") == [(1,)]
    assert await studio.rows("select count(*) from idempotency_keys") == [(0,)]


async def test_of_two_changes_of_one_version_exactly_one_is_committed(studio):
    """
    The second waits for the first one's row, and finds that it came too late.
    """
    created = await studio.create()
    old = await studio.get(id_of(created))
    answers = []

    async def change(title):
        answers.append(
            await studio.episodes.update(episodes.update(old, {"title": title}, now=utc_now()), BOB)
        )

    async with trio.open_nursery() as nursery, studio.transaction() as first:
        won = await first.update(old.id, title="First")
        nursery.start_soon(change, "Second")
        await studio.wait_for_lock()
    assert answers == [None]
    assert await log_of(studio, created) == [created, won]


@pytest.mark.parametrize("what", ["update", "delete", "compose", "recompose", "decompose"])
async def test_a_writer_gets_its_place_in_the_log_only_when_the_row_is_its(studio, what):
    """
    Otherwise of two writers the later could have the earlier place, and plugins would hear of the
    episode's changes in the wrong order: places begin with the transaction's id.
    """
    created = await studio.create()
    episode = await studio.get(id_of(created))
    composition, _ = await studio.compose(episode)

    async def write():
        match what:
            case "update":
                await studio.episodes.update(episodes.update(episode, {"title": "X"}, now=utc_now()), BOB)
            case "delete":
                await studio.episodes.delete(episode, episodes.delete(episode), BOB)
            case "compose":
                await studio.compose(episode)
            case "recompose":
                change = compositions.update(composition, episode, {"name": "X"}, now=utc_now())
                await studio.compositions.update(change, BOB)
            case "decompose":
                draft = compositions.delete(composition, episode)
                await studio.compositions.delete(composition, draft, BOB)

    async with trio.open_nursery() as nursery, studio.transaction() as first:
        await first.compose(episode)
        nursery.start_soon(write)
        assert await studio.wait_for_lock() == (None,)
    log = await log_of(studio, created)
    assert [event.offset for event in log] == [1, 2, 3, 4]
    assert sorted(log, key=lambda event: event.place) == log


# Idempotency keys


async def test_a_key_that_was_used_answers_what_was_answered_then(studio):
    """
    Nothing is created twice; the fingerprint shows whether it was the same wish.
    """
    key = key_of("f1")
    created = await studio.create("Pilot", key)
    assert await studio.try_create("Pilot", key) == Replay(fingerprint="f1", response=created.data["episode"])
    assert await studio.try_create("Other", key_of("f2")) == Replay(
        fingerprint="f1", response=created.data["episode"]
    )
    assert await studio.rows("select title from episodes") == [("Pilot",)]


async def test_keys_are_each_persons_own(studio):
    """
    Bob's key is not Alice's.
    """
    await studio.create("Pilot", key_of("f"))
    change = episodes.create(UNKNOWN, {"title": "Bob's"}, user=BOB.user, now=utc_now())
    assert not isinstance(await studio.episodes.create(change, BOB, key_of("f")), Replay)


@pytest.mark.parametrize("first_commits", [True, False])
async def test_of_two_creations_with_one_key_at_once_exactly_one_happens(studio, first_commits):
    """
    The second waits for the first; if that one comes to nothing, it is the one.
    """
    key, answers = key_of("f"), []

    async def create_second():
        answers.append(await studio.try_create("Second", key))

    async with trio.open_nursery() as nursery:
        try:
            async with studio.transaction() as first:
                await first.create("First", key)
                nursery.start_soon(create_second)
                await studio.wait_for_lock()
                if not first_commits:
                    raise ConnectionAbortedError
        except ConnectionAbortedError:
            pass
    assert isinstance(answers[0], Replay) == first_commits
    assert await studio.rows("select title from episodes") == [("First" if first_commits else "Second",)]


# Compositions


async def test_compositions_stand_in_the_log_of_their_episode(studio):
    """
    One order for both; an episode's version is its own.
    """
    created = await studio.create()
    episode = await studio.get(id_of(created))
    composition, composed = await studio.compose(episode)
    assert await studio.compositions.get(episode.id, composition.id) == composition
    change = compositions.update(composition, episode, {"layers": [{"kind": "box", "x": 1.5}]}, now=utc_now())
    updated = await studio.compositions.update(change, BOB)
    assert await studio.compositions.list(episode.id, 10) == [change.composition]
    draft = compositions.delete(change.composition, episode)
    deleted = await studio.compositions.delete(change.composition, draft, BOB)
    assert await studio.compositions.list(episode.id, 10) == []
    assert await log_of(studio, created) == [created, composed, updated, deleted]
    after = await studio.get(episode.id)
    assert (after.version, after.log_offset) == (1, 4)


async def test_deleting_a_composition_happens_now(studio):
    """
    Not when it was last changed.
    """
    created = await studio.create()
    episode = await studio.get(id_of(created))
    old = utc_now()
    composition, _ = await studio.compose(episode)
    await studio.rows("update compositions set updated_at = 'epoch', created_at = 'epoch'")
    composition = await studio.compositions.get(episode.id, composition.id)
    event = await studio.compositions.delete(composition, compositions.delete(composition, episode), BOB)
    assert event.at >= old
    assert (await log_of(studio, created))[-1].at == event.at


async def test_a_composition_is_found_under_its_own_episode_only(studio):
    """
    Its id alone gives nothing away, and changes nothing.
    """
    mine = await studio.get(id_of(await studio.create("Mine")))
    other = await studio.get(id_of(await studio.create("Other")))
    composition, _ = await studio.compose(mine)
    assert await studio.compositions.get(other.id, composition.id) is None
    moved = attrs.evolve(composition, episode_id=other.id)
    assert await studio.compositions.delete(moved, compositions.delete(moved, other), BOB) is None
    assert await studio.compositions.get(mine.id, composition.id) == composition
    assert await studio.episodes.log_offset(other.id) == 1


async def test_a_composition_changed_meanwhile_is_not_changed_and_no_offset_is_spent(studio):
    """
    The log would have a hole otherwise, and its readers wait for it for ever.
    """
    created = await studio.create()
    episode = await studio.get(id_of(created))
    composition, _ = await studio.compose(episode)
    first = compositions.update(composition, episode, {"name": "First"}, now=utc_now())
    second = compositions.update(composition, episode, {"name": "Second"}, now=utc_now())
    answers = []

    async def change_second():
        answers.append(await studio.compositions.update(second, BOB))

    async with trio.open_nursery() as nursery, studio.transaction() as other:
        assert await other.compositions.update(first, BOB) is not None
        nursery.start_soon(change_second)
        await studio.wait_for_lock()
    assert answers == [None]
    assert await studio.compositions.update(second, BOB) is None
    assert (await studio.compositions.get(episode.id, composition.id)).name == "First"
    assert await studio.episodes.log_offset(episode.id) == 3


@pytest.mark.parametrize("write", ["create", "update", "delete"])
async def test_a_composition_of_an_episode_being_deleted_stays_as_it_is(studio, write):
    """
    No change without its event: whoever comes after the deletion changes nothing.
    """
    created = await studio.create()
    episode = await studio.get(id_of(created))
    composition, _ = await studio.compose(episode)
    answers = []

    async def change():
        match write:
            case "create":
                new = compositions.create(UNKNOWN, episode, {"name": "X"}, user=BOB.user, now=utc_now())
                answers.append(await studio.compositions.create(new, BOB))
            case "update":
                changed = compositions.update(composition, episode, {"name": "X"}, now=utc_now())
                answers.append(await studio.compositions.update(changed, BOB))
            case "delete":
                draft = compositions.delete(composition, episode)
                answers.append(await studio.compositions.delete(composition, draft, BOB))

    async with trio.open_nursery() as nursery, studio.transaction() as other:
        await other.delete(episode.id)
        nursery.start_soon(change)
        await studio.wait_for_lock()
    await change()
    assert answers == [None, None]
    assert await studio.compositions.list(episode.id, 10) == [composition]
    assert await studio.episodes.log_offset(episode.id) == 3


# Deadlines


async def test_a_write_that_takes_too_long_is_given_up_and_undone(studio):
    """
    The request is answered within its deadline; the connection is good again, the write did not happen.
    """
    created = await studio.create()
    hasty = Database(pool=studio.store.requests, deadline=0.1)
    impatient = attrs.evolve(studio, episodes=Episodes(database=hasty, epoch=studio.store.epoch))
    async with studio.transaction() as other:
        await other.update(id_of(created), title="Slow")
        with pytest.raises(StoreUnavailableError, match=r"did not answer within 0.1 s"):
            await impatient.update(id_of(created), title="Hasty")
    assert (await studio.get(id_of(created))).title == "Slow"
    assert await studio.episodes.log_offset(id_of(created)) == 2
    assert studio.store.requests.statistics().in_use == 0
