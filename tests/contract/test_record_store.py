"""Records as they are read: what the plugins wrote, newest first, page by page."""

import attrs
import pytest
from psycopg.errors import UniqueViolation

from engine.domain.event import EpisodeId, UserId
from engine.domain.record import activity_of, audit_of, notification_of
from engine.hookspecs import Context
from engine.store.cursors import Cursor
from plugins import activity, audit, notifications

ALICE, BOB = UserId("alice@example.com"), UserId("bob@example.com")


def id_of(event) -> EpisodeId:
    return EpisodeId(event.topic.removeprefix("episode:"))


@attrs.define
class Hand:
    """
    A plugin's context without an engine around it.
    """

    transaction_: object
    plugin: str = "hand"
    attempt: int = 1

    def transaction(self):
        return self

    async def __aenter__(self):
        return self.transaction_

    async def __aexit__(self, *_):
        return None


async def record(studio, *events):
    """
    Let the three plugins write their records of these events.
    """
    for plugin in (activity, audit, notifications):
        name = plugin.__name__
        cursor = await studio.store.cursors.open(name, events[0].place)
        transaction = studio.store.cursors.begin(Cursor(plugin=name, place=cursor.place))
        context: Context = Hand(transaction)
        await plugin.on_events(context, events)
        await transaction.commit(events[-1])


@pytest.fixture
async def history(studio):
    """
    Two episodes with a history, recorded.
    """
    first = await studio.create("First", categories=["Drama"])
    second = await studio.create("Second")
    composition, composed = await studio.compose(await studio.get(id_of(first)))
    updated = await studio.update(id_of(first), title="First!")
    deleted = await studio.delete(id_of(second))
    events = [first, second, composed, updated, deleted]
    await record(studio, *events)
    assert composition.episode_id == id_of(first)
    return events


async def pages(read, **filters):
    """
    All pages of one record each.
    """
    found, before = [], None
    while True:
        page = await read(limit=1, before=before, **filters)
        found += page.records
        if (before := page.next_before) is None:
            return found


async def test_records_are_read_as_they_were_decided(studio, store, history):
    """
    Nothing is lost or altered between the domain, the plugins' statements and the reading.
    """
    newest_first = history[::-1]
    found = await store.records.activity(limit=100)
    assert list(found.records) == [activity_of(event) for event in newest_first]
    found = await store.records.audit(limit=100)
    assert list(found.records) == [audit_of(event) for event in newest_first]
    found, unread = await store.records.notifications(ALICE, limit=100)
    told = [notification_of(event) for event in newest_first]
    assert list(found.records) == [one for one in told if one is not None]
    assert unread == 3


async def test_a_record_written_twice_is_refused(studio, history):
    """
    The cursor makes it once; the id makes sure.
    """
    for plugin in (activity, audit, notifications):
        transaction = studio.store.cursors.begin(Cursor(plugin="again", place=history[0].place))
        with pytest.raises(UniqueViolation):
            await plugin.on_events(Hand(transaction), history[:1])
        await transaction.rollback()


async def test_events_of_other_kinds_open_no_transaction(studio, history):
    """
    Nothing to write costs nothing.
    """
    other = attrs.evolve(history[0], type="job_progress", data={})
    for plugin in (activity, audit, notifications):
        transaction = studio.store.cursors.begin(Cursor(plugin="other", place=history[0].place))
        await plugin.on_events(Hand(transaction), [other])
        assert not transaction.used


async def test_activity_pages_backwards_through_one_episode_or_all(studio, store, history):
    """
    A composition's activity belongs to its episode.
    """
    first, second, composed, updated, deleted = (activity_of(event) for event in history)
    assert await pages(store.records.activity) == [deleted, updated, composed, second, first]
    assert await pages(store.records.activity, episode=id_of(history[0])) == [updated, composed, first]
    assert await pages(store.records.activity, episode=id_of(history[1])) == [deleted, second]
    exact = await store.records.activity(limit=5)
    assert (len(exact.records), exact.next_before) == (5, None)


async def test_pages_stay_right_while_records_are_added(studio, store, history):
    """
    What is new comes before the first page, and moves none.
    """
    page = await store.records.audit(limit=2)
    await record(studio, await studio.create("Third"))
    rest = await store.records.audit(limit=100, before=page.next_before)
    assert [*page.records, *rest.records] == [audit_of(event) for event in history[::-1]]


async def test_an_inbox_is_ones_own(studio, store, history):
    """
    Nobody reads or marks another's notifications.
    """
    page, unread = await store.records.notifications(BOB, limit=10)
    assert (page.records, unread) == ([], 0)
    page, _ = await store.records.notifications(ALICE, limit=10)
    assert await store.records.read_notification(BOB, page.records[0].id) is None
    assert await store.records.read_notifications(BOB) == 0
    assert (await store.records.notifications(ALICE, limit=10))[1] == 3


async def test_an_inbox_pages_backwards(studio, store, history):
    """
    With how many are unread in all, on every page.
    """

    async def read(**wish):
        page, unread = await store.records.notifications(ALICE, **wish)
        assert unread == 3
        return page

    told = [one for event in history[::-1] if (one := notification_of(event)) is not None]
    assert await pages(read) == told
    assert await pages(read, unread=True) == told


async def test_a_notification_is_read_once(studio, store, history):
    """
    The time of the first reading stays; the unread ones can be asked for alone.
    """
    page, _ = await store.records.notifications(ALICE, limit=10)
    middle = page.records[1]
    read = await store.records.read_notification(ALICE, middle.id)
    assert read.read_at is not None
    assert attrs.evolve(read, read_at=None) == middle
    assert await store.records.read_notification(ALICE, middle.id) == read
    found, unread = await store.records.notifications(ALICE, limit=10, unread=True)
    assert (list(found.records), unread) == ([page.records[0], page.records[2]], 2)


async def test_all_notifications_are_read_at_once(studio, store, history):
    """
    It says how many were not; those that were keep their time.
    """
    page, _ = await store.records.notifications(ALICE, limit=10)
    first = await store.records.read_notification(ALICE, page.records[0].id)
    assert await store.records.read_notifications(ALICE) == 2
    assert await store.records.read_notifications(ALICE) == 0
    page, unread = await store.records.notifications(ALICE, limit=10)
    assert unread == 0
    assert page.records[0] == first
    assert all(one.read_at is not None for one in page.records)
