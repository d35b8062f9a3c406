"""A client of /real-time that comes back by itself and misses nothing: see docs/client.md."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any

import attrs
import trio

from engine.error_groups import only
from engine.runtime.backoff import Backoff
from gateway.client.line import GetToken, Line, Options
from gateway.client.messages import (
    ClientError,
    ClosedError,
    Event,
    Position,
    RefusedError,
    State,
    Viewer,
    websocket_url,
)
from gateway.client.presence import Presence, Presences
from gateway.client.session import LostError, Session
from gateway.client.subscription import CATALOG, Events, Subscription

# A node takes a burst of messages from a session, and fewer a second after that (limits.message_burst).
BURST = 50
PACE = 0.04
# Between two attempts to subscribe to the same.
AGAIN = Backoff(first=0.1, cap=10.0, jitter=0.5)
LEFT = ClosedError(None, "the episode was left")


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | None = None,
    get_token: GetToken | None = None,
    insist: bool = True,
    options: Options | None = None,
) -> AsyncIterator["Client"]:
    """
    A client that is connected, and comes back by itself until the block ends.

    `url` is the node's (`http://127.0.0.1:8000`) or its WebSocket's. `get_token` is asked for a token at each
    connection and before one expires; an OSError from it counts as a failed attempt. Without `insist` the
    first attempt must succeed.

    Raises:
        ClosedError: the node does not want this client.
        UnreachableError: the first attempt failed, without `insist`.
    """
    if (token is None) == (get_token is None):
        raise ValueError("give either token or get_token")
    client = Client()
    client.line = Line(
        url=websocket_url(url),
        options=options or Options(),
        token=token,
        get_token=get_token,
        insist=insist,
        user=client,
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.line.run)
            await client.wait_state(State.LIVE)
            yield client
            await client.aclose()
    except BaseExceptionGroup as group:
        error = only(group)
        # The nursery is a detail: what the block raises is raised as it is.
        raise error from error.__cause__


@attrs.define(eq=False, kw_only=True)
class Client:
    """
    Own what its user wants to hear of and where they are present, over all connections.

    `connect` makes it. A connection's end costs none of it: it is wished again on the next one.
    """

    # Set by `connect`.
    line: Line = attrs.field(init=False)
    # Orders what arrives by all subscriptions; and where their common iterator waits.
    arrivals: "count[int]" = attrs.field(factory=count, init=False)
    news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    subscriptions: dict[str, Subscription] = attrs.field(factory=dict, init=False)
    _presences: Presences = attrs.field(factory=Presences, init=False)
    # How many wait for replies.
    _asking: int = attrs.field(default=0, init=False)

    @property
    def state(self) -> State:
        """
        How much what the client has told can be trusted now.
        """
        return self.line.state

    @property
    def trouble(self) -> str:
        """
        Why the last connection ended, for people; empty while none did.
        """
        return self.line.trouble

    async def wait_state(self, *wanted: State) -> State:
        """
        Wait for one of these states. Raises ClosedError or UnreachableError if the client ended instead.
        """
        return await self.line.wait_state(*wanted)

    async def subscribe(
        self, topic: str, *, since: Position | None = None, snapshot: bool = False
    ) -> Subscription:
        """
        Hear of a topic: from a position on, or from now; with `snapshot` also how things stand.

        Returns when the node has agreed. Raises RefusedError, ClosedError.
        """
        self.line.check_open()
        before = self.subscriptions.get(topic)
        if before is not None and not before.ended:
            raise ValueError(f"this client is subscribed to {topic} already")
        subscription = self.subscriptions[topic] = Subscription(
            topic=topic,
            wants_snapshot=snapshot,
            limit=self.line.options.buffer,
            owner=self,
            position=since,
        )
        agreed = False
        try:
            self.recover_soon(subscription)
            with self._waiting():
                await subscription.answered.wait()
            if subscription.error is not None:
                raise subscription.error
            agreed = True
        finally:
            if not agreed:
                self._forget(subscription)
        return subscription

    def events(self) -> Events:
        """
        Iterate over what all subscriptions hear, in the order of its coming; without any, over the catalog.
        """
        return Events(self.subscriptions, self.news, self._begin_catalog, self._raise_end)

    async def join(self, episode_id: str, *, state: str = "viewing", name: str | None = None) -> Presence:
        """
        Be present on an episode, on each further connection too. Returns when it is known who is there.

        Raises RefusedError, ClosedError.
        """
        known = self._presences.get(episode_id)
        presence = known or self._presences.add(episode_id)
        presence.state, presence.name = state, name or presence.name
        with self._waiting():
            try:
                await self.line.ask(presence.wish)
            except BaseException:
                if known is None:
                    self._presences.drop(presence, LEFT)
                raise
            if presence.version == 0:
                await presence.wait_change(0)
        return presence

    async def set_state(self, episode_id: str, state: str) -> None:
        """
        Show the others another state: viewing, editing or idle. Raises RefusedError, ClosedError.
        """
        presence = self._presences.joined(episode_id)
        before, presence.state = presence.state, state
        with self._waiting():
            try:
                await self.line.ask(presence.wish)
            except RefusedError:
                presence.state = before  # or the next connection would be refused it again
                raise

    async def leave(self, episode_id: str) -> None:
        """
        Be present on an episode no more. Raises ClosedError.
        """
        self._presences.drop(self._presences.joined(episode_id), LEFT)
        where = {"resourceType": "episode", "resourceId": episode_id}
        # Refused, because on a new connection nobody was present yet: it comes to the same.
        with self._waiting(), suppress(RefusedError):
            await self.line.ask(lambda: {"type": "leave", **where})

    def viewers(self, episode_id: str) -> tuple[Viewer, ...]:
        """
        Who is present on an episode that was joined, as it was told last.
        """
        return self._presences.joined(episode_id).viewers

    async def ping(self) -> float:
        """
        How many seconds the node takes to reply. Raises ClosedError.
        """
        began = trio.current_time()
        with self._waiting():
            await self.line.ask(lambda: {"type": "ping"})
        return trio.current_time() - began

    async def refresh(self, token: str) -> None:
        """
        Go on with a new token of the same user. Raises RefusedError, ClosedError.
        """
        with self._waiting():
            await self.line.ask(lambda: {"type": "refresh", "token": token})
        self.line.token = token

    async def aclose(self) -> None:
        """
        End in good order; who iterates gets what was heard, and then the end.
        """
        await self.line.aclose()

    # For the subscriptions.

    @property
    def is_asked(self) -> bool:
        return self._asking > 0

    def recover_soon(self, subscription: Subscription) -> None:
        session = self.line.session
        if session is not None:
            session.start_soon(self._subscribe_on, session, subscription)

    async def unsubscribe(self, subscription: Subscription) -> None:
        if self.subscriptions.get(subscription.topic) is not subscription:
            await trio.lowlevel.checkpoint()
            return
        del self.subscriptions[subscription.topic]
        if self.line.session is not None:
            # Either way it is not subscribed, which was the wish.
            with self._waiting(), suppress(RefusedError, LostError):
                await self.line.session.ask({"type": "unsubscribe", "topic": subscription.topic})

    # For the line.

    @property
    def is_blocked(self) -> bool:
        return any(subscription.is_blocked for subscription in self.subscriptions.values())

    async def restore(self, session: Session) -> None:
        if not self.subscriptions:
            # Whoever subscribes to nothing hears the catalog; this client was not asked to.
            session.tell_nowait({"type": "unsubscribe", "topic": CATALOG})
        tasks: list[Callable[[], Awaitable[None]]] = [
            *(partial(self._subscribe_on, session, each) for each in self.subscriptions.values()),
            *(partial(self._presences.be_present_on, session, each) for each in self._presences.all()),
        ]
        async with trio.open_nursery() as nursery:
            for number, task in enumerate(tasks):
                nursery.start_soon(task)
                await trio.sleep(PACE if number >= BURST else 0)

    async def hear(self, message: Mapping[str, Any]) -> None:
        if "event" in message:
            event = Event.read(message)
            listener = self._listener(event.topic)
            if listener is not None:
                await listener.deliver(event)
            return
        match message.get("type"):
            case "subscribed" if subscription := self.subscriptions.get(message["topic"]):
                subscription.begin(
                    Position.read(message["position"]),
                    recovered=message["recovered"],
                    snapshot=message.get("snapshot"),
                )
            case "position" if subscription := self.subscriptions.get(message["topic"]):
                if (position := Position.read(message["position"])) is not None:
                    subscription.reached(position)
            case "presence":
                self._presences.hear(message, self.line.session)
            case _:
                pass  # of a later version, or of what was left meanwhile

    def lose(self) -> None:
        for subscription in self.subscriptions.values():
            subscription.lose()

    def end(self, error: ClientError | None) -> None:
        for subscription in self.subscriptions.values():
            subscription.end(error)
        for presence in self._presences.all():
            presence.end(error or LEFT)
        self.news.unpark_all()

    async def _begin_catalog(self) -> None:
        await self.subscribe(CATALOG)

    def _raise_end(self) -> None:
        if self.state is State.CLOSED:
            raise self.line.error or StopAsyncIteration

    def _listener(self, topic: str) -> Subscription | None:
        """
        Who hears of an event: its topic's own subscription, else the catalog's, so that each comes once.
        """
        own = self.subscriptions.get(topic)
        if own is not None and own.answered.is_set():
            return own
        return None if topic.startswith("user:") else self.subscriptions.get(CATALOG)

    async def _subscribe_on(self, session: Session, subscription: Subscription) -> None:
        for attempt in count():
            if subscription.ended:
                return
            since = subscription.asks_since()
            message: dict[str, Any] = {"type": "subscribe", "topic": subscription.topic}
            message["snapshot"] = subscription.wants_snapshot
            if since is not None:
                message["since"] = since.to_json()
            try:
                await session.ask(message, lambda _: subscription.caught_up())
            except RefusedError as error:
                if error.code != "try_later":
                    subscription.end(error)
                    return
            except LostError:
                return
            else:
                return
            await trio.sleep(AGAIN.delay(attempt, self.line.options.chance))

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._asking += 1
        for subscription in self.subscriptions.values():
            subscription.wake_reader()
        try:
            yield
        finally:
            self._asking -= 1

    def _forget(self, subscription: Subscription) -> None:
        if self.subscriptions.get(subscription.topic) is subscription:
            del self.subscriptions[subscription.topic]
        subscription.end(None)
        if self.line.session is not None:
            self.line.session.tell_nowait({"type": "unsubscribe", "topic": subscription.topic})
