"""The catalog's actor with the feed that brings it everything, on a real store; guests who come and go."""

from typing import Any

import attrs
import trio

from conf.settings import load
from engine.actors.catalog import CatalogActor, SubscribeCatalog
from engine.actors.feed import Feed
from engine.actors.messages import Channels
from engine.actors.retention import Retention
from engine.assembly.topics import Topics
from engine.domain.event import CatalogPosition, Event
from engine.domain.presence import SessionId
from engine.runtime.mailbox import ask
from engine.store.events import EventLog
from tests.contract.stage import Client, Plain
from tests.contract.studio import Studio
from tests.patience import patience

NEVER = 3600.0


class Nobody:
    """
    A registry whose actors do not run.
    """

    def tell_running_nowait(self, key: object, message: object) -> bool:
        return False


class Silent:
    """
    A bell without other nodes.
    """

    async def ring(self) -> None:
        await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class CountedLog(EventLog):
    """
    The event log; counts what a catalog reads, and lets a test do something in the middle.
    """

    reads: int = attrs.field(default=0, kw_only=True)
    # Runs between the two reads of a recovery, once.
    between: Any = attrs.field(default=None, kw_only=True)

    async def after_public(self, *given: Any) -> list[Event]:
        self.reads += 1
        found = await super().after_public(*given)
        await self._interfere()
        return found

    async def newest_public(self, *given: Any) -> list[Event]:
        self.reads += 1
        return await super().newest_public(*given)

    async def cut(self) -> Any:
        self.reads += 1
        found = await super().cut()
        await self._interfere()
        return found

    async def _interfere(self) -> None:
        between, self.between = self.between, None
        if between is not None:
            await between()


@attrs.define(eq=False, kw_only=True)
class Lobby:
    """
    One node's catalog, life after life of the node.
    """

    studio: Studio
    nursery: trio.Nursery
    log: CountedLog = attrs.field(init=False)
    hub: Channels = attrs.field(init=False)
    actor: CatalogActor = attrs.field(init=False)
    feed: Feed = attrs.field(init=False)
    _life: trio.CancelScope | None = attrs.field(default=None, init=False)

    async def start(self, **wanted: object) -> None:
        """
        Begin a life of the node, after the end of the one before; settings as `realtime_replay_limit=3`.
        """
        if self._life is not None:
            self._life.cancel()
        named = {name.replace("_", ".", 1): value for name, value in wanted.items()}
        overrides = {"realtime.position_interval": "5ms", **named}
        settings = load(None, environ={}, overrides=overrides).settings
        store = self.studio.store
        self.log = CountedLog(database=store.log.database)
        self.hub = Channels()
        place = await store.log.end()
        topics = Topics(
            settings=settings,
            store=attrs.evolve(store, log=self.log),
            hub=self.hub,
            on_presence=None,  # type: ignore[arg-type]  # the catalog knows of no presence
        )
        self.actor = topics.catalog(place)
        self.feed = Feed(
            log=store.log,
            bell=Silent(),  # type: ignore[arg-type]
            episodes=Nobody(),  # type: ignore[arg-type]
            users=Nobody(),  # type: ignore[arg-type]
            jobs=Nobody(),  # type: ignore[arg-type]
            catalog=self.actor.mailbox,
            effects=[],
            retention=Retention(log=store.log, age=NEVER, count=10_000, interval=NEVER),
            place=place,
            poll=0.02,
            batch=100,
        )
        self._life = await self.nursery.start(self._live)

    async def _live(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as life:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.actor.run)
                await nursery.start(self.feed.run)
                task_status.started(life)

    async def write(self, count: int = 1, *, told: bool = True) -> list[Event]:
        """
        Commit episodes; told of by their writer, as on this node, or left to the feed.
        """
        events = [await self.studio.create() for _ in range(count)]
        for event in events if told else ():
            self.feed.committed(event)
        return events

    async def brought(self, event: Event) -> CatalogPosition:
        """
        Wait until the feed has brought an event; the position then.
        """
        with patience():
            while self.actor.brought < event.place:  # noqa: ASYNC110 -- the actor tells nobody
                await trio.sleep(0.002)
        return self.actor.position

    async def subscribe(
        self,
        client: Client,
        since: CatalogPosition | None = None,
        *,
        snapshot: bool = False,
        one_stream: bool = False,
    ) -> dict[str, Any]:
        """
        Subscribe; the answer that was heard.
        """

        def wish(reply: Any) -> SubscribeCatalog:
            return SubscribeCatalog(
                session=client.session,
                outlet=client,
                format=client.format,
                opening=client.format.encode,
                since=since,
                wants_snapshot=snapshot,
                leaves_out_own=one_stream,
                reply=reply,
            )

        begin = len(client.heard)
        with patience():
            await ask(self.actor.mailbox, wish)
        return client.heard[begin]


@attrs.define(eq=False, kw_only=True)
class Guest:
    """
    Somebody who comes with the position of the last time, and remembers every event ever heard.
    """

    name: str
    lobby: Lobby
    position: CatalogPosition
    heard: list[str] = attrs.field(factory=list)
    # What was promised at each coming.
    recovered: list[bool] = attrs.field(factory=list)
    _client: Client | None = None

    @property
    def is_here(self) -> bool:
        return self._client is not None

    async def come(self) -> None:
        self._client = Client(SessionId(f"{self.name}-{len(self.recovered)}"), Plain())
        answer = await self.lobby.subscribe(self._client, self.position)
        self.recovered.append(answer["recovered"])

    def go(self) -> None:
        """
        Be cut off: nothing more is heard, and what was heard last is where to go on.
        """
        assert self._client is not None
        client, self._client = self._client, None
        client.alive = False
        self.lobby.hub.drop_session(client.session)
        self.heard += client.ids
        for message in client.heard:
            offset = message.get("at") or message.get("reached")
            if offset is not None:
                found = CatalogPosition.parsed(offset, self.position.epoch)
                assert found is not None
                assert found.place >= self.position.place
                self.position = found


@attrs.define(eq=False, kw_only=True)
class Listener:
    """
    Somebody who is cut off anywhere, and comes with where the last event left them: hears all of it once.
    """

    name: str
    lobby: Lobby
    position: CatalogPosition
    heard: list[str] = attrs.field(factory=list)
    comings: int = 0
    _client: Client | None = None

    @property
    def is_here(self) -> bool:
        return self._client is not None

    async def come(self) -> bool:
        """
        Whether nothing will be missed; else they go again at once.
        """
        self.comings += 1
        self._client = Client(SessionId(f"{self.name}-{self.comings}"), Plain())
        answer = await self.lobby.subscribe(self._client, self.position)
        if not answer["recovered"]:
            self.go(0)
        return bool(answer["recovered"])

    def go(self, most: int) -> None:
        """
        Be cut off: what was sent after so many events got lost on the way.
        """
        assert self._client is not None
        client, self._client = self._client, None
        client.alive = False
        self.lobby.hub.drop_session(client.session)
        for message in [message for message in client.heard if "event" in message][:most]:
            self.heard.append(message["id"])
            found = CatalogPosition.parsed(message["then"], self.position.epoch)
            assert found is not None
            self.position = found
