"""The actor of a plugin's effects: a plugin that keeps failing is stopped, and loses nothing by it."""

import threading
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.contract.studio import PATIENCE
from tests.contract.theatre import SETTINGS, START, Bug, title, write, write_but_fail_at


class SilentError(Exception):
    """
    One that cannot even be told.
    """

    def __str__(self) -> str:
        raise ValueError("no text")


# Quarantine


async def test_a_plugin_that_always_raises_is_quarantined_and_resumed(theatre):
    """
    The place of the bad event is kept, and why; what comes meanwhile waits; resumed, it is all done once.
    """
    hook, failing = write_but_fail_at("bad")
    a, bad = await theatre.write("a", "bad")
    await theatre.start(hook)
    cursor = await theatre.quarantined()
    assert cursor.place == a.place
    assert cursor.reason == f"Bug: bad (event {bad.id}, 3 attempts)"
    assert theatre.calls == [(1, ["a"]), (1, ["bad"]), (1, ["a"]), (1, ["bad"]), (2, ["bad"]), (3, ["bad"])]
    failures = await theatre.studio.store.cursors.failures("p", 10)
    assert [(one.event_id, one.attempt) for one in failures] == [(bad.id, 3), (bad.id, 2), (bad.id, 1)]
    assert "raise Bug(title(event))" in failures[0].traceback
    await theatre.feed("c")
    await theatre.feed("d")
    assert await theatre.written() == ["a"]
    failing.clear()
    await theatre.resume()
    await theatre.until(lambda: theatre.actor.handled_total == 4)
    assert await theatre.written() == ["a", "bad", "c", "d"]
    assert (await theatre.studio.store.cursors.open("p", START)).quarantined_at is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Bug("caf\udce9 \0"), "Bug: caf? �"),
        (SilentError(), "SilentError: (its text cannot be told: ValueError)"),
        (KeyboardInterrupt("no"), "ForeignExitError: on_event must not end the node: KeyboardInterrupt no"),
    ],
    ids=["unstorable", "silent", "exit"],
)
async def test_an_error_that_cannot_be_kept_as_it_is_quarantines_like_any_other(theatre, error, text):
    """
    It is kept as well as it can be.
    """

    async def hook(context, events):
        raise error

    [event] = await theatre.write("a")
    await theatre.start(hook)
    cursor = await theatre.quarantined()
    assert cursor.reason == f"{text} (event {event.id}, 3 attempts)"
    [last, *_] = await theatre.studio.store.cursors.failures("p", 10)
    assert last.error == text


async def test_a_quarantine_outlives_the_node(theatre):
    """
    The next life calls nothing until an operator resumes it.
    """
    hook, failing = write_but_fail_at("bad")
    await theatre.write("bad", "b")
    life = await theatre.start(hook)
    await theatre.quarantined()
    life.cancel()
    theatre.calls.clear()
    await theatre.start(hook)
    await theatre.until(lambda: theatre.actor.quarantined_at)
    await theatre.feed("c")
    assert theatre.calls == []
    failing.clear()
    await theatre.resume()
    await theatre.until(lambda: theatre.actor.handled_total == 3)
    assert await theatre.written() == ["bad", "b", "c"]


async def test_a_resumed_plugin_that_fails_again_has_all_its_attempts(theatre):
    """
    And is then quarantined again.
    """
    hook, _ = write_but_fail_at("bad")
    await theatre.write("bad")
    await theatre.start(hook)
    await theatre.quarantined()
    await theatre.resume()
    await theatre.quarantined()
    assert [attempt for attempt, _ in theatre.calls] == [1, 2, 3, 1, 2, 3]


async def test_a_plugin_that_keeps_its_transaction_open_is_over_its_budget_soon(theatre):
    """
    Until it ends the log is held up for everybody; without a transaction the longer budget holds.
    """
    theatre.settings = attrs.evolve(theatre.settings, transaction_budget=0.05)

    async def hook(context, events):
        if title(events[0]) == "bad":
            await write(context, events)
            await trio.sleep_forever()
        await trio.sleep(0.1)
        await write(context, events)

    await theatre.write("patient", "bad")
    await theatre.start(hook)
    await theatre.quarantined()
    assert await theatre.written() == ["patient"]
    assert "transaction open" in theatre.actor.last_error


async def test_failures_that_are_overcome_do_not_add_up(theatre):
    """
    A plugin that always manages in the end is never quarantined.
    """
    attempts = {}

    async def hook(context, events):
        await write(context, events)
        attempts[title(events[0])] = attempts.get(title(events[0]), 0) + 1
        if attempts[title(events[0])] < 3:
            raise Bug

    await theatre.write(*"abcd")
    await theatre.start(hook)
    await theatre.until(lambda: theatre.actor.handled_total == 4)
    assert await theatre.written() == list("abcd")
    assert theatre.actor.quarantined_at is None


@pytest.mark.parametrize("many", [False, True])
async def test_one_bad_event_in_a_batch_harms_no_other(theatre, many):
    """
    The others are done exactly once, and only the bad one is to blame.
    """
    hook, failing = write_but_fail_at("bad")
    events = await theatre.write("a", "b", "bad", "d", "e")
    await theatre.start(hook, many=many)
    cursor = await theatre.quarantined()
    assert (cursor.place, await theatre.written()) == (events[1].place, ["a", "b"])
    blamed = {one.event_id for one in await theatre.studio.store.cursors.failures("p", 10)}
    assert blamed == {events[2].id}
    failing.clear()
    await theatre.resume()
    await theatre.until(lambda: theatre.actor.handled_total == 5)
    assert await theatre.written() == ["a", "b", "bad", "d", "e"]


async def test_effects_outside_of_the_database_are_not_repeated_for_the_next_ones_failure(theatre):
    """
    At least once; but what is done, one event at a time, stays done, and counts.
    """
    done, fail = [], [1]

    async def hook(context, events):
        if title(events[0]) == "c" and fail and fail.pop():
            raise Bug
        done.append(title(events[0]))

    await theatre.write(*"abcd")
    await theatre.start(hook)
    await theatre.until(lambda: len(done) == 4)
    assert done == list("abcd")
    await theatre.until(lambda: theatre.actor.handled_total == 4)
    assert theatre.actor.failed_total == 1


async def test_a_plugin_that_breaks_its_own_transaction_is_quarantined(theatre):
    """
    It hides the error, but the commit brings it to light: a failure of the plugin, not a crash of ours.
    """

    async def hook(context, events):
        async with context.transaction() as transaction:
            try:
                await transaction.execute("insert into nowhere values (1)")
            except Exception:  # as plugins will
                return

    await theatre.write("a")
    await theatre.start(hook)
    assert "InFailedSqlTransaction" in (await theatre.quarantined()).reason


# Budgets


async def test_a_hook_that_sleeps_beyond_its_budget_is_cut_off_and_quarantined(theatre):
    """
    What it had written is undone.
    """
    theatre.settings = attrs.evolve(SETTINGS, budget=0.05)
    cut = []

    async def hook(context, events):
        await write(context, events)
        try:
            await trio.sleep_forever()
        finally:
            cut.append(title(events[0]))

    await theatre.write("a")
    await theatre.start(hook)
    assert "OverBudgetError: took longer than its budget of 0.05 s" in (await theatre.quarantined()).reason
    assert (cut, await theatre.written()) == (["a"] * 3, [])


@asynccontextmanager
async def blocked_threads():
    """
    A hook that blocks the thread that it runs in, until the block ends.
    """
    free = threading.Event()

    def hook(context, events):
        free.wait(PATIENCE)

    try:
        yield hook, free
    finally:
        free.set()


async def test_a_plain_hook_may_block_its_thread_and_nothing_else(theatre):
    """
    It is given up after its budget and quarantined; the event loop never waited for it. Resumed, it does
    not wait for the threads that still hang.
    """
    theatre.settings = attrs.evolve(SETTINGS, budget=0.05)
    loop = threading.get_ident()
    threads = []
    async with blocked_threads() as (block, free):

        def hook(context, events):
            threads.append(threading.get_ident())
            block(context, events)

        await theatre.write("a", "b")
        await theatre.start(hook, is_async=False)
        await theatre.quarantined()
        await theatre.resume()
        await theatre.quarantined()
        assert len(threads) == 7
        assert loop not in threads
        assert not free.is_set()
        free.set()
        await theatre.resume()
        await theatre.until(lambda: theatre.actor.handled_total == 2)


async def test_a_plain_hook_is_called_in_order_and_its_cursor_moves(theatre):
    """
    As an async one.
    """
    done = []
    await theatre.write("a", "b")
    await theatre.start(lambda context, events: done.append(title(events[0])), is_async=False)
    await theatre.until(lambda: theatre.actor.handled_total == 2)
    last = (await theatre.feed("c"))[-1]
    await theatre.until(lambda: theatre.actor.handled_total == 3)
    assert done == ["a", "b", "c"]
    assert (await theatre.studio.store.cursors.open("p", START)).place == last.place


async def test_who_fails_on_and_on_is_not_read_to_again_and_told_of_once_a_second(theatre):
    """
    A plugin that is never given up costs others little: no reading of the log, no row for each failure.
    """
    reads = []

    class Log:
        async def after(self, place, limit):
            reads.append(limit)
            return await theatre.studio.store.log.after(place, limit)

    theatre.log = Log()
    theatre.settings = attrs.evolve(theatre.settings, failures_to_quarantine=10**9)
    hook, failing = write_but_fail_at("a")
    await theatre.write("a", "b")
    await theatre.start(hook)
    await theatre.until(lambda: theatre.actor.failures >= 60)
    assert len(reads) == 1
    [[rows]] = await theatre.studio.rows("select count(*) from effect_failures")
    assert 20 <= rows < 60
    failing.clear()
    await theatre.until(lambda: theatre.actor.handled_total == 2)
    assert await theatre.written() == ["a", "b"]
