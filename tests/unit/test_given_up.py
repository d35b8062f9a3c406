"""Sessions that end, or are told to try later, while their wish to subscribe waits in a mailbox."""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from engine.actors.catalog import CatalogMessage, SubscribeCatalog
from engine.actors.log_actor import LogActor, LogMessage
from engine.actors.messages import Channels, Subscribed
from engine.actors.topic_log import Subscribe, TopicLog
from engine.domain.event import CATALOG, JOBS, Epoch, Offset, Topic
from engine.domain.presence import SessionId
from engine.runtime.mailbox import Mailbox, Reply, ask
from engine.store.events import EventLog
from tests.contract.stage import Client, Plain, catalog_without_store

# Lets a client ask, and the actor live.
Asks = Callable[[Client], Awaitable[None]]
Lives = Callable[[trio.TaskStatus[None]], Awaitable[None]]


def catalog(hub: Channels) -> tuple[Asks, Lives]:
    mailbox: Mailbox[CatalogMessage] = Mailbox(10, name="catalog")

    def wish(client: Client, reply: Reply[None]) -> SubscribeCatalog:
        def opening(first: Subscribed) -> bytes:
            return client.format.encode(first)

        return SubscribeCatalog(
            session=client.session, outlet=client, format=client.format, opening=opening, reply=reply
        )

    return lambda client: ask(mailbox, partial(wish, client)), catalog_without_store(mailbox, hub).run


def jobs(hub: Channels) -> tuple[Asks, Lives]:
    mailbox: Mailbox[LogMessage] = Mailbox(10, name="jobs")

    async def head() -> Offset:
        await trio.lowlevel.checkpoint()
        return Offset(0)

    async def snapshot() -> tuple[Offset, dict[str, object]]:
        raise AssertionError("nobody wants one")

    def wish(client: Client, reply: Reply[None]) -> Subscribe:
        return Subscribe(
            session=client.session,
            outlet=client,
            format=client.format,
            since=None,
            wants_snapshot=False,
            reply=reply,
        )

    log = TopicLog(
        topic=JOBS,
        epoch=Epoch("epoch"),
        hub=hub,
        log=cast(EventLog, None),
        head=head,
        snapshot=snapshot,
        replay_limit=10,
        replay_size=10_000,
        ring=deque(maxlen=10),
    )
    actor = LogActor(mailbox=mailbox, log=log, position_check=3600)
    return lambda client: ask(mailbox, partial(wish, client)), actor.run


@pytest.mark.parametrize(("topic", "of"), [(CATALOG, catalog), (JOBS, jobs)])
async def test_a_session_that_ended_before_it_was_let_in_is_not_subscribed(
    nursery: trio.Nursery, topic: Topic, of: Callable[[Channels], tuple[Asks, Lives]]
) -> None:
    """
    Although its line still takes what is written: nobody would end that subscription. Others are let in.
    """
    hub = Channels()
    asks, lives = of(hub)
    gone, there = (Client(SessionId(name), Plain()) for name in ("gone", "there"))
    with trio.CancelScope() as patience:
        nursery.start_soon(asks, there)
        await wait_all_tasks_blocked()
        patience.deadline = trio.current_time() + 0.01
        await asks(gone)
    assert patience.cancelled_caught
    hub.drop_session(gone.session)
    await nursery.start(lives)
    await wait_all_tasks_blocked()
    assert hub.subscription(topic, gone.session) is None
    assert gone.heard == []
    assert hub.subscription(topic, there.session) is not None
    nursery.cancel_scope.cancel()
