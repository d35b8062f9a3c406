"""A bug in the middle of the catalog's turn: nobody's screen is silently wrong after it."""

from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

from engine.actors.messages import Channels, Listed, Message
from engine.domain.event import LogPlace
from engine.runtime.mailbox import Mailbox, Reply
from tests.contract.stage import Plain, catalog_without_store
from tests.contract.test_catalog_actor import Hall, brought, subscribing
from tests.patience import patience


@attrs.define(eq=False)
class Fragile:
    """
    A format that fails at one event, as a bug would.
    """

    offset: int
    plain: Plain = attrs.field(factory=Plain)

    def encode(self, message: Message) -> bytes:
        if isinstance(message, Listed) and message.event.offset == self.offset:
            self.offset = 0
            raise RuntimeError("a bug")
        return self.plain.encode(message)


async def crash(hall: Hall, *messages: Any) -> None:
    """
    Live until the turn with these messages crashes.
    """
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a bug")), patience():
        async with trio.open_nursery() as nursery:
            await nursery.start(hall.actor.run)
            hall.tell(*messages)


async def test_after_a_turn_that_crashed_everybody_is_shown_the_present_state(client):
    """
    What the turn had taken and not told is lost; a snapshot has it. The rest of the turn is told.
    """
    hub = Channels()
    hall = Hall(hub, catalog_without_store(Mailbox(64, name="catalog"), hub), client("flush"))
    viewer = client("viewer")
    viewer.format = Fragile(3)
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        await hall.subscribe(viewer)
        hall.tell(brought(1))
        await hall.flush()
        nursery.cancel_scope.cancel()
    await crash(hall, brought(2, 3), brought(4), 5)
    assert viewer.offsets == [1]
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        hall.tell(brought(5, 6))
        await hall.flush()
        nursery.cancel_scope.cancel()
    reset = viewer.heard[1]
    assert (reset["subscribed"], reset["recovered"], reset["snapshot"]) == ("catalog", False, {})
    assert viewer.offsets == [1, 6]


async def test_what_everybody_has_heard_is_not_noted_before_they_have(client):
    """
    A session that ends within a publication is told no position beyond what it was pushed.
    """
    hub = Channels()
    hall = Hall(hub, catalog_without_store(Mailbox(64, name="catalog"), hub), client("flush"))
    noted = []
    viewer = SimpleNamespace(
        session="viewer",
        format=Plain(),
        push=lambda data: noted.append((hall.actor.told.place, hall.actor.position.place)) or True,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        await hall.subscribe(viewer)
        hall.tell(brought(1))
        await hall.flush()
        nursery.cancel_scope.cancel()
    assert noted == [(LogPlace(0, 0), LogPlace(1, 1))]
    assert hall.actor.told.place == LogPlace(1, 1)


async def test_the_rest_of_a_turn_is_handled_by_the_next_life(client):
    """
    What was drained from the mailbox with the message that crashed is not lost with it.
    """
    hub = Channels()
    hall = Hall(hub, catalog_without_store(Mailbox(64, name="catalog"), hub), client("flush"))
    viewer, late = client("viewer"), client("late")
    viewer.format = Fragile(1)
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        await hall.subscribe(viewer)
        nursery.cancel_scope.cancel()

    # A subscription is where a turn publishes what it has so far.
    await crash(hall, brought(1), subscribing(late, Reply()), brought(2, 3))
    async with trio.open_nursery() as nursery:
        await nursery.start(hall.actor.run)
        await viewer.wait(lambda it: it.offsets)
        nursery.cancel_scope.cancel()
    assert [message.get("offset", message.get("recovered")) for message in viewer.heard] == [False, 2, 3]
    # Whoever asked in that turn was told to ask again.
    assert late.heard == []
    assert [event.offset for event in hall.actor.ring] == [2, 3]
