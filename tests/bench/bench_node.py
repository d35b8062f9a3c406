"""The real program with two additions: commits carry their time, and a port takes events for the catalog."""

import itertools
import time
from datetime import UTC, datetime

import attrs
import trio

import gateway.__main__
from engine.actors.catalog import Brought
from engine.actors.feed import Feed
from engine.domain.event import Epoch, Event, EventId, LogPlace, Offset, Request, Topic, UserId
from engine.node import Node

# Makes the stamp 19 digits long and unlike any other number: fanload.c.
TS_BASE = 10**18

_committed = Feed.committed
_open = Node.open


def committed_and_stamped(feed: Feed, event: Event) -> None:
    """
    What a REST request calls as soon as its statement has answered: the commit, as this process knows it.
    """
    stamp = TS_BASE + time.monotonic_ns()
    _committed(feed, attrs.evolve(event, data={**event.data, "ts": stamp}))


async def open_and_publish(*given: object) -> Node:
    """
    Open the node, and publish through its catalog whatever comes in on a port.
    """
    node = await _open(*given)  # type: ignore[arg-type]
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"publishing on {listeners[0].socket.getsockname()[1]}")
    trio.lowlevel.spawn_system_task(_serve, node, listeners)
    return node


async def _serve(node: Node, listeners: list[trio.SocketListener]) -> None:
    # Behind all that the catalog was brought, and before all that will be committed.
    begin = node.catalog.brought

    async def publish(stream: trio.SocketStream) -> None:
        rest = b""
        async for data in stream:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                # As an event of another node comes in; each is of another episode, as in a busy house.
                node.catalog.mailbox.tell_nowait(Brought((_event(begin, int(line)),)))

    await trio.serve_listeners(publish, listeners)


_numbers = itertools.count(1)


def _event(begin: LogPlace, stamp: int) -> Event:
    """
    About 200 bytes as a frame, so with shorter ids than real ones.
    """
    number = next(_numbers)
    return Event(
        place=LogPlace(begin.xid, begin.seq + number),
        id=EventId(f"e-{number:07}"),
        topic=Topic(f"episode:{number:07}"),
        offset=Offset(1),
        epoch=Epoch("bench"),
        type="bench_published",
        data={"ts": stamp},
        user=UserId("bench"),
        request=Request(mutation_id="bench"),
        at=datetime.now(UTC),
    )


if __name__ == "__main__":
    Feed.committed = committed_and_stamped  # type: ignore[assignment, method-assign]
    Node.open = open_and_publish  # type: ignore[assignment, method-assign]
    gateway.__main__.main()
