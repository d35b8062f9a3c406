"""A feed with everything around it, on a real store; whatever it hands on stays until the test looks."""

import attrs
import trio

from engine.actors.catalog import Brought
from engine.actors.feed import Feed
from engine.actors.retention import Retention
from engine.domain.event import EpisodeId
from engine.errors import StoreUnavailableError
from engine.runtime.mailbox import Mailbox
from tests.contract.studio import Log, Studio
from tests.patience import patience

NEVER = 3600.0


def episode_of(topic):
    return EpisodeId(topic.removeprefix("episode:"))


@attrs.define(eq=False)
class Watched:
    """
    The episodes that somebody watches, each with a mailbox that nobody reads; a stand-in for the registry.
    """

    mailboxes: dict[EpisodeId, Mailbox] = attrs.field(factory=dict)

    def watch(self, event, room=100):
        """
        From now on somebody watches the episode of this event.
        """
        self.mailboxes[episode_of(event.topic)] = Mailbox(room, name="episode")

    def tell_running_nowait(self, key, message):
        """
        As the registry does.
        """
        if key not in self.mailboxes:
            return False
        self.mailboxes[key].tell_nowait(message)
        return True

    def told(self, event):
        """
        What the episode of this event has been told since the last time.
        """
        return [message.event for message in self.mailboxes[episode_of(event.topic)].drain_nowait(100)]


@attrs.define(eq=False)
class Ringer:
    """
    A bell that counts, and can be away.
    """

    rung: int = 0
    away: bool = False

    async def ring(self):
        """
        As the bell does.
        """
        self.rung += 1
        if self.away:
            raise StoreUnavailableError("away")


@attrs.define(eq=False, kw_only=True)
class Kitchen:
    """
    A feed with everything around it: what it hands on stays in mailboxes until the test looks.
    """

    studio: Studio
    log: Log
    nursery: trio.Nursery
    bell: Ringer = attrs.field(factory=Ringer)
    episodes: Watched = attrs.field(factory=Watched)
    catalog: Mailbox = attrs.field(factory=lambda: Mailbox(100, name="catalog"))
    effects: list = attrs.field(factory=lambda: [Mailbox(100, name="p"), Mailbox(100, name="q")])
    feed: Feed = attrs.field(init=False)

    async def start(self, *, poll=NEVER, batch=100, place=None):
        """
        Begin with everything that is committed from now on.
        """
        self.feed = Feed(
            log=self.log,
            bell=self.bell,
            episodes=self.episodes,
            users=Watched(),
            jobs=Watched(),
            catalog=self.catalog,
            effects=self.effects,
            retention=Retention(log=self.log, age=NEVER, count=1000, interval=NEVER),
            place=place or await self.studio.store.log.end(),
            poll=poll,
            batch=batch,
        )
        await self.nursery.start(self.feed.run)

    async def brought(self, count):
        """
        The next so many events that the catalog is brought, by the feed, in however many messages.
        """
        found = []
        with patience():
            while len(found) < count:
                message = await self.catalog.receive()
                if isinstance(message, Brought):
                    found += message.events
        assert len(found) == count
        return found

    async def commit(self, *titles):
        """
        Write events here, and tell the feed as the gateway does.
        """
        events = [await self.studio.create(title) for title in titles]
        for event in events:
            self.feed.committed(event)
        return events
