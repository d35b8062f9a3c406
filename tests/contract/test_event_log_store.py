"""The event log in the store: gapless per topic, and in commit order for those who read everything."""

import itertools
import random

import attrs
import trio

from engine.domain import composition as compositions
from engine.domain.event import EpisodeId, LogPlace, Offset, Topic, utc_now
from engine.store.events import Author, EventLog
from tests.patience import patience

START = LogPlace(0, 0)


def id_of(event) -> EpisodeId:
    return EpisodeId(event.topic.removeprefix("episode:"))


async def test_offsets_are_gapless_whoever_writes_at_once(studio):
    """
    Episodes and compositions, winners and losers: the log has every number once, in the order of places.
    """
    created = await studio.create()
    episode = await studio.get(id_of(created))
    poster, _ = await studio.compose(episode)
    committed = [2]
    names = itertools.count()  # a change to the name it has already is no change

    async def change_episode():
        for _ in range(8):
            await studio.update(episode.id)
            committed[0] += 1

    async def change_poster():
        for _ in range(8):
            current = await studio.compositions.get(episode.id, poster.id)
            draft = compositions.update(current, episode, {"name": f"Poster {next(names)}"}, now=utc_now())
            if await studio.compositions.update(draft, _author(created)) is not None:
                committed[0] += 1

    with patience(60):
        async with trio.open_nursery() as nursery:
            for write in (change_episode, change_poster) * 2:
                nursery.start_soon(write)
    log = await studio.store.log.since(created.topic, Offset(0), 1000)
    assert [event.offset for event in log] == list(range(1, committed[0] + 1))
    assert committed[0] >= 2 + 16
    assert sorted(log, key=lambda event: event.place) == log
    assert await studio.store.log.after(START, 1000) == log
    assert await studio.episodes.log_offset(episode.id) == committed[0]


def _author(event):
    return Author(user=event.user, request=event.request)


async def test_what_its_writers_tell_is_what_the_log_has(studio):
    """
    So nobody has to read it from there.
    """
    created = await studio.create(categories=["Drama", "Crime"], episode_number=3)
    _, composed = await studio.compose(await studio.get(id_of(created)))
    updated = await studio.update(id_of(created), categories=["Crime"], status="in_review")
    deleted = await studio.delete(id_of(created))
    told = [created, composed, updated, deleted]
    assert await studio.store.log.after(START, 10) == told


async def test_what_was_told_is_not_fetched_again(studio):
    """
    It comes in its place all the same, among what was not told; what is told and not there does not come.
    """
    log = [await studio.create() for _ in range(5)]
    told = {event.place: event for event in (log[3], log[1], attrs.evolve(log[4], place=LogPlace(1, 1)))}
    brought = await studio.store.log.after(START, 10, told)
    assert brought == log
    assert brought[1] is log[1] and brought[3] is log[3]
    assert await studio.store.log.after(log[0].place, 2, told) == log[1:3]
    assert await studio.store.log.after(log[2].place, 1, told) == [log[3]]


async def test_since_brings_one_topic_in_offset_order_and_no_more_than_asked(studio):
    """
    From right behind the offset; nothing from behind the end.
    """
    log = studio.store.log
    first = await studio.create()
    other = await studio.create()
    events = [first, *await studio.write(id_of(first), 4)]
    assert await log.since(first.topic, Offset(0), 100) == events
    assert await log.since(first.topic, Offset(2), 2) == events[2:4]
    assert await log.since(first.topic, Offset(5), 100) == []
    assert await log.since(first.topic, Offset(99), 100) == []
    assert await log.since(other.topic, Offset(0), 100) == [other]
    assert await log.since(Topic("episode:unknown"), Offset(0), 100) == []


async def test_after_brings_all_topics_batch_by_batch(studio):
    """
    Every event once, from right behind the place.
    """
    events = []
    for _ in range(3):
        events.append(await studio.create())
        events += await studio.write(id_of(events[0]), 1)
    place, found = START, []
    while batch := await studio.store.log.after(place, 4):
        assert len(batch) <= 4
        found += batch
        place = batch[-1].place
    assert found == events


async def test_after_never_skips_a_row_whose_transaction_commits_late(studio):
    """
    While an older transaction is open nothing behind it is brought: its row belongs before them.
    """
    log = studio.store.log
    first = await studio.create("First")
    async with studio.transaction() as late:
        second = await late.create("Second")
        third = await studio.create("Third")
        assert second.place < third.place
        assert await log.after(START, 10) == [first]
    assert await log.after(first.place, 10) == [second, third]


async def test_the_order_is_that_of_transactions_not_of_numbers(studio):
    """
    A transaction that began first and wrote last has its place before the others: whoever read them has
    not read past it.
    """
    async with studio.transaction() as late:
        await late.episodes.database.execute("select pg_current_xact_id()", {})
        first = await studio.create("First")
        second = await late.create("Second")
        assert await studio.store.log.after(START, 10) == []
    assert await studio.store.log.after(START, 10) == [second, first]
    assert await studio.store.log.after(second.place, 10) == [first]


async def test_a_transaction_that_only_reads_holds_up_nobody(studio):
    """
    A long report takes no place in the log.
    """
    async with studio.transaction() as reader:
        await reader.episodes.log_offset(EpisodeId("6f0e7f5e-52b1-4a52-8f2d-1f0e2a3b4c5d"))
        event = await studio.create()
        assert await studio.store.log.after(START, 10) == [event]


async def test_a_transaction_that_was_rolled_back_is_not_waited_for(studio):
    """
    Its numbers are missing for ever, and that is no hole.
    """
    try:
        async with studio.transaction() as late:
            await late.create("Never")
            event = await studio.create()
            raise ConnectionAbortedError
    except ConnectionAbortedError:
        pass
    assert await studio.store.log.after(START, 10) == [event]


async def test_a_reader_misses_nothing_whatever_order_transactions_commit_in(studio):
    """
    Readers that come at any moment get every event once, in one order that never changes afterwards.
    """
    chance = random.Random(7)
    found, place = [], START
    episode = id_of(await studio.create())

    async def read():
        nonlocal place
        while batch := await studio.store.log.after(place, 3):
            found.extend(batch)
            place = batch[-1].place

    async def write(turns: list[trio.Event], number: int) -> None:
        # Three at a time are open, begun in the order of their numbers, ended in any.
        async with studio.transaction() as other:
            await other.create(f"{number}")
            if number % 3 == 0:
                await other.update(episode)
            turns[number].set()
            await turns[-1 - number].wait()

    for _ in range(4):
        turns = [trio.Event() for _ in range(6)]
        order = chance.sample(range(3), 3)
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(write, turns, number)
                await turns[number].wait()
                await read()
            for number in order:
                turns[-1 - number].set()
                await read()
        await read()
    everything = await studio.store.log.after(START, 100)
    assert found == everything
    assert len({event.id for event in found}) == 1 + 4 * 4
    mine = [event.offset for event in found if id_of(event) == episode]
    assert mine == [1, 2, 3, 4, 5]


async def test_the_end_is_before_everything_that_can_still_commit(studio):
    """
    Who begins there misses nothing that commits from now on, be it begun already.
    """
    log = studio.store.log
    old = await studio.create()
    assert (await log.end()).xid >= old.place.xid
    assert await log.after(await log.end(), 10) == []
    async with studio.transaction() as late:
        begun = await late.create()
        done = await studio.create()
        end = await log.end()
        new = await studio.create()
    assert await log.after(end, 10) == [begun, done, new]


async def test_the_epoch_survives_reconnecting(studio, store):
    """
    It is the database's; every event carries it.
    """
    event = await studio.create()
    again = EventLog(database=attrs.evolve(store.log.database, pool=store.background))
    assert await again.epoch() == store.epoch == event.epoch
