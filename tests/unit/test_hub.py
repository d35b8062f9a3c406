"""The hub: who hears what, how often it is encoded, and what is left of those who went."""

from collections.abc import Callable

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.event import Topic
from engine.domain.presence import SessionId
from engine.runtime.hub import PUSHES_BETWEEN_CHECKPOINTS, Hub

PILOT, CATALOG = Topic("episode:pilot"), Topic("catalog")
A, B, C = SessionId("a"), SessionId("b"), SessionId("c")


@attrs.define(eq=False)
class Client:
    """
    An outlet that remembers what it was pushed.
    """

    pushed: list[bytes] = attrs.field(factory=list)
    alive: bool = True
    on_push: Callable[[], None] | None = None

    def push(self, data: bytes) -> bool:
        if self.on_push is not None:
            self.on_push()
        if self.alive:
            self.pushed.append(data)
        return self.alive


@attrs.define(eq=False)
class Marked:
    """
    A format that marks what it encodes, and counts.
    """

    mark: str
    encoded: int = 0

    def encode(self, message: str) -> bytes:
        self.encoded += 1
        return f"{self.mark}{message};".encode()


@pytest.fixture
def hub() -> Hub[str, str, int]:
    return Hub()


async def test_messages_are_encoded_once_per_format_and_pushed_once_per_outlet(hub):
    """
    A thousand clients of one kind cost one encoding and a thousand writes, however many messages.
    """
    plain, framed = Marked("p"), Marked("f")
    clients = [Client() for _ in range(4)]
    for number, client in enumerate(clients):
        hub.subscribe(PILOT, SessionId(str(number)), client, framed if number == 3 else plain)
    assert hub.publish(PILOT, ["1", "2"]) == 4
    assert await hub.publish_fairly(PILOT, ["3"]) == 4
    assert [client.pushed for client in clients[:3]] == [[b"p1;p2;", b"p3;"]] * 3
    assert clients[3].pushed == [b"f1;f2;", b"f3;"]
    assert (plain.encoded, framed.encoded) == (3, 3)
    assert (hub.statistics().published_total, hub.statistics().deliveries_total) == (2, 8)


async def test_nothing_is_encoded_for_nobody(hub):
    """
    A topic without subscribers costs nothing, nor does a publication without messages.
    """
    format = Marked("")
    client = Client()
    assert hub.publish(PILOT, ["1"]) == 0
    hub.subscribe(PILOT, A, client, format)
    hub.subscribe(CATALOG, A, client, format)
    assert hub.publish(PILOT, []) == 0
    assert hub.publish(PILOT, ["1"], but_not=CATALOG) == 0
    assert await hub.publish_fairly(PILOT, ["1"], but_not=CATALOG) == 0
    assert (format.encoded, client.pushed) == (0, [])


async def test_to_subscribe_again_replaces_the_outlet_and_the_format(hub):
    """
    A session hears each message once, in the way it asked for last.
    """
    old, new = Client(), Client()
    hub.subscribe(PILOT, A, old, Marked("old "))
    hub.subscribe(PILOT, A, new, Marked("new "))
    assert hub.publish(PILOT, ["1"]) == 1
    assert (old.pushed, new.pushed) == ([], [b"new 1;"])
    assert hub.subscribers(PILOT) == 1
    subscription = hub.subscription(PILOT, A)
    assert subscription is not None
    assert subscription.outlet is new


async def test_but_not_skips_who_hears_it_on_the_other_topic(hub):
    """
    Who watches the catalog and one of its episodes is told once.
    """
    both, catalog_only = Client(), Client()
    format = Marked("")
    hub.subscribe(CATALOG, A, both, format)
    hub.subscribe(CATALOG, B, catalog_only, format)
    hub.subscribe(PILOT, A, both, format)
    assert hub.publish(CATALOG, ["1"], but_not=PILOT) == 1
    assert await hub.publish_fairly(CATALOG, ["2"], but_not=PILOT) == 1
    assert (both.pushed, catalog_only.pushed) == ([], [b"1;", b"2;"])
    hub.unsubscribe(PILOT, A)
    assert hub.publish(CATALOG, ["3"], but_not=PILOT) == 2


@pytest.mark.parametrize("fairly", [True, False])
async def test_an_outlet_that_is_gone_is_dropped_after_the_others_were_served(hub, fairly):
    """
    It is reported once, no longer subscribed, and its meta stays until its session is dropped.
    """
    reported: list[SessionId] = []
    hub.on_gone = reported.append
    dead, alive = Client(alive=False), Client()
    # One format: whoever is served in one go with the dead one must not go with it.
    plain = Marked("")
    hub.subscribe(PILOT, A, dead, plain)
    hub.subscribe(PILOT, B, alive, plain)
    hub.track(PILOT, A, "viewing")
    alive.on_push = lambda: reported.append(SessionId("served"))
    for expected in ([SessionId("served"), A], [SessionId("served")]):
        reported.clear()
        delivered = await hub.publish_fairly(PILOT, ["1"]) if fairly else hub.publish(PILOT, ["1"])
        assert delivered == 1
        assert sorted(reported) == sorted(expected)
    assert hub.subscribers(PILOT) == 1
    assert hub.statistics().gone_total == 1
    assert hub.drop_session(A) == (PILOT,)
    assert hub.metas(PILOT) == {}


async def test_other_tasks_run_while_a_large_topic_is_served(hub, nursery):
    """
    After so many pushes; who unsubscribes meanwhile hears nothing more, who subscribes begins afterwards.
    """
    format = Marked("")
    clients = [Client() for _ in range(2 * PUSHES_BETWEEN_CHECKPOINTS + 2)]
    late = Client()
    for number, client in enumerate(clients):
        hub.subscribe(PILOT, SessionId(str(number)), client, format)
    last = SessionId(str(len(clients) - 1))
    served_meanwhile: list[int] = []

    async def meanwhile() -> None:
        served_meanwhile.append(sum(len(client.pushed) for client in clients))
        hub.unsubscribe(PILOT, last)
        hub.subscribe(PILOT, A, late, format)

    # Started when the first outlet is pushed, so that it runs at the first checkpoint after that. Who of
    # the two tasks goes on first is Trio's dice: the second checkpoint is after both.
    clients[0].on_push = lambda: nursery.start_soon(meanwhile)
    assert await hub.publish_fairly(PILOT, ["1"]) == len(clients) - 1
    assert served_meanwhile[0] in (PUSHES_BETWEEN_CHECKPOINTS, 2 * PUSHES_BETWEEN_CHECKPOINTS)
    assert (clients[-2].pushed, clients[-1].pushed, late.pushed) == ([b"1;"], [], [])


async def test_a_session_that_comes_back_while_the_others_are_served_is_not_dropped(hub, nursery):
    """
    Its old outlet was gone; the subscription with the new one stays.
    """
    clients = [Client() for _ in range(PUSHES_BETWEEN_CHECKPOINTS + 1)]
    for number, client in enumerate(clients):
        hub.subscribe(PILOT, SessionId(str(number)), client, Marked(""))
    back = Client()

    async def come_back() -> None:
        hub.subscribe(PILOT, SessionId("0"), back, Marked(""))

    clients[0].alive = False
    clients[0].on_push = lambda: nursery.start_soon(come_back)
    # One format each: a checkpoint after each push, so that the last are pushed after the return.
    assert await hub.publish_fairly(PILOT, ["1"]) == len(clients) - 1
    assert hub.publish(PILOT, ["2"]) == len(clients)
    assert back.pushed == [b"2;"]


async def test_a_cancellation_does_not_cut_a_publication_in_half(hub):
    """
    Before the first push, or not at all: half a delivery could not be repaired.
    """
    clients = [Client() for _ in range(PUSHES_BETWEEN_CHECKPOINTS * 2)]
    format = Marked("")
    for number, client in enumerate(clients):
        hub.subscribe(PILOT, SessionId(str(number)), client, format)
    with trio.CancelScope() as scope:
        clients[0].on_push = scope.cancel
        await hub.publish_fairly(PILOT, ["1"])
    assert [client.pushed for client in clients] == [[b"1;"]] * len(clients)
    with trio.CancelScope() as scope:
        scope.cancel()
        await hub.publish_fairly(PILOT, ["2"])
    assert scope.cancelled_caught
    assert [client.pushed for client in clients] == [[b"1;"]] * len(clients)


async def test_a_message_that_cannot_be_encoded_reaches_nobody(hub):
    """
    The error is the publisher's; no outlet has got half of what was to be told.
    """

    class Picky:
        def encode(self, message: str) -> bytes:
            raise UnicodeError(message)

    client = Client()
    hub.subscribe(PILOT, A, client, Marked(""))
    hub.subscribe(PILOT, B, client, Picky())
    with pytest.raises(UnicodeError):
        hub.publish(PILOT, ["1"])
    with pytest.raises(UnicodeError):
        await hub.publish_fairly(PILOT, ["1"])
    assert client.pushed == []


async def test_the_position_is_remembered_as_long_as_somebody_is_there(hub):
    """
    A crashed actor goes on from it; an empty topic owes nobody anything.
    """
    hub.note_position(PILOT, 6)
    assert hub.position(PILOT) is None
    hub.subscribe(PILOT, A, Client(), Marked(""))
    hub.track(PILOT, B, "viewing")
    hub.note_position(PILOT, 7)
    hub.unsubscribe(PILOT, A)
    assert hub.position(PILOT) == 7
    hub.untrack(PILOT, B)
    assert hub.position(PILOT) is None
    hub.track(PILOT, B, "viewing")
    assert hub.position(PILOT) is None


async def test_metas_are_a_copy_in_the_order_of_coming(hub):
    """
    An actor rebuilds its presence from them, whatever comes and goes meanwhile.
    """
    hub.track(PILOT, B, "viewing")
    hub.track(PILOT, A, "viewing")
    metas = hub.metas(PILOT)
    hub.track(PILOT, B, "editing")
    hub.untrack(PILOT, A)
    assert list(metas.items()) == [(B, "viewing"), (A, "viewing")]
    assert hub.metas(PILOT) == {B: "editing"}


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe", "track", "untrack", "drop_session", "die", "publish"]),
        st.sampled_from([PILOT, CATALOG]),
        st.sampled_from([A, B, C]),
        st.booleans(),
    ),
    max_size=40,
)


@given(operations=OPERATIONS)
def test_the_hub_agrees_with_a_plain_model_and_leaves_nothing_behind(operations):
    """
    Whatever comes, goes and dies: who hears is who is subscribed, and an empty hub is empty.
    """
    hub: Hub[str, str, int] = Hub()
    formats = (Marked(""), Marked("f"))
    subscribed: dict[tuple[Topic, SessionId], Client] = {}
    tracked: set[tuple[Topic, SessionId]] = set()
    for what, topic, session, flag in operations:
        here = (topic, session)
        if what == "subscribe":
            subscribed[here] = Client()
            hub.subscribe(topic, session, subscribed[here], formats[flag])
        elif what == "unsubscribe":
            subscribed.pop(here, None)
            hub.unsubscribe(topic, session)
        elif what == "track":
            tracked.add(here)
            hub.track(topic, session, "viewing")
        elif what == "untrack":
            tracked.discard(here)
            hub.untrack(topic, session)
        elif what == "drop_session":
            both = {place for place in subscribed.keys() | tracked if place[1] == session}
            assert {(known, session) for known in hub.drop_session(session)} == both
            subscribed = {place: client for place, client in subscribed.items() if place not in both}
            tracked -= both
        elif what == "die" and here in subscribed:
            subscribed[here].alive = False
        elif what == "publish":
            other = CATALOG if topic is PILOT else PILOT
            meant = {
                place: client
                for place, client in subscribed.items()
                if place[0] == topic and not (flag and (other, place[1]) in subscribed)
            }
            before = {place: len(client.pushed) for place, client in meant.items()}
            delivered = hub.publish(topic, ["x"], but_not=other if flag else None)
            assert delivered == sum(client.alive for client in meant.values())
            for place, client in meant.items():
                assert len(client.pushed) == before[place] + client.alive
                if not client.alive:
                    del subscribed[place]
        everywhere = subscribed.keys() | tracked
        assert set(hub.topics()) == {place[0] for place in everywhere}
        statistics = hub.statistics()
        assert statistics.sessions == len({place[1] for place in everywhere})
        assert statistics.subscriptions == len(subscribed)
    for session in (A, B, C):
        hub.drop_session(session)
    assert hub.topics() == ()
    assert (hub._topics, hub._topics_of) == ({}, {})
