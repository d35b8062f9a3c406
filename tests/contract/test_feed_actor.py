"""The feed: everything committed is handed on, in commit order, to all who need it."""

import itertools
from contextlib import asynccontextmanager

import pytest
import trio

from engine.actors import feed as module
from engine.actors.catalog import SubscribeCatalog, Told
from engine.actors.effects import Fed
from engine.actors.messages import Channels
from engine.actors.topic_log import Committed
from engine.domain.event import LogPlace
from engine.errors import ParkedError
from engine.runtime.mailbox import ask
from engine.store.bell import Bell
from engine.store.postgres import Database
from tests.contract.kitchen import Kitchen, episode_of
from tests.contract.stage import catalog_without_store
from tests.contract.studio import PATIENCE, Log
from tests.patience import patience


@pytest.fixture
async def kitchen(studio):
    """
    A feed that is not running yet.
    """
    async with trio.open_nursery() as nursery:
        yield Kitchen(studio=studio, log=Log(studio.store.log), nursery=nursery)
        nursery.cancel_scope.cancel()


async def test_what_is_committed_here_is_told_at_once_to_who_is_nearest(kitchen):
    """
    Without a task switch: the episode's actor if it runs, and the catalog.
    """
    await kitchen.start()
    first, second = [await kitchen.studio.create() for _ in range(2)]
    kitchen.episodes.watch(first)
    kitchen.feed.committed(first)
    kitchen.feed.committed(second)
    assert kitchen.episodes.told(first) == [first]
    assert kitchen.catalog.drain_nowait(10) == [Told((first,)), Told((second,))]


async def test_everything_committed_is_handed_on_in_commit_order(kitchen):
    """
    To the catalog, to the plugins, and to the episodes that are watched, whoever committed it.
    """
    before = await kitchen.studio.create("before")
    await kitchen.start(batch=2)
    kitchen.episodes.watch(before)
    events = [await kitchen.studio.create(title) for title in "abc"]
    events.append(await kitchen.studio.update(episode_of(before.topic)))
    kitchen.feed.wake()
    assert await kitchen.brought(4) == events
    assert kitchen.episodes.told(before) == events[3:]
    for mailbox in kitchen.effects:
        with patience():
            fed = [await mailbox.receive(), await mailbox.receive()]
        assert list(itertools.chain(*(message.events for message in fed))) == events
        assert all(len(message.events) <= 2 for message in fed)
        # Each begins where the one before it ended: a plugin sees whether it missed one.
        ends = [message.events[-1].place for message in fed]
        assert [message.after for message in fed][1:] == ends[:-1]
        assert before.place <= fed[0].after < events[0].place


async def test_told_and_brought_is_heard_once(kitchen, client):
    """
    The feed and a real catalog together: every event once, the told ones early.
    """
    hub, viewer = Channels(), client("viewer")
    catalog = catalog_without_store(kitchen.catalog, hub)
    await kitchen.nursery.start(catalog.run)
    await kitchen.start(poll=0.01)

    def subscribing(reply):
        return SubscribeCatalog(
            session=viewer.session, outlet=viewer, format=viewer.format, opening=None, reply=reply
        )

    await ask(kitchen.catalog, subscribing)
    events = []
    for number in range(20):
        if number % 3:
            events += await kitchen.commit(f"{number}")
        else:
            events.append(await kitchen.studio.create(f"{number}"))
    await viewer.wait(lambda it: len(it.ids) >= len(events))
    last = await kitchen.commit("last")
    await viewer.wait(lambda it: last[0].id in it.ids)
    await trio.sleep(0.1)
    assert sorted(viewer.ids) == sorted(event.id for event in events + last)


async def test_an_episode_without_room_is_told_the_newest_later(kitchen):
    """
    It fetches what is between by itself: one message is owed, however many were refused.
    """
    await kitchen.start(poll=0.02)
    created = await kitchen.studio.create()
    await kitchen.brought(1)
    kitchen.episodes.watch(created, room=1)
    events = await kitchen.studio.write(episode_of(created.topic), 4)
    assert await kitchen.brought(4) == events
    assert kitchen.episodes.told(created) == events[:1]
    mailbox = kitchen.episodes.mailboxes[episode_of(created.topic)]
    with patience():
        assert await mailbox.receive() == Committed(events[3])
    reads = kitchen.log.reads
    with patience():
        while kitchen.log.reads < reads + 3:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert kitchen.episodes.told(created) == []


@pytest.mark.parametrize("how", ["full", "parked", "closed"])
async def test_whoever_cannot_be_told_holds_up_nobody(kitchen, how):
    """
    Full, parked or stopped: the writer does not notice, and all others are told.
    """
    await kitchen.start()
    created = await kitchen.studio.create()
    kitchen.episodes.watch(created, room=1)
    episode, plugin = kitchen.episodes.mailboxes[episode_of(created.topic)], kitchen.effects[0]
    match how:
        case "full":
            plugin.capacity = 1
            for mailbox in (episode, plugin):
                mailbox.tell_nowait(Fed(after=LogPlace(0, 0), events=()))
        case "parked":
            episode.refuse(lambda: ParkedError("parked"))
        case "closed":
            episode.close()
            plugin.close()
    event = await kitchen.studio.update(episode_of(created.topic))
    kitchen.feed.committed(event)
    assert await kitchen.brought(2) == [created, event]
    with patience():
        assert (await kitchen.effects[1].receive()).events == (created, event)


async def test_the_catalogs_room_is_waited_for(kitchen):
    """
    It must not miss anything, and cannot fetch it.
    """
    kitchen.catalog.capacity = 1
    await kitchen.start(batch=1)
    events = [await kitchen.studio.create(title) for title in "abc"]
    kitchen.feed.wake()
    assert await kitchen.brought(3) == events


async def test_the_feed_waits_for_the_database_and_leaves_nothing_out(kitchen, monkeypatch):
    """
    An outage is no crash.
    """
    monkeypatch.setattr(module, "AWAY", 0.01)
    await kitchen.start()
    kitchen.log.away = 3
    events = await kitchen.commit("a", "b")
    assert await kitchen.brought(2) == events
    kitchen.bell.away = True
    more = await kitchen.commit("c")
    assert await kitchen.brought(1) == more
    await trio.sleep(2 * module.RING_INTERVAL)
    kitchen.bell.away = False
    more = await kitchen.commit("d")
    assert await kitchen.brought(1) == more


async def test_what_an_older_transaction_holds_back_is_told_early_and_brought_late(kitchen):
    """
    The catalog hears of it at once, plugins when their order is certain; the log is asked now and then
    meanwhile, not without a pause.
    """
    await kitchen.start()
    async with kitchen.studio.transaction() as late:
        held = await late.create("late")
        events = await kitchen.commit("a", "b")
        with patience():
            assert [await kitchen.catalog.receive() for _ in events] == [Told((event,)) for event in events]
        kitchen.log.reads = 0
        await trio.sleep(0.3)
        assert len(kitchen.catalog) == len(kitchen.effects[0]) == 0
        assert 0 < kitchen.log.reads <= 0.3 / module.HELD_BACK
    assert (brought := await kitchen.brought(3)) == [held, *events]
    assert brought[1] is events[0], "what was told is not read again"
    with patience():
        assert (await kitchen.effects[0].receive()).events == (held, *events)


async def test_what_it_is_woken_for_is_looked_for_again_if_an_older_transaction_holds_it_back(
    kitchen,
):
    """
    A plugin that tells people something, or another node, names no place: the log is read again soon, and
    less and less often.
    """
    await kitchen.start()
    async with kitchen.studio.transaction() as late:
        held = await late.create("late")
        event = await kitchen.studio.create("a")
        kitchen.log.reads = 0
        kitchen.feed.wake()
        with patience():
            while kitchen.log.reads < 3:  # noqa: ASYNC110 (no event)
                await trio.sleep(0.01)
    assert await kitchen.brought(2) == [held, event]
    assert kitchen.log.reads < 20


async def test_what_others_commit_is_found_by_polling_if_nobody_rings(kitchen):
    """
    The bell is a hint only.
    """
    await kitchen.start(poll=0.02)
    event = await kitchen.studio.create()
    assert await kitchen.brought(1) == [event]
    assert kitchen.bell.rung == 0


async def test_others_are_woken_for_what_is_committed_here_once_in_a_while(kitchen, monkeypatch):
    """
    A burst rings at its begin and at its end, not for every event.
    """
    monkeypatch.setattr(module, "RING_INTERVAL", 0.2)
    await kitchen.start()
    for number in range(10):
        await kitchen.commit(f"{number}")
        await kitchen.brought(1)
    assert kitchen.bell.rung <= 2
    with patience():
        while kitchen.feed._rung < kitchen.feed._told:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert 1 <= kitchen.bell.rung <= 3


async def test_the_place_outlives_a_crash_of_the_task(kitchen):
    """
    The next life goes on behind what has been handed on.
    """
    async with trio.open_nursery() as life:
        kitchen.nursery = life
        await kitchen.start(poll=0.01)
        first = await kitchen.studio.create()
        assert await kitchen.brought(1) == [first]
        life.cancel_scope.cancel()
    second = await kitchen.studio.create()
    async with trio.open_nursery() as life:
        await life.start(kitchen.feed.run)
        assert await kitchen.brought(1) == [second]
        life.cancel_scope.cancel()


# The bell, on a real database


@asynccontextmanager
async def listening(store, conninfo):
    """
    A node that listens; `heard()` waits for the next ring.
    """
    sender, receiver = trio.open_memory_channel(100)
    bell = Bell(database=Database(pool=store.background, deadline=PATIENCE), conninfo=conninfo, node="there")

    async def heard():
        with patience():
            await receiver.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.listen, lambda: sender.send_nowait(None))
        # It listens: whatever was committed before that is to be read now.
        await heard()
        yield bell, heard, receiver
        nursery.cancel_scope.cancel()


async def test_nodes_wake_each_other_and_not_themselves(store, migrated_database):
    """
    A ring of another node is heard; one's own is not.
    """
    async with listening(store, migrated_database) as (bell, heard, receiver):
        await bell.ring()
        await store.bell.ring()
        await heard()
        await trio.sleep(0.05)  # for one too many to arrive
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()


async def test_a_listener_whose_connection_breaks_listens_again(studio, store, migrated_database):
    """
    And reads the log, because nobody knows what it has not heard meanwhile.
    """
    listeners = (
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where query like 'listen%%' and datname = current_database()"
    )
    async with listening(store, migrated_database) as (_, heard, _):
        assert await studio.rows(listeners) == [(True,)]
        await heard()
        await store.bell.ring()
        await heard()
