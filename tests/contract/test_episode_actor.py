"""The actor of one episode: every subscriber hears every event once, in offset order, whatever happens."""

import itertools
import random
from types import SimpleNamespace

import attrs
import pytest
import trio

from engine.actors import topic_log as module
from engine.actors.episode import Crash
from engine.domain.event import Epoch, Offset, Position
from engine.errors import ActorStoppedError, StoreUnavailableError
from engine.runtime.mailbox import Reply
from tests.patience import patience


@pytest.fixture
async def watched(stage, client):
    """
    A running actor, and a client who subscribed after the first event.
    """
    await stage.start()
    viewer = client("viewer")
    assert (await stage.subscribe(viewer))["at"] == 1
    stage.log.reads = 0
    return viewer


# Order


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_events_told_in_any_order_go_out_in_offset_order(stage, watched, order):
    """
    One turn, one write, and nothing is read from the store.
    """
    events = await stage.studio.write(stage.id, 3)
    stage.tell(*(events[index] for index in order))
    await watched.wait(lambda it: len(it.offsets) == 3)
    assert watched.offsets == [2, 3, 4]
    assert watched.writes[1:] == [3]
    assert stage.log.reads == 0


async def test_a_gap_is_filled_from_the_store_before_anything_later_goes_out(stage, watched):
    """
    What was committed and not told is missing here, not there.
    """
    events = await stage.studio.write(stage.id, 5)
    stage.tell(events[2])
    await watched.wait(lambda it: len(it.offsets) >= 3)
    assert (watched.offsets, stage.log.reads) == ([2, 3, 4, 5, 6][: len(watched.offsets)], 1)
    stage.tell(events[4], events[0], events[3], events[1])
    await watched.wait(lambda it: len(it.offsets) == 5)
    assert watched.ids == [event.id for event in events]


async def test_a_gap_of_any_length_is_filled_piece_by_piece(stage, watched, monkeypatch):
    """
    However much was missed: so many at a time.
    """
    monkeypatch.setattr(module, "FILL", 2)
    events = await stage.studio.write(stage.id, 7)
    stage.tell(events[6])
    await watched.wait(lambda it: len(it.offsets) == 7)
    assert watched.ids == [event.id for event in events]
    assert stage.log.reads == 4


async def test_an_event_told_twice_goes_out_once(stage, watched):
    """
    The feed brings again what the writer already told, in the same turn or later.
    """
    first, second = await stage.studio.write(stage.id, 2)
    stage.tell(first, first)
    await stage.flush()
    stage.tell(first, second, first)
    await stage.flush()
    stage.tell(second, first)
    await stage.flush()
    assert watched.ids == [first.id, second.id]


async def test_whoever_subscribes_while_others_write_hears_everything_behind_its_position(stage, client):
    """
    Told early, late, twice or never; new, returning or both: every client's log has neither hole nor double.
    """
    chance = random.Random(11)
    await stage.start(ring=5)
    clients = []

    async def write():
        for _ in range(12):
            events = await stage.studio.write(stage.id, 3)
            told = [event for event in events if chance.random() < 0.7]
            stage.tell(*chance.sample(told, len(told)), *told[:1])

    async def come(number):
        one = client(f"c{number}")
        for _ in range(number):
            await trio.lowlevel.checkpoint()
        since = chance.choice([None, 0, 1])
        answer = await stage.subscribe(one, since, snapshot=chance.random() < 0.5)
        clients.append((one, answer["at"] if since is None else since))
        if answer["snapshot"] is not None:
            assert answer["snapshot"]["episode"]["version"] == answer["at"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for number in range(0, 300, 10):
            nursery.start_soon(come, number)
    stage.tell(await stage.studio.update(stage.id))
    await stage.flush()
    assert len(clients) == 30
    for one, since in clients:
        assert one.offsets == list(range(since + 1, 38 + 1))


async def test_what_everybody_has_heard_is_not_noted_before_they_have(stage, watched):
    """
    A session that ends within a publication is told no position beyond what it was pushed.
    """
    event, *_ = await stage.studio.write(stage.id, 1)
    noted, before = [], stage.hub.heard(event.topic)
    last = SimpleNamespace(push=lambda data: noted.append(stage.hub.heard(event.topic)) or True)
    stage.hub.subscribe(event.topic, "last", last, watched.format, after=before)
    stage.tell(event)
    await stage.flush()
    assert noted[0] == before == event.offset - 1
    assert stage.hub.heard(event.topic) == event.offset


# Crashes


async def test_after_a_crash_subscribers_are_owed_exactly_what_they_have_not_heard(stage, watched):
    """
    What was told in the turn that crashed, and what was committed while nobody listened.
    """
    events = await stage.studio.write(stage.id, 2)
    stage.tell(events[0])
    await watched.wait(lambda it: it.offsets)
    await stage.crash(events[1])
    assert watched.offsets == [2]
    events += await stage.studio.write(stage.id, 2)
    await stage.start()
    assert watched.ids == [event.id for event in events]
    stage.tell(*events, await stage.studio.update(stage.id))
    await watched.wait(lambda it: len(it.offsets) == 5)
    assert watched.offsets == [2, 3, 4, 5, 6]


async def test_what_waits_in_the_mailbox_at_a_crash_is_handled_by_the_next_life(stage, watched, client):
    """
    Also a wish to subscribe: whoever asks during the crash is let in after it.
    """
    await stage.crash()
    event = await stage.studio.update(stage.id)
    stage.tell(event)
    late = client("late")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.subscribe, late, 1)
        nursery.start_soon(stage.start)
    await late.wait(lambda it: it.offsets)
    assert (watched.offsets, late.offsets) == ([2], [2])


async def test_whoever_asks_in_the_turn_that_crashes_is_told_to_ask_again(stage, watched, client):
    """
    It is neither forgotten nor half subscribed.
    """
    again = client("again")
    reply = Reply()
    stage.tell(Crash(), stage.subscribing(again, reply=reply))
    with patience(), pytest.raises(ActorStoppedError):
        await reply.wait()
    assert again.heard == []
    await stage.start()
    await stage.subscribe(again)
    stage.tell(await stage.studio.update(stage.id))
    await again.wait(lambda it: it.offsets)
    assert again.offsets == watched.offsets == [2]


async def test_a_fresh_actor_owes_nothing_older_than_now(stage, client):
    """
    Nobody listened: nobody missed anything.
    """
    await stage.studio.write(stage.id, 3)
    await stage.start()
    viewer = client("viewer")
    assert (await stage.subscribe(viewer))["at"] == 4
    stage.tell(stage.created)
    await stage.flush()
    assert viewer.offsets == []


# While the database is away


async def test_a_gap_waits_for_the_database(stage, watched, monkeypatch):
    """
    An outage is no crash: nobody is parked for it, and nothing goes out of order meanwhile.
    """
    monkeypatch.setattr(module, "AWAY", 0.01)
    events = await stage.studio.write(stage.id, 3)
    stage.log.away = 3
    stage.tell(events[2])
    await watched.wait(lambda it: len(it.offsets) == 3)
    assert watched.ids == [event.id for event in events]
    assert not stage.ended.is_set()


async def test_a_wish_that_needs_the_database_is_refused_while_it_is_away(stage, watched, client):
    """
    Whoever wished is told why, and the other viewers notice nothing.
    """
    await stage.studio.write(stage.id, 2)
    stage.tell(await stage.studio.update(stage.id))
    await watched.wait(lambda it: len(it.offsets) == 3)
    stage.actor.log.ring.clear()
    stage.log.away = 1
    late = client("late")
    with pytest.raises(StoreUnavailableError):
        await stage.subscribe(late, 1)
    assert late.heard == []
    assert not stage.ended.is_set()
    await stage.subscribe(late, 1)
    assert late.offsets == watched.offsets


async def test_a_life_that_begins_while_the_database_is_away_waits_for_it(stage, watched, monkeypatch):
    """
    Subscribers are owed what they are owed, later.
    """
    monkeypatch.setattr(module, "AWAY", 0.01)
    await stage.crash()
    event = await stage.studio.update(stage.id)
    stage.log.away = 3
    await stage.start()
    assert watched.ids == [event.id]


# Subscribing from a position


@pytest.mark.parametrize("ring, reads", [(100, 0), (3, 1)])
async def test_a_returning_client_gets_exactly_what_it_missed(stage, client, ring, reads):
    """
    From the ring, or from the store when it goes back further.
    """
    await stage.start(ring=ring)
    watcher = client("watcher")
    await stage.subscribe(watcher)
    events = await stage.studio.write(stage.id, 5)
    stage.tell(*events)
    await watcher.wait(lambda it: len(it.offsets) == 5)
    stage.log.reads = 0
    back = client("back")
    answer = await stage.subscribe(back, 2)
    assert (answer["recovered"], answer["at"], answer["snapshot"]) == (True, 6, None)
    assert back.ids == [event.id for event in events[1:]]
    assert back.writes == [5]
    assert stage.log.reads == reads
    stage.tell(await stage.studio.update(stage.id))
    await back.wait(lambda it: len(it.offsets) == 5)
    assert back.offsets == [3, 4, 5, 6, 7]


async def test_a_returning_client_that_missed_nothing_is_told_so(stage, watched, client):
    """
    Recovered, with nothing to bring.
    """
    back = client("back")
    answer = await stage.subscribe(back, 1)
    assert answer == {"subscribed": f"episode:{stage.id}", "at": 1, "recovered": True, "snapshot": None}
    assert (back.offsets, stage.log.reads) == ([], 0)


@pytest.mark.parametrize(
    "since",
    [
        pytest.param(Position(Offset(6), Epoch("other")), id="another epoch"),
        pytest.param(1, id="missed too many"),
        pytest.param(7, id="ahead of the log"),
        pytest.param(-1, id="before the log"),
    ],
)
async def test_a_client_that_cannot_be_brought_up_to_date_gets_a_snapshot(stage, client, since):
    """
    All or nothing: recovered is false, no event is replayed, and the snapshot is how things stand.
    """
    await stage.studio.write(stage.id, 5)
    await stage.start(replay_limit=4 if since == 1 else 100)
    back = client("back")
    answer = await stage.subscribe(back, since)
    assert (answer["recovered"], answer["at"], back.offsets) == (False, 6, [])
    assert answer["snapshot"]["episode"] == (await stage.studio.get(stage.id)).to_json()
    stage.tell(await stage.studio.update(stage.id))
    await back.wait(lambda it: it.offsets)
    assert back.offsets == [7]


async def test_a_client_that_missed_more_bytes_than_may_be_gets_a_snapshot(stage, client):
    """
    A few long events are as much as many short ones; what is owed to one client has a bound.
    """
    await stage.studio.write(stage.id, 5)
    await stage.start(replay_size=200)
    back, near = client("back"), client("near")
    answer = await stage.subscribe(back, 1)
    assert (answer["recovered"], answer["at"], back.offsets) == (False, 6, [])
    assert answer["snapshot"]["episode"] == (await stage.studio.get(stage.id)).to_json()
    assert (await stage.subscribe(near, 5))["recovered"]
    assert near.offsets == [6]


async def test_a_client_that_missed_as_many_as_may_be_is_brought_up_to_date(stage, client):
    """
    The limit belongs to what is replayed.
    """
    await stage.studio.write(stage.id, 5)
    await stage.start(replay_limit=5)
    back = client("back")
    assert (await stage.subscribe(back, 1))["recovered"]
    assert back.offsets == [2, 3, 4, 5, 6]


# Snapshots


async def test_a_snapshot_shows_exactly_what_its_position_says(stage, watched, client):
    """
    The store was ahead of what had been told: that is told now, to the others, and never again.
    """
    events = await stage.studio.write(stage.id, 3)
    new = client("new")
    answer = await stage.subscribe(new, snapshot=True)
    assert (answer["at"], answer["snapshot"]["episode"]["version"]) == (4, 4)
    assert watched.ids == [event.id for event in events]
    stage.tell(*events)
    await stage.flush()
    assert new.offsets == []
    assert watched.offsets == [2, 3, 4]


async def test_a_returning_client_that_also_wants_a_snapshot_misses_nothing(stage, watched, client):
    """
    What the snapshot is ahead of the events told is part of what was missed.
    """
    events = await stage.studio.write(stage.id, 3)
    back = client("back")
    answer = await stage.subscribe(back, 1, snapshot=True)
    assert (answer["recovered"], answer["at"]) == (True, 4)
    assert answer["snapshot"]["episode"]["version"] == 4
    assert back.ids == [event.id for event in events]


async def test_a_snapshot_of_a_deleted_episode_is_behind_its_deletion(stage, watched, client):
    """
    Nothing is there, and nothing comes that would say so once more.
    """
    deleted = await stage.studio.delete(stage.id)
    new = client("new")
    answer = await stage.subscribe(new, snapshot=True)
    assert (answer["at"], answer["snapshot"]["episode"]) == (2, None)
    stage.tell(deleted)
    await stage.flush()
    assert new.offsets == []
    assert watched.ids == [deleted.id]


async def test_a_client_that_is_gone_is_not_subscribed(stage, watched, client):
    """
    Nor does it keep the actor alive.
    """
    gone = client("gone")
    gone.alive = False
    await stage.subscribe(gone)
    assert stage.hub.subscribers(stage.created.topic) == 1


async def test_subscribing_once_more_replaces_the_subscription(stage, watched):
    """
    A client that asks twice hears everything once.
    """
    await stage.subscribe(watched, 1)
    stage.tell(await stage.studio.update(stage.id))
    await stage.flush()
    assert watched.offsets == [2]
    assert attrs.asdict(stage.hub.statistics())["subscriptions"] == 1
