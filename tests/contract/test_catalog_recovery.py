"""Coming back to the catalog: what was missed, all of it and nothing twice that an id does not tell."""

import random

import pytest
import trio

from engine.actors.retention import Retention
from engine.domain.event import CatalogPosition, Epoch, LogPlace
from tests.contract.lobby import NEVER, Guest, Listener


def ids(events):
    return [event.id for event in events]


async def cut(studio, *, age=NEVER, count=10_000):
    """
    Let retention cut the log, one round.
    """
    retention = Retention(log=studio.store.log, age=age, count=count, interval=NEVER)
    topics = await studio.rows("select distinct topic from events")
    retention._long = dict.fromkeys(topic for (topic,) in topics)
    await retention._round()


async def test_a_crowd_that_cannot_recover_is_shown_the_state_that_was_read_for_one(lobby, client):
    """
    Each of them would hold up everybody's events; what is published in between is in what the next is shown.
    """
    await lobby.start()
    read, reads = lobby.actor.snapshot, []

    async def snapshot():
        reads.append(await read())
        return reads[-1]

    lobby.actor.snapshot = snapshot
    lost = CatalogPosition(LogPlace(1, 1), Epoch("another"))
    for total in range(1, 4):
        await lobby.brought((await lobby.write())[0])
        for number in range(3):
            shown = (await lobby.subscribe(client(f"back-{total}-{number}"), lost))["snapshot"]
            assert shown["total"] == total
        assert len(reads) == total


async def test_what_is_recent_comes_from_memory(lobby, client):
    """
    In commit order, without reading the database more than once in a life.
    """
    await lobby.start()
    start = lobby.actor.position
    events = await lobby.write(5)
    middle = await lobby.brought(events[2])
    await lobby.brought(events[4])
    await lobby.subscribe(client("first"), start)
    reads = lobby.log.reads
    for since, missed in ((start, events), (middle, None), (lobby.actor.position, [])):
        back = client("back")
        answer = await lobby.subscribe(back, since)
        assert (answer["recovered"], answer["at"], answer["snapshot"]) == (
            True,
            lobby.actor.position.offset,
            None,
        )
        wanted = [event for event in events if event.place > since.place] if missed is None else missed
        assert back.ids == ids(wanted)
    assert lobby.log.reads == reads or start.place < lobby.actor.ring[0].place


async def test_what_is_older_comes_from_the_log(lobby, client):
    """
    As long as it is not too much; and a position in the middle of it is as good.
    """
    await lobby.start(realtime_replay_ring=1, realtime_replay_limit=6)
    start = lobby.actor.position
    events = await lobby.write(6)
    await lobby.brought(events[-1])
    lobby.actor.ring.clear()
    for first in (0, 3, 6):
        since = start if first == 0 else CatalogPosition(events[first - 1].place, start.epoch)
        back = client(f"back-{first}")
        assert (await lobby.subscribe(back, since))["recovered"]
        assert back.ids == ids(events[first:])
    assert lobby.log.reads > 1


async def test_a_restart_of_the_node_changes_nothing_for_whoever_comes_back(lobby, client):
    """
    Positions outlive the node, and so does what is behind them.
    """
    await lobby.start()
    start = lobby.actor.position
    before = await lobby.write(3)
    position = await lobby.brought(before[-1])
    while_away = await lobby.write(2)
    await lobby.start()
    after = await lobby.write(2)
    await lobby.brought(after[-1])
    for since, missed in ((start, before + while_away + after), (position, while_away + after)):
        back = client("back")
        assert (await lobby.subscribe(back, since))["recovered"]
        assert back.ids == ids(missed)


async def test_whoever_missed_too_much_gets_a_snapshot(lobby, client):
    """
    One more than the limit: nothing is replayed, and the present state is shown.
    """
    await lobby.start(realtime_replay_ring=1, realtime_replay_limit=3)
    start = lobby.actor.position
    events = await lobby.write(4)
    position = await lobby.brought(events[-1])
    back = client("back")
    answer = await lobby.subscribe(back, start)
    assert (answer["recovered"], answer["at"], back.ids) == (False, position.offset, [])
    assert answer["snapshot"]["total"] == 4
    lobby.hub.drop_session(back.session)
    enough = client("enough")
    assert (await lobby.subscribe(enough, CatalogPosition(events[0].place, start.epoch)))["recovered"]
    assert enough.ids == ids(events[1:])


@pytest.mark.parametrize("restarted", [False, True])
async def test_whoever_is_owed_what_retention_cut_gets_a_snapshot(lobby, client, studio, restarted):
    """
    Also when what was cut, by count, stood in the middle of what is still there.
    """
    await lobby.start(realtime_replay_ring=1, realtime_replay_limit=50)
    start = lobby.actor.position
    (quiet,) = await lobby.write()
    noisy = await studio.create()
    changes = await studio.write(noisy.topic.removeprefix("episode:"), 5)
    await lobby.brought(changes[-1])
    await cut(studio, count=2)
    if restarted:
        await lobby.start(realtime_replay_ring=1, realtime_replay_limit=50)
    else:
        lobby.actor.ring.clear()
    since_quiet = CatalogPosition(quiet.place, start.epoch)
    for number, since in enumerate((start, since_quiet)):
        back = client(f"back-{number}")
        answer = await lobby.subscribe(back, since)
        assert (answer["recovered"], back.ids) == (False, [])
        assert answer["snapshot"]["total"] == 2
    late = client("late")
    assert (await lobby.subscribe(late, CatalogPosition(changes[-3].place, start.epoch)))["recovered"]
    assert late.ids == ids(changes[-2:])


async def test_what_is_cut_while_it_is_looked_for_is_not_passed_over(lobby, client, studio):
    """
    Retention may come between any two reads of a recovery: all or nothing all the same.
    """
    await lobby.start(realtime_replay_ring=1, realtime_replay_limit=50)
    start = lobby.actor.position
    noisy = await studio.create()
    changes = await studio.write(noisy.topic.removeprefix("episode:"), 5)
    await lobby.brought(changes[-1])
    await lobby.subscribe(client("first"), start)
    lobby.actor.ring.clear()

    async def retention():
        await cut(studio, count=2)

    lobby.log.between = retention
    back = client("back")
    answer = await lobby.subscribe(back, start)
    assert lobby.log.between is None
    assert (back.ids if answer["recovered"] else ids([noisy, *changes])) == ids([noisy, *changes])
    assert answer["recovered"] or answer["snapshot"]["total"] == 1


async def test_a_position_of_another_order_recovers_nothing(lobby, client):
    """
    Another epoch, a place that is still to come, one that no log ever had: a snapshot each.
    """
    await lobby.start()
    (event,) = await lobby.write()
    position = await lobby.brought(event)
    place = position.place
    for number, since in enumerate(
        (
            CatalogPosition(place, Epoch("another")),
            CatalogPosition(LogPlace(place.xid + 1, 0), position.epoch),
            CatalogPosition(LogPlace(10**18 - 1, 10**19 - 1), position.epoch),
        )
    ):
        back = client(f"back-{number}")
        answer = await lobby.subscribe(back, since)
        assert (answer["recovered"], answer["snapshot"]["total"], back.ids) == (False, 1, [])


async def test_the_largest_number_that_a_position_has_room_for_harms_nobody(lobby, client):
    """
    A position is a client's word; PostgreSQL's numbers are shorter.
    """
    await lobby.start(realtime_replay_ring=1, realtime_replay_limit=50)
    events = await lobby.write(3)
    position = await lobby.brought(events[-1])
    lobby.actor.ring.clear()
    odd = CatalogPosition.parsed("1-9999999999999999999", position.epoch)
    back = client("back")
    assert (await lobby.subscribe(back, odd))["recovered"]
    assert back.ids == ids(events)


@pytest.mark.parametrize("text", ["", "7", "-1-2", "1--2", "1-2-3", "1-2 ", "a-b", "1" * 19 + "-1", "１-２"])
def test_what_no_position_looks_like_is_none(text):
    """
    Garbage is told from positions before it gets anywhere.
    """
    assert CatalogPosition.parsed(text, Epoch("e")) is None


async def test_what_was_told_ahead_of_the_feed_is_in_the_replay(lobby, client, studio):
    """
    Everybody else has heard it already; the position is behind it, so it may come again.
    """
    await lobby.start()
    start = lobby.actor.position
    live = client("live")
    await lobby.subscribe(live)
    async with studio.transaction() as open_:
        held = await open_.create()
        ahead = await lobby.write(2)
        await live.wait(lambda it: it.ids == ids(ahead))
        back = client("back")
        answer = await lobby.subscribe(back, start)
        assert (answer["recovered"], answer["at"]) == (True, start.offset)
        assert back.ids == ids(ahead)
    for each in (live, back):
        await each.wait(lambda it: len(it.ids) == 3)
        assert each.ids == ids([*ahead, held])
    last = client("last")
    await lobby.brought(held)
    await lobby.brought(ahead[-1])
    await lobby.subscribe(last, start)
    assert last.ids == ids([held, *ahead])


async def test_a_restart_while_an_older_transaction_is_open_loses_nobody_s_place(lobby, client, studio):
    """
    What the client heard ahead of it, the new life has not heard of yet: it is told to the others, once.
    """
    await lobby.start()
    (old,) = await lobby.write()
    await lobby.brought(old)
    before = client("before")
    await lobby.subscribe(before)
    async with studio.transaction() as open_:
        held = await open_.create()
        ahead = await lobby.write()
        changed = await studio.update(old.topic.removeprefix("episode:"))
        lobby.feed.committed(changed)
        ahead.append(changed)
        await before.wait(lambda it: it.ids == ids(ahead))
        kept = lobby.actor.heard
        away = await lobby.write(told=False)
        await lobby.start()
        live, back = client("live"), client("back")
        await lobby.subscribe(live)
        answer = await lobby.subscribe(back, kept)
        assert (answer["recovered"], answer["snapshot"]) == (True, None)
        assert back.ids == ids(away)
        assert live.ids == ids([*ahead, *away])
    await lobby.brought(changed)
    (last,) = await lobby.write()
    await back.wait(lambda it: it.ids[-1] == last.id)
    assert back.ids == ids([*away, held, last])
    assert sorted(live.ids) == sorted(ids([*ahead, *away, held, last]))


async def test_what_has_overtaken_an_earlier_change_of_the_same_episode_waits_for_it(lobby, client, studio):
    """
    Their writers run side by side, on other nodes too: a list would go on showing the older state.
    """
    await lobby.start()
    live, other = client("live"), client("other")
    await lobby.subscribe(live)
    created = await studio.create()
    changes = await studio.write(created.topic.removeprefix("episode:"), 3)
    for event in (changes[1], created, changes[0], changes[2]):
        lobby.feed.committed(event)
    await lobby.subscribe(other)
    assert live.ids == ids([created, *changes])[: len(live.ids)]
    await live.wait(lambda it: len(it.ids) == 4)
    assert live.offsets == [1, 2, 3, 4]


STEPS = ["write", "write", "hold", "commit", "guest", "guest", "listener", "listener", "change", "restart"]


@pytest.mark.parametrize("seed", range(6))
async def test_whoever_comes_and_goes_while_transactions_are_open_misses_nothing(lobby, studio, seed):
    """
    Commits in another order than their numbers, told or not, and restarts of the node in between.
    """
    chance = random.Random(seed)
    await lobby.start(realtime_replay_ring=1 + chance.randrange(30), realtime_replay_limit=500)
    guests = [Guest(name=f"guest-{n}", lobby=lobby, position=lobby.actor.position) for n in range(4)]
    listeners = [Listener(name=f"listener-{n}", lobby=lobby, position=lobby.actor.heard) for n in range(4)]
    written, open_ = [], []

    async def hold(end, task_status):
        async with studio.transaction() as transaction:
            written.append(await transaction.create())
            task_status.started()
            await end.wait()

    async with trio.open_nursery() as holding:
        for _ in range(120):
            match chance.choice(STEPS):
                case "write":
                    written += await lobby.write(told=chance.random() < 0.7)
                case "change" if written:
                    event = chance.choice(written)
                    if await studio.episodes.get(event.topic.removeprefix("episode:")) is not None:
                        changed = await studio.update(event.topic.removeprefix("episode:"))
                        written.append(changed)
                        lobby.feed.committed(changed)
                case "hold" if len(open_) < 2:
                    open_.append(trio.Event())
                    await holding.start(hold, open_[-1])
                case "commit" if open_:
                    open_.pop(chance.randrange(len(open_))).set()
                case "guest":
                    guest = chance.choice(guests)
                    if guest.is_here:
                        guest.go()
                    else:
                        await guest.come()
                case "listener":
                    listener = chance.choice(listeners)
                    if listener.is_here:
                        listener.go(chance.randrange(5))
                    else:
                        assert await listener.come()
                case "restart" if chance.random() < 0.3:
                    for guest in guests:
                        if guest.is_here:
                            guest.go()
                    for listener in listeners:
                        if listener.is_here:
                            listener.go(chance.randrange(5))
                    await lobby.start(realtime_replay_ring=10, realtime_replay_limit=500)
        for end in open_:
            end.set()
    for event in written:
        await lobby.brought(event)
    for guest in guests:
        if guest.is_here:
            guest.go()
        await guest.come()
        guest.go()
        assert all(guest.recovered)
        once = list(dict.fromkeys(guest.heard))
        assert sorted(once) == sorted(ids(written))
        places = {event.id: event for event in written}
        for topic in {event.topic for event in written}:
            heard = [places[id].offset for id in once if places[id].topic == topic]
            assert heard == sorted(heard)
    for listener in listeners:
        if listener.is_here:
            listener.go(5)
        assert await listener.come()
        listener.go(1000)
        assert sorted(listener.heard) == sorted(ids(written))
