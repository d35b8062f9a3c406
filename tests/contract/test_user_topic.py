"""What one person is told: live and recovered, in order, to nobody else, and to no plugin."""

import uuid
from functools import partial
from types import SimpleNamespace

import attrs
import pytest
import trio

from conf.settings import load
from engine.actors.catalog import SubscribeCatalog
from engine.actors.topic_log import Subscribe
from engine.domain import episode as episodes
from engine.domain.event import EpisodeId, Offset, Position, Request, UserId, user_topic, utc_now
from engine.hookspecs import hookimpl
from engine.node import Node
from engine.plugin_host.host import PluginHost
from engine.runtime.mailbox import ask
from engine.store.events import Author
from tests.contract.studio import Studio
from tests.patience import patience

ALICE, BOB = UserId("alice@example.com"), UserId("bob@example.com")


@attrs.define(eq=False, kw_only=True)
class Inboxes:
    """
    A node without a gateway, and people who read their inboxes and write episodes.
    """

    studio: Studio
    node: Node
    # The topics of what a plugin that reacts to everything was handed.
    handed: list

    async def subscribe(self, client, user, since=None, *, snapshot=False):
        """
        Listen to a person's topic, from an offset on or from now; the answer that was heard.
        """
        position = None if since is None else Position(Offset(since), self.studio.store.epoch)
        begin = len(client.heard)
        with patience():
            await self.node.users.ask(
                user,
                lambda reply: Subscribe(
                    session=client.session,
                    outlet=client,
                    format=client.format,
                    since=position,
                    wants_snapshot=snapshot,
                    reply=reply,
                ),
            )
        return client.heard[begin]

    async def create(self, user, title):
        """
        A person creates an episode, which is worth a notification.
        """
        author = Author(user=user, request=Request(mutation_id="m"))
        change = episodes.create(EpisodeId(str(uuid.uuid4())), {"title": title}, user=user, now=utc_now())
        event = await self.studio.episodes.create(change, author, None)
        self.node.feed.committed(event)

    async def head(self, user, offset):
        """
        Wait until a person was told so much.
        """
        with patience():
            while await self.studio.store.log.user_offset(user) < offset:  # noqa: ASYNC110
                await trio.sleep(0.01)

    async def told(self, user):
        """
        The messages that a person was told, as they are in the log.
        """
        events = await self.studio.store.log.since(user_topic(user), Offset(0), 1000)
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        return events


@pytest.fixture
async def inboxes(studio, migrated_database, nursery):
    """
    A running node.
    """
    handed = []

    async def on_events(context, events):
        handed.extend(event.topic for event in events)

    plugins = PluginHost(decision_budget=1)
    plugins.load(["notifications"], discover=False)
    plugins.register(SimpleNamespace(on_events=hookimpl(on_events)), "nosy")
    wanted = {
        "plugins.linger": "1ms",
        "database.statement_timeout": "20s",
        "feed.poll": "50ms",
        "realtime.replay_limit": 5,
        "realtime.replay_ring": 3,
    }
    settings = load(None, environ={}, overrides=wanted).settings
    node = await Node.open(settings, migrated_database, plugins)

    async def idle(task_status):
        task_status.started()
        await trio.sleep_forever()

    await nursery.start(partial(node.run, idle))
    yield Inboxes(studio=studio, node=node, handed=handed)
    await node.stop()


def kinds(client):
    return [message["event"] for message in client.heard if "event" in message]


async def test_a_person_is_told_of_a_notification_as_it_is_written(inboxes, client):
    """
    In the order of the log, without gaps; the record is in the inbox before anybody hears of it.
    """
    alice = client("alice")
    assert (await inboxes.subscribe(alice, ALICE))["at"] == 0
    for number in range(1, 6):
        await inboxes.create(ALICE, f"Episode {number}")
    await alice.wait(lambda it: len(it.offsets) == 5)
    assert (alice.offsets, set(kinds(alice))) == ([1, 2, 3, 4, 5], {"notification_created"})
    told = await inboxes.told(ALICE)
    assert alice.ids == [event.id for event in told]
    shown = [event.data["notification"] for event in told]
    assert [each["message"] for each in shown] == [
        f"Episode 'Episode {number}' created successfully" for number in range(1, 6)
    ]
    page, _ = await inboxes.studio.store.records.notifications(ALICE, limit=10)
    assert sorted(record.id for record in page.records) == sorted(each["id"] for each in shown)


async def test_nobody_else_hears_of_it(inboxes, client):
    """
    Neither another person nor the catalog, and no plugin is handed it.
    """
    alice, bob, everyone = client("alice"), client("bob"), client("everyone")
    await inboxes.subscribe(alice, ALICE)
    await inboxes.subscribe(bob, BOB)
    catalog = inboxes.node.catalog.mailbox
    await ask(
        catalog,
        lambda reply: SubscribeCatalog(
            session=everyone.session, outlet=everyone, format=everyone.format, opening=None, reply=reply
        ),
    )
    for number in range(3):
        await inboxes.create(ALICE, f"Episode {number}")
    await inboxes.create(BOB, "Bob's")
    await alice.wait(lambda it: len(it.offsets) == 3)
    await bob.wait(lambda it: it.offsets)
    assert (alice.offsets, bob.offsets) == ([1, 2, 3], [1])
    assert not set(alice.ids) & set(bob.ids)
    # What comes after it in the log has come to all of them.
    await inboxes.create(BOB, "Another")
    await inboxes.head(BOB, 2)
    await inboxes.create(BOB, "The last")
    await everyone.wait(lambda it: len(it.ids) == 6)
    assert set(kinds(everyone)) == {"episode_created"}
    with patience():
        while len(inboxes.handed) < 6:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert {topic.partition(":")[0] for topic in inboxes.handed} == {"episode"}


async def test_a_person_who_returns_gets_what_was_missed(inboxes, client):
    """
    From memory or from the log; from another person's point of view nothing happened.
    """
    first = client("first")
    await inboxes.subscribe(first, ALICE)
    await inboxes.create(ALICE, "One")
    await first.wait(lambda it: it.offsets)
    first.alive = False
    inboxes.node.hub.drop_session(first.session)
    for number in range(4):
        await inboxes.create(ALICE, f"Episode {number}")
    await inboxes.head(ALICE, 5)
    told = await inboxes.told(ALICE)
    for since in (0, 1, 3, 5):
        back = client(f"back-{since}")
        assert (await inboxes.subscribe(back, ALICE, since))["recovered"]
        assert back.ids == [event.id for event in told[since:]]
    await inboxes.create(ALICE, "The last")
    await back.wait(lambda it: it.offsets)
    assert back.offsets == [6]


@pytest.mark.parametrize("since", [0, 9, -3])
async def test_a_person_who_missed_too_much_is_shown_the_inbox(inboxes, client, since):
    """
    Too many, a position that is still to come, one that never was.
    """
    for number in range(6):
        await inboxes.create(ALICE, f"Episode {number}")
    await inboxes.head(ALICE, 6)
    back = client("back")
    answer = await inboxes.subscribe(back, ALICE, since)
    assert (answer["recovered"], answer["at"], back.offsets) == (False, 6, [])
    assert len(answer["snapshot"]["notifications"]) == answer["snapshot"]["unread"] == 6


async def test_what_a_person_was_told_is_on_disk_before(inboxes, studio):
    """
    Effects do not wait for the disk; but what somebody may have heard of must not be taken back by a crash
    of PostgreSQL, and its place in the log not be given to something else.
    """
    cursors = studio.store.cursors
    transaction = cursors.begin(await cursors.open("p", await studio.store.log.end()))
    assert (await transaction.fetch("show synchronous_commit"))[0]["synchronous_commit"] == "off"
    await transaction.tell_user(ALICE, "notification_created", {})
    assert (await transaction.fetch("show synchronous_commit"))[0]["synchronous_commit"] == "on"
    await transaction.rollback()
    transaction = cursors.begin(await cursors.open("p", await studio.store.log.end()))
    assert (await transaction.fetch("show synchronous_commit"))[0]["synchronous_commit"] == "off"
    await transaction.rollback()
