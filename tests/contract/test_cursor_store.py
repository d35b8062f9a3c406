"""Cursors in the store: what a plugin writes and how far it has got are committed together, or not at all."""

import pytest
import trio
from psycopg import errors

from engine.domain.event import LogPlace
from engine.errors import StoreUnavailableError
from engine.store.cursors import Cursor, CursorMovedError, Failure

START = LogPlace(0, 0)
INSERT = "insert into written (event) values (%s)"


@pytest.fixture
async def cursors(studio):
    """
    The cursors of a database that has a plugin's own table.
    """
    await studio.rows("create table written (event uuid, more jsonb)")
    return studio.store.cursors


@pytest.fixture
async def log(studio):
    """
    Three events, of which a plugin has seen none.
    """
    return [await studio.create(title) for title in ("One", "Two", "Three")]


async def written(studio):
    return [event for (event,) in await studio.rows("select event::text from written order by ctid")]


async def terminate(studio, transaction):
    (row,) = await transaction.fetch("select pg_backend_pid() as pid")
    assert await studio.rows("select pg_terminate_backend(%s, 5000)", row["pid"]) == [(True,)]


async def place_of(cursors, plugin="p"):
    return (await cursors.open(plugin, LogPlace(99, 99))).place


async def test_a_new_plugin_begins_where_it_is_told_and_an_old_one_where_it_was(cursors, log):
    """
    Each plugin has a cursor of its own.
    """
    assert await cursors.open("p", START) == Cursor(plugin="p", place=START)
    assert await cursors.open("p", log[2].place) == Cursor(plugin="p", place=START)
    assert await cursors.open("q", log[2].place) == Cursor(plugin="q", place=log[2].place)


async def test_what_is_written_commits_with_the_move_of_the_cursor(studio, cursors, log):
    """
    Until then nobody sees either.
    """
    cursor = await cursors.open("p", START)
    transaction = cursors.begin(cursor)
    assert not transaction.used
    assert await transaction.execute(INSERT, [log[0].id]) == 1
    assert transaction.used
    assert (await written(studio), await place_of(cursors)) == ([], START)
    moved = await transaction.commit(log[1])
    assert moved == Cursor(plugin="p", place=log[1].place)
    assert (await written(studio), await place_of(cursors)) == ([log[0].id], log[1].place)
    assert studio.store.background.statistics().in_use == 0


async def test_what_is_rolled_back_leaves_neither(studio, cursors, log):
    """
    A failed effect has never happened; to roll back twice is no error.
    """
    transaction = cursors.begin(await cursors.open("p", START))
    await transaction.execute(INSERT, [log[0].id])
    await transaction.rollback()
    await transaction.rollback()
    assert (await written(studio), await place_of(cursors)) == ([], START)
    assert studio.store.background.statistics().in_use == 0


async def test_a_cursor_moves_alone_if_nothing_was_written(studio, cursors, log):
    """
    For effects outside of the database; the transaction then costs one statement.
    """
    transaction = cursors.begin(await cursors.open("p", START))
    assert (await transaction.commit(log[0])).place == log[0].place
    assert not transaction.used
    assert await place_of(cursors) == log[0].place


async def test_a_connection_that_breaks_leaves_neither_and_is_no_fault_of_the_plugin(studio, cursors, log):
    """
    It is StoreUnavailableError, also for what the plugin does next; the same again then happens once.
    """
    cursor = await cursors.open("p", START)
    transaction = cursors.begin(cursor)
    await transaction.execute(INSERT, [log[0].id])
    await terminate(studio, transaction)
    with pytest.raises(StoreUnavailableError):
        await transaction.execute(INSERT, [log[1].id])
    with pytest.raises(StoreUnavailableError):
        await transaction.commit(log[1])
    await transaction.rollback()
    assert (await written(studio), await place_of(cursors)) == ([], START)
    again = cursors.begin(cursor)
    await again.execute(INSERT, [log[0].id])
    await again.commit(log[0])
    assert await written(studio) == [log[0].id]
    assert studio.store.background.statistics().in_use == 0


async def test_a_connection_that_breaks_before_the_commit_is_no_fault_of_the_plugin(studio, cursors, log):
    """
    The commit says that the store is away; nothing was written.
    """
    transaction = cursors.begin(await cursors.open("p", START))
    await transaction.execute(INSERT, [log[0].id])
    await terminate(studio, transaction)
    with pytest.raises(StoreUnavailableError):
        await transaction.commit(log[0])
    assert (await written(studio), await place_of(cursors)) == ([], START)


async def test_whoever_does_not_know_of_its_own_commit_finds_out(studio, cursors, log):
    """
    The answer to a commit was lost: done once more from the old place it is refused, and undone.
    """
    cursor = await cursors.open("p", START)
    first = cursors.begin(cursor)
    await first.execute(INSERT, [log[0].id])
    await first.commit(log[0])
    again = cursors.begin(cursor)
    await again.execute(INSERT, [log[0].id])
    with pytest.raises(CursorMovedError):
        await again.commit(log[0])
    assert await written(studio) == [log[0].id]
    with pytest.raises(CursorMovedError):
        await cursors.begin(cursor).commit(log[0])
    assert studio.store.background.statistics().in_use == 0


async def test_of_two_nodes_that_run_the_same_plugin_one_loses(studio, cursors, log):
    """
    The loser waits for the winner's commit, and then undoes what it wrote.
    """
    cursor = await cursors.open("p", START)
    winner, loser = cursors.begin(cursor), cursors.begin(cursor)
    await winner.execute(INSERT, [log[0].id])
    # As in the middle of its commit.
    await winner.execute("update plugin_cursors set reason = reason where plugin = 'p'")
    lost = trio.Event()

    async def lose():
        await loser.execute(INSERT, [log[0].id])
        with pytest.raises(CursorMovedError):
            await loser.commit(log[1])
        lost.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        await studio.wait_for_lock()
        assert not lost.is_set()
        await winner.commit(log[0])
    assert (await written(studio), await place_of(cursors)) == ([log[0].id], log[0].place)


async def test_a_cancelled_effect_leaves_neither(studio, cursors, log):
    """
    A plugin that runs over its budget is cut off in the middle of a statement.
    """
    transaction = cursors.begin(await cursors.open("p", START))
    with trio.move_on_after(0.1) as scope:
        try:
            await transaction.execute(INSERT, [log[0].id])
            await transaction.execute("select pg_sleep(30)")
        finally:
            await transaction.rollback()
    assert scope.cancelled_caught
    assert (await written(studio), await place_of(cursors)) == ([], START)
    assert studio.store.background.statistics().in_use == 0


async def test_a_wrong_statement_is_the_plugins_own_fault(studio, cursors, log):
    """
    The error passes as it is, and what was written before cannot be committed.
    """
    transaction = cursors.begin(await cursors.open("p", START))
    await transaction.execute(INSERT, [log[0].id])
    with pytest.raises(errors.UndefinedTable):
        await transaction.execute("insert into nowhere values (1)")
    with pytest.raises(errors.InFailedSqlTransaction):
        await transaction.commit(log[0])
    assert (await written(studio), await place_of(cursors)) == ([], START)
    assert studio.store.background.statistics().in_use == 0


async def test_plugins_write_and_read_plain_values(studio, cursors, log):
    """
    A dict becomes jsonb; rows come back by name; many rows in one go.
    """
    transaction = cursors.begin(await cursors.open("p", START))
    rows = [(event.id, {"title": "Ä", "list": [1, None]}) for event in log]
    await transaction.execute_many("insert into written values (%s, %s)", rows)
    found = await transaction.fetch(
        "select event::text, more from written where more ->> 'title' = %(t)s", {"t": "Ä"}
    )
    assert found == [{"event": event, "more": more} for event, more in rows]
    assert await transaction.fetch("select 1 as one where false") == []
    assert await transaction.execute("delete from written") == 3
    await transaction.rollback()


async def test_a_quarantine_lasts_until_it_is_ended(cursors, log):
    """
    Whoever opens the cursor sees since when and why; the place waits.
    """
    await cursors.open("p", log[0].place)
    since = await cursors.quarantine("p", "it raises")
    expected = Cursor(plugin="p", place=log[0].place, quarantined_at=since, reason="it raises")
    assert await cursors.open("p", START) == expected
    await cursors.resume("p")
    assert await cursors.open("p", START) == Cursor(plugin="p", place=log[0].place)


async def test_the_newest_hundred_failures_of_a_plugin_are_kept(cursors, log):
    """
    A plugin that fails for ever does not fill the disk, nor push out another's failures.
    """

    def failure(attempt):
        return Failure(event_id=log[0].id, event_type="x", attempt=attempt, error="E", traceback="T")

    await cursors.failed("other", failure(1))
    for attempt in range(1, 104):
        await cursors.failed("p", failure(attempt))
    kept = await cursors.failures("p", 1000)
    assert [one.attempt for one in kept] == list(range(103, 3, -1))
    assert (kept[0].event_id, kept[0].error, kept[0].traceback) == (log[0].id, "E", "T")
    assert kept[0].at is not None
    assert [one.attempt for one in await cursors.failures("p", 2)] == [103, 102]
    assert len(await cursors.failures("other", 10)) == 1


async def test_lag_counts_what_waits_behind_a_place(cursors, log):
    """
    For operators: 0 when a plugin has caught up.
    """
    assert await cursors.lag(START) == 3
    assert await cursors.lag(log[0].place) == 2
    assert await cursors.lag(log[2].place) == 0
