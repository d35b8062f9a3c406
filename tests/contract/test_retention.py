"""Retention: the log stays bounded, and whoever is owed what was cut is told so."""

import pytest
import trio

from engine.actors import retention as module
from engine.actors.retention import Retention
from engine.domain.event import EpisodeId, LogPlace
from tests.patience import patience

NEVER = 3600.0


@pytest.fixture
def cut(studio):
    """
    Cuts the log, one round; `noted` are the events that the feed has brought meanwhile.
    """

    async def run(*noted, age=NEVER, count=10_000):
        retention = Retention(log=studio.store.log, age=age, count=count, interval=NEVER)
        for event in noted:
            retention.note(event)
        await retention._round()

    return run


async def left(studio):
    """
    The offsets that are still in the log, by topic.
    """
    found = {}
    for topic, offset in await studio.rows("select topic, topic_offset from events order by 1, 2"):
        found.setdefault(topic, []).append(offset)
    return found


async def age(studio, *events, seconds=1000):
    """
    Let some time pass for these events.
    """
    await studio.rows(
        "update events set created_at = created_at - make_interval(secs => %s) where id = any(%s::uuid[])",
        seconds,
        [event.id for event in events],
    )


async def log_cut(studio):
    return await studio.store.log.cut()


async def test_what_is_older_than_allowed_is_cut_and_the_place_of_the_cut_is_known(studio, cut):
    """
    By age: of every topic, whoever writes to it.
    """
    old = [await studio.create(), await studio.create()]
    changed = await studio.update(EpisodeId(old[0].topic.removeprefix("episode:")))
    new = await studio.create()
    assert await log_cut(studio) == LogPlace(0, 0)
    await age(studio, *old)
    await cut(age=500)
    assert await left(studio) == {old[0].topic: [2], new.topic: [1]}
    assert await log_cut(studio) == old[1].place
    await cut(age=500)
    assert await log_cut(studio) == old[1].place < changed.place


async def test_of_a_long_log_the_newest_stay(studio, cut):
    """
    By count, of the topics that have grown; the others are left alone.
    """
    long, short = await studio.create(), await studio.create()
    changes = await studio.write(EpisodeId(long.topic.removeprefix("episode:")), 6)
    await cut(long, *changes, short, count=3)
    assert await left(studio) == {long.topic: [5, 6, 7], short.topic: [1]}
    assert await log_cut(studio) == changes[2].place
    await cut(changes[-1], count=5)
    assert await log_cut(studio) == changes[2].place


@pytest.mark.parametrize("how", ["age", "count"])
async def test_nothing_is_cut_that_a_plugin_has_still_to_handle(studio, cut, how):
    """
    However old, however much: the slowest of them, quarantined ones too, hold it.
    """
    events = [await studio.create()]
    events += await studio.write(EpisodeId(events[0].topic.removeprefix("episode:")), 4)
    await age(studio, *events)
    cursors = studio.store.cursors
    await cursors.open("quick", events[4].place)
    await cursors.open("slow", events[1].place)
    await cursors.quarantine("slow", "broken")
    bound = {"age": 500} if how == "age" else {"count": 1}
    await cut(events[-1], **bound)
    assert await left(studio) == {events[0].topic: [3, 4, 5]}
    assert await log_cut(studio) == events[1].place


async def test_it_is_cut_a_little_at_a_time_until_nothing_is_left_to_cut(studio, cut, monkeypatch):
    """
    Each statement is bounded; a round goes on as long as there is more.
    """
    monkeypatch.setattr(module, "STEP", 2)
    statements = []
    for name in ("cut_by_age", "cut_by_count"):
        done = getattr(type(studio.store.log), name)

        async def counted(log, *given, done=done, name=name):
            statements.append((name, given[-1], found := await done(log, *given)))
            return found

        monkeypatch.setattr(type(studio.store.log), name, counted)
    old = [await studio.create() for _ in range(5)]
    await age(studio, *old)
    long = await studio.create()
    changes = await studio.write(EpisodeId(long.topic.removeprefix("episode:")), 5)
    await cut(changes[-1], age=500, count=1)
    assert statements == [
        ("cut_by_age", 2, 2),
        ("cut_by_age", 2, 2),
        ("cut_by_age", 2, 1),
        ("cut_by_count", 2, 2),
        ("cut_by_count", 2, 2),
        ("cut_by_count", 2, 1),
    ]
    assert await left(studio) == {long.topic: [6]}


async def test_a_round_that_finds_the_database_away_is_no_crash(studio, nursery):
    """
    The next one cuts.
    """
    event = await studio.create()
    changes = await studio.write(EpisodeId(event.topic.removeprefix("episode:")), 3)

    class Away:
        failures = 1

        async def cut_by_age(self, *given):
            if self.failures:
                self.failures -= 1
                raise module.StoreUnavailableError("away")
            return await studio.store.log.cut_by_age(*given)

        cut_by_count = staticmethod(studio.store.log.cut_by_count)

    retention = Retention(log=Away(), age=NEVER, count=1, interval=0.01)
    retention.note(changes[-1])
    await nursery.start(retention.run)
    with patience():
        while await left(studio) != {event.topic: [4]}:  # noqa: ASYNC110 -- it tells nobody
            await trio.sleep(0.01)


# What subscribers are told


async def test_a_subscriber_that_is_owed_what_was_cut_is_shown_the_present_state(stage, client, cut):
    """
    In the middle of its subscription, once; then it hears on.
    """
    await stage.start()
    watcher = client("watcher")
    await stage.subscribe(watcher)
    changes = await stage.studio.write(stage.id, 5)
    await cut(changes[-1], count=2)
    stage.tell(changes[-1])
    await watcher.wait(lambda it: len(it.heard) == 2)
    told = watcher.heard[1]
    assert (told["recovered"], told["at"], watcher.offsets) == (False, 6, [])
    assert told["snapshot"]["episode"] == (await stage.studio.get(stage.id)).to_json()
    stage.tell(*changes, await stage.studio.update(stage.id))
    await watcher.wait(lambda it: it.offsets)
    await stage.flush()
    assert watcher.offsets == [7]


async def test_after_a_crash_a_subscriber_hears_on_from_what_it_was_shown(stage, client, cut):
    """
    Nothing again of what the snapshot includes, and nothing after it left out.
    """
    await stage.start()
    watcher = client("watcher")
    await stage.subscribe(watcher)
    changes = await stage.studio.write(stage.id, 5)
    await cut(changes[-1], count=2)
    await stage.crash()
    await stage.start()
    await stage.flush()
    assert [message.get("recovered") for message in watcher.heard] == [False, False]
    assert watcher.heard[1]["at"] == 6
    await stage.crash()
    more = await stage.studio.write(stage.id, 2)
    await stage.start()
    await stage.flush()
    assert watcher.ids == [event.id for event in more]
    back = client("back")
    assert not (await stage.subscribe(back, 2))["recovered"]
    assert back.offsets == []
    assert (await stage.subscribe(client("near"), 6))["recovered"]


async def test_what_a_life_begins_with_in_memory_is_not_told_twice(stage, client, cut):
    """
    Retention has cut the beginning, the crash has left something untold: a count from the beginning reaches
    into that, and whoever returns would hear it from memory and from the log.
    """
    await stage.start()
    watcher = client("watcher")
    await stage.subscribe(watcher)
    before = await stage.studio.write(stage.id, 5)
    stage.tell(*before)
    await watcher.wait(lambda it: len(it.offsets) == 5)
    await stage.crash()
    untold = await stage.studio.write(stage.id, 2)
    await cut(untold[-1], count=4)
    await stage.start()
    await stage.flush()
    assert watcher.offsets == [2, 3, 4, 5, 6, 7, 8]
    back = client("back")
    assert (await stage.subscribe(back, 5))["recovered"]
    assert back.offsets == [6, 7, 8]
    assert not (await stage.subscribe(client("older"), 1))["recovered"]


async def test_what_is_not_published_yet_does_not_make_up_for_what_was_cut(stage, client, cut):
    """
    As many events as were missed, but not those.
    """
    await stage.start(ring=1)
    watcher = client("watcher")
    await stage.subscribe(watcher)
    told = await stage.studio.write(stage.id, 5)
    stage.tell(*told)
    await watcher.wait(lambda it: len(it.offsets) == 5)
    untold = await stage.studio.write(stage.id, 3)
    await cut(untold[-1], count=5)
    back = client("back")
    answer = await stage.subscribe(back, 2)
    assert (answer["recovered"], back.offsets) == (False, [])
    assert answer["snapshot"]["episode"]["version"] == 9
    assert answer["at"] == 9


async def test_a_hole_in_the_middle_of_the_log_is_not_passed_over(stage, client, studio):
    """
    Clocks of writers differ: what is cut by age need not be the beginning of a topic's log.
    """
    await stage.start()
    watcher = client("watcher")
    await stage.subscribe(watcher)
    changes = await studio.write(stage.id, 4)
    await studio.rows("delete from events where id = %s", changes[1].id)
    stage.tell(changes[3])
    await watcher.wait(lambda it: len(it.heard) == 2)
    assert (watcher.heard[1]["recovered"], watcher.heard[1]["at"]) == (False, 5)
    assert watcher.offsets == []


async def test_whoever_returns_is_never_told_of_a_whole_that_is_none(stage, client, cut):
    """
    For every position and every cut: what is recovered is exactly what was missed.
    """
    await stage.start(ring=2)
    changes = await stage.studio.write(stage.id, 9)
    stage.tell(*changes)
    await stage.flush()
    for keep in (7, 4, 3, 2):
        await cut(changes[-1], count=keep)
        for since in range(1, 11):
            back = client(f"back-{keep}-{since}")
            answer = await stage.subscribe(back, since)
            missed = list(range(since + 1, 11))
            # The newest two are in memory.
            assert answer["recovered"] == (since >= 10 - max(keep, 2))
            assert back.offsets == (missed if answer["recovered"] else [])


async def test_retention_runs_between_the_reads_of_a_subscription(stage, client, cut):
    """
    The log is cut after its head was read and before its events are: a snapshot, no hole.
    """
    await stage.start(ring=1)
    changes = await stage.studio.write(stage.id, 6)
    stage.tell(*changes)
    await stage.flush()

    class Cut:
        async def since(self, *given):
            await cut(changes[-1], count=1)
            return await stage.log.since(*given)

    stage.actor.log.log = Cut()
    back = client("back")
    answer = await stage.subscribe(back, 1)
    assert (answer["recovered"], back.offsets) == (False, [])
