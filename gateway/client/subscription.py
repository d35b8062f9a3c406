"""One topic as a client hears it: each event once, in order, within a bound. Knows no connection."""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Protocol, Self

import attrs
import trio

from gateway.client.messages import Event, Gap, Item, Position

CATALOG = "catalog"
# Ids to know again: the catalog may tell early as many as its actor lets overtake the feed.
CATALOG_WINDOW = 10_000
WINDOW = 1_000


class Owner(Protocol):
    """
    What a subscription asks of its client.
    """

    # Orders what arrives by all subscriptions.
    arrivals: "count[int]"
    # Where whoever iterates over all subscriptions waits.
    news: trio.lowlevel.ParkingLot

    @property
    def is_asked(self) -> bool:
        """
        Whether somebody waits for a reply: reading must go on then.
        """
        ...

    def recover_soon(self, subscription: "Subscription") -> None:
        """
        Subscribe anew from the last position: something was left out.
        """
        ...

    async def unsubscribe(self, subscription: "Subscription") -> None: ...


@attrs.define(eq=False)
class Window:
    """
    The ids heard last, at most `size`: enough to know again what comes twice.
    """

    size: int
    _ids: OrderedDict[str, None] = attrs.field(factory=OrderedDict, init=False)

    def add(self, id: str) -> bool:
        """
        Remember an id; False when it was known.
        """
        if id in self._ids:
            return False
        self._ids[id] = None
        if len(self._ids) > self.size:
            self._ids.popitem(last=False)
        return True


@attrs.frozen
class _Entry:
    arrival: int
    item: Item
    # Where the subscription stands once this was taken; None when it stands where it stood.
    position: Position | None


@attrs.define(eq=False, kw_only=True)
class Subscription:
    """
    Own what was heard of one topic and not taken yet: at most `limit` events.

    Iterate over it for events and gaps. When it is full, the client stops reading, and the node waits; a
    connection's end loses nothing of it.
    """

    topic: str
    wants_snapshot: bool
    limit: int
    _owner: Owner = attrs.field(alias="owner")
    # Of what was taken last: come back with it, in another process even, and nothing is missed.
    position: Position | None
    # How things stood when the subscription began, if that was wished, or at the last gap.
    snapshot: object | None = attrs.field(default=None, init=False)
    # Set when the node has answered for the first time.
    answered: trio.Event = attrs.field(factory=trio.Event, init=False)
    # Why it ended; None while it goes on, or when its user ended it.
    error: Exception | None = attrs.field(default=None, init=False)
    ended: bool = attrs.field(default=False, init=False)
    # Of what was heard last: recovery begins here.
    _heard: Position | None = attrs.field(init=False)
    # Where the node stood when it began to tell what was missed.
    _promised: Position | None = attrs.field(default=None, init=False)
    _window: Window = attrs.field(init=False)
    # On the present connection, between the node's answer and the next loss. What comes outside of it
    # comes again, in order.
    _listening: bool = attrs.field(default=False, init=False)
    # Something was left out although the connection stands.
    _behind: bool = attrs.field(default=False, init=False)
    _inbox: deque[_Entry] = attrs.field(factory=deque, init=False)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    _room: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    def __attrs_post_init__(self) -> None:
        self._heard = self.position
        self._window = Window(CATALOG_WINDOW if self.topic == CATALOG else WINDOW)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        await trio.lowlevel.checkpoint()
        while (item := self.take_nowait()) is None:
            if self.ended:
                raise self.error or StopAsyncIteration
            await self._news.park()
        return item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        Hear of this topic no more. What was heard and not taken is dropped.
        """
        self._inbox.clear()
        self.end(None)
        await self._owner.unsubscribe(self)

    # For the client.

    @property
    def is_blocked(self) -> bool:
        """
        Whether the client's reader waits for room here.
        """
        return len(self._room) > 0

    def next_arrival(self) -> int | None:
        """
        The number of the oldest item; None when there is none.
        """
        return self._inbox[0].arrival if self._inbox else None

    def take_nowait(self) -> Item | None:
        """
        The oldest item, if there is one.
        """
        if not self._inbox:
            return None
        entry = self._inbox.popleft()
        if entry.position is not None:
            self.position = entry.position
        if self._behind and len(self._inbox) <= self.limit // 2:
            self._lag()
        self.wake_reader()
        return entry.item

    def asks_since(self) -> Position | None:
        """
        The position to ask the node for. Until it answers, what comes is not listened to.
        """
        self._listening = False
        self._behind = False
        return self._heard

    def begin(self, position: Position | None, *, recovered: bool, snapshot: object | None) -> None:
        """
        The node answers: from now on it tells everything, first of all what was missed, if `recovered`.
        """
        if snapshot is not None:
            self.snapshot = snapshot
        if not recovered:
            if self._heard is not None or self.answered.is_set():
                shown = snapshot if isinstance(snapshot, dict) else None
                self._put(Gap(topic=self.topic, snapshot=shown, position=position), position)
            elif position is not None:
                self._mark(position)
            self._heard = position
        self._promised = position if recovered else None
        self._listening = True
        self.answered.set()

    def caught_up(self) -> None:
        """
        What was missed has been told.
        """
        if self._promised is not None:
            self.reached(self._promised)

    def reached(self, position: Position) -> None:
        """
        Everything up to a position was told.
        """
        if not self._listening:
            return
        if not self._counts(self.topic):
            self._heard = position
            self._mark(position)
        elif isinstance(position.offset, int) and self._follows(position) > 0:
            self._lag()

    async def deliver(self, event: Event) -> None:
        """
        Hear of an event, unless it is known or comes too early. Waits for room.
        """
        if not self._listening or self.ended:
            return
        own = self._counts(event.topic)
        distance = self._follows(event.position) if own else 1
        if distance < 1:
            return
        if distance > 1:
            self._lag()  # there is a hole before it; both come again
            return
        if not await self._wait_room() or not self._window.add(event.id):
            return
        position = event.position if event.topic == self.topic else None
        self._heard = position or self._heard
        self._put(event, position)

    def lose(self) -> None:
        """
        The connection is gone.
        """
        self._listening = False
        self.wake_reader()

    def end(self, error: Exception | None) -> None:
        """
        Nothing more will come; why not is raised to whoever has taken everything.
        """
        self.error = self.error or error
        self.ended = True
        self.answered.set()
        self.wake_reader()
        self._tell()

    def wake_reader(self) -> None:
        """
        Let the reader look whether it still has to wait for room.
        """
        self._room.unpark_all()

    def _counts(self, topic: str) -> bool:
        # The log of an episode has no holes (docs/real-time.md); of other orders nothing is known here.
        return topic == self.topic and topic.startswith("episode:")

    def _follows(self, position: Position) -> int:
        """
        How far a position is beyond what was heard; 1 is next. Beyond any measure if the order is another.
        """
        heard = self._heard
        if heard is None:
            return 1
        if heard.epoch != position.epoch:
            return 2
        if isinstance(heard.offset, int) and isinstance(position.offset, int):
            return position.offset - heard.offset
        return 1

    async def _wait_room(self) -> bool:
        while len(self._inbox) >= self.limit and self._listening and not self.ended:
            if self._owner.is_asked:
                # Whoever waits for a reply may be who should take: read on, and let the node tell it again.
                self._listening = False
                self._behind = True
                return False
            await self._room.park()
        return self._listening and not self.ended

    def _lag(self) -> None:
        self._listening = False
        self._owner.recover_soon(self)

    def _put(self, item: Item, position: Position | None) -> None:
        if isinstance(item, Gap) and self._inbox and isinstance(self._inbox[-1].item, Gap):
            self._inbox.pop()  # gaps wait for no room, so they must not add up
        self._inbox.append(_Entry(next(self._owner.arrivals), item, position))
        self._tell()

    def _mark(self, position: Position) -> None:
        if self._inbox:
            self._inbox[-1] = attrs.evolve(self._inbox[-1], position=position)
        else:
            self.position = position

    def _tell(self) -> None:
        self._news.unpark_all()
        self._owner.news.unpark_all()


@attrs.define(eq=False)
class Events:
    """
    What all of a client's subscriptions hear. Whoever iterates over it does not over one of them besides.
    """

    _subscriptions: MutableMapping[str, Subscription]
    _news: trio.lowlevel.ParkingLot
    # Lets the client hear something at all.
    _begin: Callable[[], Awaitable[None]]
    # Raises once nothing more will come.
    _raise_end: Callable[[], None]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        await trio.lowlevel.checkpoint()
        if not self._subscriptions:
            self._raise_end()
            await self._begin()
        while True:
            heard = [
                (arrival, each)
                for each in self._subscriptions.values()
                if (arrival := each.next_arrival()) is not None
            ]
            if heard:
                item = min(heard)[1].take_nowait()
                assert item is not None
                return item
            self._raise_end()
            for each in list(self._subscriptions.values()):
                if each.error is not None:
                    del self._subscriptions[each.topic]
                    raise each.error
            await self._news.park()
