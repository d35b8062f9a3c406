"""What one turn of the catalog's actor publishes, and to whom."""

from collections.abc import Iterable
from datetime import UTC, datetime

import attrs
import trio
import trio.testing

from engine.actors.catalog import Brought
from engine.actors.messages import Channels, Listed, Message
from engine.domain.event import (
    CATALOG,
    EpisodeId,
    Epoch,
    Event,
    EventId,
    LogPlace,
    Offset,
    Request,
    UserId,
    episode_topic,
)
from engine.domain.presence import SessionId
from engine.runtime.mailbox import Mailbox
from tests.contract.stage import catalog_without_store


@attrs.define
class Written:
    """
    An outlet that keeps what was written.
    """

    writes: list[bytes] = attrs.field(factory=list)

    def push(self, data: bytes) -> bool:
        self.writes.append(data)
        return True


class Numbers:
    """
    A format: an event is its number and a space.
    """

    def encode(self, message: Message) -> bytes:
        assert isinstance(message, Listed)
        return b"%d " % message.event.place.seq


NUMBERS = Numbers()


def event(number: int, episode: str) -> Event:
    return Event(
        place=LogPlace(1, number),
        id=EventId(f"event-{number}"),
        topic=episode_topic(EpisodeId(episode)),
        offset=Offset(1),
        epoch=Epoch("epoch"),
        type="episode_updated",
        data={},
        user=UserId("alice@example.com"),
        request=Request(mutation_id="m"),
        at=datetime.now(UTC),
    )


async def publish_in_one_turn(hub: Channels, events: Iterable[Event]) -> None:
    """
    Let a catalog publish events that all wait for it when its turn begins.
    """
    catalog = catalog_without_store(Mailbox(100), hub)
    for each in events:
        catalog.mailbox.tell_nowait(Brought((each,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: catalog.run(task_status))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_all_that_is_pending_in_one_turn_leaves_as_one_write_whatever_episodes_it_is_of():
    """
    A busy house costs a subscriber of the list page one system call a turn, not one an event.
    """
    hub, client = Channels(), Written()
    hub.subscribe(CATALOG, SessionId("one"), client, NUMBERS)
    await publish_in_one_turn(hub, [event(number, f"episode-{number}") for number in range(1, 6)])
    assert client.writes == [b"1 2 3 4 5 "]


async def test_who_also_listens_to_an_episode_does_not_hear_of_it_from_the_catalog_and_misses_nothing_else():
    """
    Joining the events of several episodes keeps both their order and the rule that nobody hears one twice.
    """
    hub, both, only_catalog = Channels(), Written(), Written()
    hub.subscribe(CATALOG, SessionId("both"), both, NUMBERS)
    hub.subscribe(CATALOG, SessionId("only"), only_catalog, NUMBERS)
    hub.subscribe(episode_topic(EpisodeId("pilot")), SessionId("both"), both, NUMBERS)
    episodes = ["finale", "pilot", "other", "other", "pilot"]
    await publish_in_one_turn(hub, [event(number, name) for number, name in enumerate(episodes, 1)])
    assert b"".join(both.writes) == b"1 3 4 "
    assert b"".join(only_catalog.writes) == b"1 2 3 4 5 "


async def test_what_went_before_the_subscription_to_an_episode_is_still_heard_from_the_catalog():
    """
    The episode's actor may be ahead of the catalog's: then its subscription begins behind an event that only
    the catalog can still tell.
    """
    hub, both = Channels(), Written()
    pilot = episode_topic(EpisodeId("pilot"))
    hub.subscribe(CATALOG, SessionId("both"), both, NUMBERS)
    hub.subscribe(pilot, SessionId("both"), both, NUMBERS, after=Offset(2))
    hub.subscribe(pilot, SessionId("both"), both, NUMBERS, after=Offset(3))
    events = [attrs.evolve(event(number, "pilot"), offset=Offset(number)) for number in range(1, 5)]
    await publish_in_one_turn(hub, events)
    assert b"".join(both.writes) == b"1 2 "
