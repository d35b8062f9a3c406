"""The catalog's actor: everybody hears of every event once, whoever told or brought it."""

import itertools
from datetime import UTC, datetime

import attrs
import pytest
import trio

from engine.actors import catalog as module
from engine.actors.catalog import Brought, CatalogActor, SubscribeCatalog, Told
from engine.actors.messages import Channels
from engine.domain.event import CATALOG, Epoch, Event, EventId, LogPlace, Offset, Request, Topic, UserId
from engine.domain.presence import SessionId
from engine.runtime.mailbox import Mailbox, ask
from tests.contract.stage import catalog_without_store
from tests.patience import patience

PILOT, OTHER = Topic("episode:pilot"), Topic("episode:other")


def event(number: int, topic: Topic = PILOT) -> Event:
    """
    The event at this place of the node's log.
    """
    return Event(
        place=LogPlace(number, number),
        id=EventId(f"{number}"),
        topic=topic,
        offset=Offset(number),
        epoch=Epoch("epoch"),
        type="episode_updated",
        data={},
        user=UserId("alice@example.com"),
        request=Request(mutation_id="m"),
        at=datetime(2026, 1, 7, tzinfo=UTC),
    )


@attrs.define(eq=False)
class Hall:
    """
    The catalog's actor, and a way to wait until it has heard what it was told.
    """

    hub: Channels
    actor: CatalogActor
    flusher: object

    def tell(self, *messages):
        """
        Told events by number, or messages; all of it is one turn.
        """
        for message in messages:
            self.actor.mailbox.tell_nowait(Told((event(message),)) if isinstance(message, int) else message)

    async def subscribe(self, client, *, announced=False):
        """
        Let a client listen.
        """
        with patience():
            await ask(self.actor.mailbox, lambda reply: subscribing(client, reply, announced=announced))

    async def flush(self):
        """
        Wait until everything before has been handled.
        """
        await self.subscribe(self.flusher)
        self.hub.drop_session(self.flusher.session)


def subscribing(client, reply, *, announced=False):
    return SubscribeCatalog(
        session=client.session,
        outlet=client,
        format=client.format,
        opening=client.format.encode if announced else None,
        reply=reply,
    )


def brought(*numbers):
    return Brought(tuple(event(number) for number in numbers))


@pytest.fixture
async def hall(client):
    """
    A running actor.
    """
    hub = Channels()
    hall = Hall(hub, catalog_without_store(Mailbox(64, name="catalog"), hub), client("flush"))
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        yield hall
        nursery.cancel_scope.cancel()


@pytest.fixture
async def viewer(hall, client):
    """
    Somebody who listens to the catalog.
    """
    viewer = client("viewer")
    await hall.subscribe(viewer)
    return viewer


async def test_what_is_told_goes_out_before_the_feed_brings_it(hall, viewer):
    """
    Its writer knows first.
    """
    hall.tell(1)
    await viewer.wait(lambda it: it.offsets == [1])


async def test_what_nobody_told_goes_out_when_the_feed_brings_it(hall, viewer):
    """
    Other nodes' events, and those that found no room: in commit order, as one write.
    """
    hall.tell(brought(1, 2, 3))
    await viewer.wait(lambda it: it.offsets == [1, 2, 3])
    assert viewer.writes[-1] == 3


@pytest.mark.parametrize(
    "steps", list(itertools.permutations(["told 1", "told 2", "brought"])), ids=", ".join
)
@pytest.mark.parametrize("turns", ["one turn", "turns"])
async def test_told_and_brought_is_once(hall, viewer, steps, turns):
    """
    In any order, in one turn or several; also what is told when the feed has long brought it.
    """
    for step in steps:
        hall.tell(brought(1, 2) if step == "brought" else int(step[-1]))
        if turns == "turns":
            await hall.flush()
    await hall.flush()
    hall.tell(1, 2)
    await hall.flush()
    assert sorted(viewer.offsets) == [1, 2]


async def test_brought_twice_is_once(hall, viewer):
    """
    A feed that was cut off after the catalog had taken a batch brings it again, with what came since.
    """
    hall.tell(brought(1, 2))
    hall.tell(brought(1, 2))
    hall.tell(brought(2, 3))
    await hall.flush()
    assert viewer.offsets == [1, 2, 3]
    assert [event.offset for event in hall.actor.ring] == [1, 2, 3]


async def test_told_twice_is_once(hall, viewer):
    """
    A writer that repeats itself tells nothing new.
    """
    hall.tell(1, 1)
    await hall.flush()
    hall.tell(1)
    await hall.flush()
    assert viewer.offsets == [1]


async def test_what_is_told_ahead_is_bounded_and_the_feed_brings_the_rest(hall, viewer, monkeypatch):
    """
    While the feed is held back, so many are remembered; nothing is lost and nothing doubled by the limit.
    """
    monkeypatch.setattr(module, "AHEAD", 2)
    hall.tell(1, 2, 3, 4)
    await hall.flush()
    assert viewer.offsets == [1, 2]
    hall.tell(brought(1, 2, 3, 4))
    await hall.flush()
    assert viewer.offsets == [1, 2, 3, 4]
    hall.tell(5, 6)
    await hall.flush()
    assert viewer.offsets == [1, 2, 3, 4, 5, 6]


async def test_what_it_has_heard_of_outlives_a_crash(client):
    """
    The next life of the task tells nothing twice, and reads on in the mailbox.
    """
    hub = Channels()
    hall = Hall(hub, catalog_without_store(Mailbox(64, name="catalog"), hub), client("flush"))
    viewer = client("viewer")
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        await hall.subscribe(viewer)
        hall.tell(1, 3)
        await hall.flush()
        nursery.cancel_scope.cancel()
    hall.tell(brought(1, 2))
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        hall.tell(brought(3), 2, 4)
        await hall.flush()
        nursery.cancel_scope.cancel()
    assert viewer.offsets == [1, 2, 3, 4]


async def test_a_new_subscriber_hears_what_comes_after_it_and_only_that(hall, viewer, client):
    """
    Also within one turn: what was told before it is not for it.
    """
    late = client("late")

    async def subscribe():
        await ask(hall.actor.mailbox, lambda reply: subscribing(late, reply, announced=True))

    async with trio.open_nursery() as nursery:
        hall.tell(1)
        nursery.start_soon(subscribe)
    hall.tell(2)
    await hall.flush()
    assert viewer.offsets == [1, 2]
    assert late.heard[0] == {
        "subscribed": CATALOG,
        "at": late.heard[0]["at"],
        "recovered": False,
        "snapshot": None,
    }
    assert late.offsets == [2]


async def test_whoever_did_not_ask_is_not_answered(hall, viewer):
    """
    The catalog is what a client hears that chose nothing: it gets events, and no reply to nothing.
    """
    hall.tell(1)
    await hall.flush()
    assert [list(message) for message in viewer.heard] == [["event", "offset", "id", "then"]]


async def test_a_client_that_is_gone_is_not_subscribed(hall, client):
    """
    Whoever asked for it is told all the same.
    """
    gone = client("gone")
    gone.alive = False
    await hall.subscribe(gone, announced=True)
    assert hall.hub.subscribers(CATALOG) == 0


async def test_who_watches_an_episode_hears_of_it_from_its_own_actor(hall, viewer, client):
    """
    And not twice; of all others from the catalog.
    """
    watcher = client("watcher")
    await hall.subscribe(watcher)
    hall.hub.subscribe(PILOT, watcher.session, watcher, watcher.format)
    hall.tell(Brought((event(1, OTHER), event(2, PILOT), event(3, OTHER), event(4, PILOT), event(5, OTHER))))
    await hall.flush()
    assert viewer.offsets == [1, 2, 3, 4, 5]
    assert watcher.offsets == [1, 3, 5]


async def test_events_of_many_episodes_leave_as_one_write(hall, viewer):
    """
    As long as nobody watches one of them.
    """
    hall.tell(Brought((event(1, OTHER), event(2, PILOT), event(3, Topic("episode:third")))))
    await hall.flush()
    assert (viewer.offsets, viewer.writes[-1]) == ([1, 2, 3], 3)


async def test_sessions_leave_with_their_outlets(hall, viewer):
    """
    A client that does not take an event any more is dropped, and the others hear on.
    """
    viewer.alive = False
    other = attrs.evolve(viewer, session=SessionId("other"), alive=True, heard=[], writes=[])
    await hall.subscribe(other)
    hall.tell(1, 2)
    await hall.flush()
    assert other.offsets == [1, 2]
    assert hall.hub.subscribers(CATALOG) == 1
