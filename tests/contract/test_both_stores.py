"""The store in memory keeps the promises that the one in PostgreSQL does: the same tests, both stores."""

import inspect
from collections.abc import AsyncIterator

import pytest

from engine.domain import episode as episodes
from engine.domain.event import LogPlace, UserId, user_topic, utc_now
from engine.errors import EngineError
from engine.store.compositions import Compositions
from engine.store.cursors import CursorMovedError, Cursors, EffectTransaction, Failure
from engine.store.episode_list import EpisodeList, ListQuery
from engine.store.episodes import Episodes, Idempotency, Replay
from engine.store.events import EventLog
from engine.store.job_list import JobList
from engine.store.job_transaction import JobTransaction
from engine.store.jobs import Jobs
from engine.store.memory import (
    MemoryCompositions,
    MemoryEpisodeList,
    MemoryEpisodes,
    MemoryLog,
    MemoryPresence,
    MemoryRecords,
)
from engine.store.memory_job_list import MemoryJobList
from engine.store.memory_job_transaction import MemoryJobTransaction
from engine.store.memory_jobs import MemoryJobs
from engine.store.memory_plugins import MemoryCursors, MemoryTransaction
from engine.store.memory_store import MemoryStore
from engine.store.presence import PresenceRows
from engine.store.records import Records
from tests.contract.studio import ALICE, Studio

START = LogPlace(0, 0)


@pytest.fixture(params=["postgres", "memory"])
async def both(request, store) -> AsyncIterator[Studio]:
    """
    People at work on either store. Both are there each time; that is dearer, and simple.
    """
    chosen = store if request.param == "postgres" else MemoryStore.empty()
    yield Studio(chosen, chosen.episodes, chosen.compositions)


@pytest.mark.parametrize(
    ("memory", "postgres"),
    [
        (MemoryLog, EventLog),
        (MemoryEpisodes, Episodes),
        (MemoryEpisodeList, EpisodeList),
        (MemoryCompositions, Compositions),
        (MemoryRecords, Records),
        (MemoryPresence, PresenceRows),
        (MemoryCursors, Cursors),
        (MemoryTransaction, EffectTransaction),
        (MemoryJobs, Jobs),
        (MemoryJobList, JobList),
        (MemoryJobTransaction, JobTransaction),
    ],
)
def test_what_the_memory_store_has_is_called_like_the_other_s(memory, postgres):
    """
    A parameter that was added to one of them only would be noticed by nobody else.
    """
    for name, function in vars(memory).items():
        if not name.startswith("_") and inspect.isfunction(function):
            ours = list(inspect.signature(function).parameters)
            theirs = list(inspect.signature(getattr(postgres, name)).parameters)
            assert ours == theirs, name


async def test_a_topic_s_log_is_gapless_and_the_whole_log_is_in_commit_order(both):
    """
    Offsets count from 1 in each topic; places grow over all; both are read from behind a position.
    """
    one, two = await both.create("One"), await both.create("Two")
    id_ = one.topic.removeprefix("episode:")
    more = [await both.update(id_) for _ in range(3)]
    log = both.store.log
    assert [event.offset for event in await log.since(one.topic, 0, 10)] == [1, 2, 3, 4]
    assert [event.id for event in await log.since(one.topic, 2, 1)] == [more[1].id]
    everything = await log.after(START, 10)
    assert [event.id for event in everything] == [event.id for event in (one, two, *more)]
    assert await log.after(two.place, 2) == everything[2:4]
    assert await log.newest_public(await log.end(), 2) == everything[-2:]
    assert await log.after_public(one.place, more[0].place, 10) == everything[1:3]
    assert await log.end() >= everything[-1].place
    assert await log.epoch() == one.epoch == both.store.epoch


async def test_who_was_slower_is_told_so(both):
    """
    A change of a version that is no longer there is not made.
    """
    created = await both.create()
    id_ = created.topic.removeprefix("episode:")
    current = await both.get(id_)
    change = episodes.update(current, {"title": "Mine"}, now=utc_now())
    await both.update(id_, title="Theirs")
    assert await both.episodes.update(change, ALICE) is None
    assert await both.episodes.delete(current, episodes.delete(current), ALICE) is None
    assert (await both.get(id_)).title == "Theirs"
    await both.delete(id_)
    assert await both.episodes.get(id_) is None
    assert await both.episodes.log_offset(id_) == 3
    assert (await both.store.episode_list.page(ListQuery())).total == 0


async def test_a_key_creates_once(both):
    """
    The second time the first answer is given again.
    """
    key = Idempotency(key="k", fingerprint="f")
    created = await both.create("Pilot", key)
    again = await both.try_create("Pilot", key)
    assert isinstance(again, Replay)
    assert again.fingerprint == "f"
    assert f"episode:{again.response['id']}" == created.topic


async def test_compositions_are_in_their_episode_s_log(both):
    """
    Each change of one counts the episode's log up.
    """
    created = await both.create()
    id_ = created.topic.removeprefix("episode:")
    composition, event = await both.compose(await both.get(id_))
    assert (event.topic, event.offset) == (created.topic, 2)
    assert await both.compositions.get(id_, composition.id) == composition
    assert [one.id for one in await both.compositions.list(id_, 10)] == [composition.id]


async def test_a_cursor_moves_with_what_was_told_or_not_at_all(both):
    """
    Undone, nothing was told and the cursor stands; whoever moves it from an old place is told so.
    """
    cursors = both.store.cursors
    event = await both.create()
    cursor = await cursors.open("p", START)
    assert (cursor.place, await cursors.lag(cursor.place)) == (START, 1)
    undone = cursors.begin(cursor)
    await undone.tell_user(UserId("bob"), "hello", {})
    await undone.rollback()
    assert await both.store.log.user_offset(UserId("bob")) == 0
    with pytest.raises(EngineError, match="has ended"):
        await undone.execute("select 1")
    done = cursors.begin(cursor)
    await done.tell_user(UserId("bob"), "hello", {"a": 1})
    moved = await done.commit(event)
    assert (done.used, done.told, moved.place) == (True, True, event.place)
    [told] = await both.store.log.since(user_topic(UserId("bob")), 0, 10)
    assert (told.type, told.data, told.offset) == ("hello", {"a": 1}, 1)
    with pytest.raises(CursorMovedError):
        await cursors.begin(cursor).commit(event)
    assert (await cursors.open("p", START)).place == event.place


async def test_quarantine_and_failures_are_kept(both):
    """
    Until an operator resumes the plugin; failures are shown the newest first.
    """
    cursors = both.store.cursors
    event = await both.create()
    await cursors.open("p", START)
    for attempt in (1, 2):
        failure = Failure(
            event_id=event.id, event_type=event.type, attempt=attempt, error="oops", traceback="…"
        )
        await cursors.failed("p", failure)
    assert [failure.attempt for failure in await cursors.failures("p", 10)] == [2, 1]
    since = await cursors.quarantine("p", "oops")
    kept = await cursors.open("p", START)
    assert (kept.quarantined_at, kept.reason) == (since, "oops")
    await cursors.resume("p")
    assert (await cursors.open("p", START)).quarantined_at is None
