"""The actor of the topic `catalog`: every event of every episode, for the list page."""

from typing import assert_never

import attrs
import trio

from engine.actors.messages import Channels, Message, Subscribed
from engine.domain.event import CATALOG, Event, EventId, LogPlace, Topic
from engine.domain.presence import SessionId
from engine.runtime.hub import Format, Outlet
from engine.runtime.mailbox import Mailbox, Reply

TURN = 256
# Events told by their writers before the feed brought them; beyond it one waits for the feed.
AHEAD = 10_000


@attrs.frozen
class Told:
    """
    A writer on this node says what it has just committed: early, in no certain order, not guaranteed.
    """

    event: Event


@attrs.frozen
class Brought:
    """
    The feed brings what was committed: all of it, in commit order.
    """

    events: tuple[Event, ...]


@attrs.frozen(kw_only=True)
class SubscribeCatalog:
    """
    A session wants to hear of everything from now on. Answered when it does.
    """

    session: SessionId
    outlet: Outlet
    format: Format[Message]
    # Whether the client asked, and so wants to be answered.
    announced: bool
    reply: Reply[None]


CatalogMessage = Told | Brought | SubscribeCatalog


@attrs.define(eq=False, kw_only=True)
class CatalogActor:
    """
    Own which events the catalog has heard of, so that it hears of each once.

    The object outlives a crash of its task, and with it this knowledge.
    """

    mailbox: Mailbox[CatalogMessage]
    hub: Channels
    # Published ahead of the feed; each leaves when the feed brings it.
    _ahead: set[EventId] = attrs.field(factory=set, init=False)
    # As far as the feed has brought events: what is told later than it was brought is old.
    _brought: LogPlace = attrs.field(default=LogPlace(0, 0), init=False)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Publish until cancelled.
        """
        with self.mailbox.serving():
            task_status.started()
            while True:
                message = await self.mailbox.receive()
                await self._handle([message, *self.mailbox.drain_nowait(TURN - 1)])

    async def _handle(self, messages: list[CatalogMessage]) -> None:
        ready: list[Event] = []
        for message in messages:
            match message:
                case Told(event):
                    ready += self._told(event)
                case Brought(events):
                    ready += self._bring(events)
                case SubscribeCatalog():
                    await self._publish(ready)
                    ready = []
                    self._subscribe(message)
                case _:
                    assert_never(message)
        await self._publish(ready)

    def _told(self, event: Event) -> list[Event]:
        if event.place <= self._brought or event.id in self._ahead or len(self._ahead) >= AHEAD:
            return []
        self._ahead.add(event.id)
        return [event]

    def _bring(self, events: tuple[Event, ...]) -> list[Event]:
        new = []
        for event in events:
            if event.id in self._ahead:
                self._ahead.discard(event.id)
            else:
                new.append(event)
        self._brought = max(self._brought, events[-1].place)
        return new

    def _subscribe(self, wish: SubscribeCatalog) -> None:
        first = Subscribed(topic=CATALOG, recovered=False, position=None)
        data = wish.format.encode(first) if wish.announced else b""
        if wish.outlet.push(data):
            self.hub.subscribe(CATALOG, wish.session, wish.outlet, wish.format)
        wish.reply.set(None)

    async def _publish(self, events: list[Event]) -> None:
        """
        Who also listens to an episode itself hears of it from the episode's actor, and not twice.

        What nobody hears twice leaves as one write per subscriber, whatever episodes it is of.
        """
        start = 0
        while start < len(events):
            # Looked at anew each time: others may subscribe to an episode while these are served.
            watched = self._watched(events[start])
            end = start + 1
            while end < len(events) and self._watched(events[end]) == watched:
                end += 1
            await self.hub.publish_fairly(CATALOG, events[start:end], but_not=watched)
            start = end

    def _watched(self, event: Event) -> Topic | None:
        return event.topic if self.hub.subscribers(event.topic) else None
