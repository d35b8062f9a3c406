"""The actor of a plugin's effects: every event once and in order, through crashes and outages."""

import random
from contextlib import suppress

import pytest
import trio

from engine.actors import effects as module
from engine.actors.effects import Fed
from engine.errors import MailboxFullError
from tests.contract.theatre import START, Theatre, title, write
from tests.patience import patience

# Order, and once


@pytest.mark.parametrize("many", [False, True])
async def test_every_event_is_handed_over_once_in_commit_order(theatre, many):
    """
    What was in the log before, and what the feed brings.
    """
    await theatre.write("a", "b")
    await theatre.start(write, many=many)
    await theatre.until(lambda: theatre.actor.handled_total == 2)
    await theatre.feed("c", "d", "e")
    await theatre.until(lambda: theatre.actor.handled_total == 5)
    assert await theatre.written() == list("abcde")
    assert {attempt for attempt, _ in theatre.calls} == {1}
    assert [many or len(titles) == 1 for _, titles in theatre.calls] == [True] * len(theatre.calls)


async def test_what_the_feed_brings_need_not_be_read_again(theatre):
    """
    In step with the feed the log is left alone; a hole, and only that, is filled from it.
    """
    reads = []

    class Log:
        async def after(self, place, limit):
            reads.append(limit)
            return await theatre.studio.store.log.after(place, limit)

    theatre.log = Log()
    await theatre.start(write)
    await theatre.until(lambda: reads)
    a, b, c = await theatre.write("a", "b", "c")
    await theatre.mailbox.tell(Fed(after=START, events=(a,)))
    await theatre.mailbox.tell(Fed(after=a.place, events=(b, c)))
    await theatre.until(lambda: theatre.actor.handled_total == 3)
    assert len(reads) == 1
    d, e, f = await theatre.write("d", "e", "f")
    await theatre.mailbox.tell(Fed(after=d.place, events=(e,)))
    await theatre.mailbox.tell(Fed(after=e.place, events=(f,)))
    await theatre.until(lambda: theatre.actor.handled_total == 6)
    assert await theatre.written() == list("abcdef")


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_feed_repeats_or_leaves_out_every_event_is_handled_once(theatre, seed):
    """
    Full mailboxes, restarted feeds, late news: the log has the last word.
    """
    chance = random.Random(seed)
    await theatre.start(write, many=bool(seed % 2))
    last, sent = START, []
    for number in range(25):
        events = await theatre.write(*[f"{number}.{index}" for index in range(chance.randrange(1, 4))])
        sent.append(Fed(after=last, events=tuple(events)))
        last = events[-1].place
        if chance.random() < 0.6:
            again = chance.choice(sent)
            for message in (sent[-1], again) if chance.random() < 0.5 else (sent[-1],):
                with suppress(MailboxFullError):
                    theatre.mailbox.tell_nowait(message)
        if chance.random() < 0.3:
            await trio.sleep(0.01)
    await theatre.mailbox.tell(Fed(after=last, events=()))
    everything = [title(event) for message in sent for event in message.events]
    await theatre.until(lambda: theatre.actor.handled_total == len(everything))
    assert await theatre.written() == everything


async def test_news_that_finds_no_room_is_not_forgotten(theatre):
    """
    The feed does not wait for a busy plugin, nor tells it again: the plugin knows that it was refused.
    """
    free = trio.Event()

    async def busy(context, events):
        await free.wait()
        await write(context, events)

    last = (await theatre.write("a"))[-1].place
    await theatre.start(busy)
    await theatre.until(lambda: theatre.calls)
    for name in "bcde":
        events = await theatre.write(name)
        theatre.mailbox.tell_nowait(Fed(after=last, events=tuple(events)))
        last = events[-1].place
    events = await theatre.write("f")
    with pytest.raises(MailboxFullError):
        theatre.mailbox.tell_nowait(Fed(after=last, events=tuple(events)))
    free.set()
    await theatre.until(lambda: theatre.actor.handled_total == 6)
    assert await theatre.written() == list("abcdef")


async def test_two_nodes_with_the_same_plugin_handle_every_event_once(theatre):
    """
    For effects that write through the transaction; whoever loses reads on from where the other is.
    """
    here = theatre
    there = Theatre(studio=here.studio, log=here.log, nursery=here.nursery)
    await here.start(write)
    await there.start(write)
    for number in range(6):
        last = (await here.feed(f"{number}"))[-1].place
        await there.mailbox.tell(Fed(after=last, events=()))
    await here.until(lambda: last in (here.actor.cursor.place, there.actor.cursor.place))
    assert sorted(await here.written()) == list("012345")


# Crashes and outages


async def test_a_crash_in_the_middle_of_an_effect_leaves_it_undone_and_to_be_done_again(theatre):
    """
    What it had written is undone with its cursor; the next life does it once.
    """
    reached = trio.Event()

    async def hang(context, events):
        await write(context, events)
        reached.set()
        await trio.sleep_forever()

    await theatre.write("a", "b")
    life = await theatre.start(hang)
    with patience():
        await reached.wait()
    life.cancel()
    assert await theatre.written() == []
    await theatre.start(write)
    await theatre.until(lambda: theatre.actor.handled_total == 2)
    assert await theatre.written() == ["a", "b"]
    assert theatre.studio.store.background.statistics().in_use <= 1


async def test_an_outage_is_no_failure_of_the_plugin(theatre, monkeypatch):
    """
    The connection breaks under its transaction, again and again: nothing is counted, all is done once.
    """
    monkeypatch.setattr(module, "AWAY", 0.01)
    outages = 5

    async def hook(context, events):
        nonlocal outages
        await write(context, events)
        if outages:
            outages -= 1
            async with context.transaction() as transaction:
                (row,) = await transaction.fetch("select pg_backend_pid() as pid")
                await theatre.studio.rows("select pg_terminate_backend(%s, 5000)", row["pid"])
                await transaction.execute("select 1")

    await theatre.write("a", "b")
    await theatre.start(hook)
    await theatre.until(lambda: theatre.actor.handled_total == 2)
    assert await theatre.written() == ["a", "b"]
    assert (theatre.actor.failed_total, theatre.actor.quarantined_at) == (0, None)
    assert await theatre.studio.store.cursors.failures("p", 10) == []


async def test_while_the_log_is_away_the_plugin_waits(theatre, monkeypatch):
    """
    Nothing is skipped when it is back.
    """
    monkeypatch.setattr(module, "AWAY", 0.01)
    away = [3]

    class Log:
        async def after(self, place, limit):
            if away[0]:
                away[0] -= 1
                raise module.StoreUnavailableError("away")
            return await theatre.studio.store.log.after(place, limit)

    theatre.log = Log()
    await theatre.write("a")
    await theatre.start(write)
    await theatre.until(lambda: theatre.actor.handled_total == 1)
    assert (await theatre.written(), theatre.actor.failed_total) == (["a"], 0)


async def test_what_another_node_has_handled_meanwhile_is_no_failure_of_the_plugin(theatre):
    """
    Its rows are in the way of ours before it shows that the cursor has moved: that is where to go on from.
    """
    store = theatre.studio.store
    await theatre.studio.rows("create unique index on written (title)")
    _, b = await theatre.write("a", "b")

    async def write_late(context, events):
        if not await theatre.written():
            # Another node, with the same plugin, is faster.
            winner = store.cursors.begin(theatre.actor.cursor)
            await winner.execute("insert into written (title) values ('a'), ('b')")
            await winner.commit(b)
        await write(context, events)

    await theatre.start(write_late, many=True)
    await theatre.until(lambda: theatre.actor.cursor.place == b.place)
    await theatre.feed("c")
    await theatre.until(lambda: theatre.actor.handled_total == 1)
    assert await theatre.written() == list("abc")
    assert (theatre.actor.failed_total, theatre.actor.last_error) == (0, None)
    assert await store.cursors.failures("p", 10) == []
