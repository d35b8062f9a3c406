"""Who is present on the episodes that a client has joined, as it is told."""

import random
from collections.abc import Mapping, Sequence
from itertools import count
from math import inf
from typing import Any

import attrs
import trio

from engine.runtime.backoff import Backoff
from gateway.client.messages import ClientError, RefusedError, Viewer
from gateway.client.session import LostError, Session

# Between two attempts to be present, and to be told who is in a crowd.
AGAIN = Backoff(first=0.1, cap=10.0, jitter=0.5)
LIST_AGAIN = Backoff(first=1.0, cap=60.0, jitter=0.5)
# Viewers on one page of a list.
PAGE = 200


@attrs.define(eq=False, kw_only=True)
class Presence:
    """
    Own what is known of an episode's viewers, while this client is one of them.

    While the client is not live, it shows who was there last.
    """

    episode_id: str
    # What this client shows of itself.
    state: str = "viewing"
    name: str | None = None
    # How many viewers there are, also where not all of them are known.
    total: int = attrs.field(default=0, init=False)
    # Whether `viewers` is everyone. Of a crowd a part is told; the client asks for the list by and by.
    complete: bool = attrs.field(default=False, init=False)
    # Lists asked for in a row, and when the last one was.
    attempt: int = attrs.field(default=0, init=False)
    listed_at: float = attrs.field(default=-inf, init=False)
    # Counts what was told: see `wait_change`.
    version: int = attrs.field(default=0, init=False)
    # Why nothing more will be told; None while it goes on.
    _over: ClientError | None = attrs.field(default=None, init=False)
    _viewers: dict[str, Viewer] = attrs.field(factory=dict, init=False)
    # The number that the node gave to the latest frame.
    _frame: int | None = attrs.field(default=None, init=False)
    # The list that is just coming in, page by page; None between lists.
    _listed: dict[str, Viewer] | None = attrs.field(default=None, init=False)
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    @property
    def viewers(self) -> tuple[Viewer, ...]:
        """
        Who is known to be there, in the order of their coming.
        """
        return tuple(sorted(self._viewers.values(), key=lambda viewer: (viewer.viewed_at, viewer.user)))

    async def wait_change(self, seen: int) -> int:
        """
        Wait until `version` is another than `seen`, and return it.

        Raises RefusedError or ClosedError when nothing more will be told.
        """
        await trio.lowlevel.checkpoint()
        while self.version == seen:
            if self._over is not None:
                raise self._over
            await self._changed.park()
        return self.version

    def apply(self, message: Mapping[str, Any]) -> None:
        """
        A presence frame: everyone, or who came, changed and went, or how many there are.
        """
        everyone = message.get("viewers")
        complete = message.get("complete", True)
        frame = message.get("version")
        if everyone is not None:
            self._viewers = {viewer["userId"]: Viewer.read(viewer) for viewer in everyone}
        else:
            # What was left out once stays left out until there is a list. A client that was behind was
            # told the latest frame only, and sees by the number that others are missing.
            follows = frame is None or self._frame is None or frame == self._frame + 1
            complete = complete and follows and self.complete
            for known in (self._viewers, self._listed):
                if known is not None:
                    known |= {viewer["userId"]: Viewer.read(viewer) for viewer in message.get("joined", ())}
                    for viewer in message.get("left", ()):
                        known.pop(viewer["userId"], None)
        self._frame = frame
        self._tell(message.get("total", len(self._viewers)), complete=complete)

    def begin_list(self) -> None:
        """
        A list was asked for.
        """
        self._listed = {}

    def add_page(self, page: Mapping[str, Any]) -> None:
        """
        One page of the list, of which the last one makes it known.
        """
        assert self._listed is not None
        self._listed |= {viewer["userId"]: Viewer.read(viewer) for viewer in page["viewers"]}
        if page["next_after"] is None:
            self._viewers, self._listed = self._listed, None
            self._tell(page["total"], complete=True)

    def _tell(self, total: int, *, complete: bool) -> None:
        self.total = total
        # A list of another length is not believed.
        self.complete = complete and len(self._viewers) == total
        self.version += 1
        self._changed.unpark_all()

    def end(self, error: ClientError) -> None:
        """
        Nothing more will be told, and that is why.
        """
        self._over = self._over or error
        self._changed.unpark_all()

    def wish(self) -> dict[str, Any]:
        """
        The message by which this client is present.
        """
        name = {} if self.name is None else {"userName": self.name}
        where = {"resourceType": "episode", "resourceId": self.episode_id}
        return {"type": "presence", **where, "state": self.state, **name}


@attrs.define(eq=False)
class Presences:
    """
    Own where a client is present.
    """

    _joined: dict[str, Presence] = attrs.field(factory=dict, init=False)
    # Episodes whose list of viewers is being asked for.
    _listing: set[str] = attrs.field(factory=set, init=False)
    _chance: random.Random = attrs.field(factory=random.Random, init=False)

    def all(self) -> Sequence[Presence]:
        """
        Where the client is present.
        """
        return list(self._joined.values())

    def get(self, episode_id: str) -> Presence | None:
        """
        Its presence on an episode, if it has joined that.
        """
        return self._joined.get(episode_id)

    def joined(self, episode_id: str) -> Presence:
        """
        Its presence on an episode. Raises ValueError if it has not joined that.
        """
        presence = self._joined.get(episode_id)
        if presence is None:
            raise ValueError(f"this client has not joined episode {episode_id}")
        return presence

    def add(self, episode_id: str) -> Presence:
        """
        Begin to be present.
        """
        presence = self._joined[episode_id] = Presence(episode_id=episode_id)
        return presence

    def drop(self, presence: Presence, error: ClientError) -> None:
        """
        Be present no more, and that is why.
        """
        if self._joined.get(presence.episode_id) is presence:
            del self._joined[presence.episode_id]
        presence.end(error)

    def hear(self, message: Mapping[str, Any], session: Session | None) -> None:
        """
        A presence frame, of whichever episode. What it leaves open is asked for on the session.
        """
        presence = self._joined.get(message["resourceId"])
        if presence is None:
            return
        presence.apply(message)
        if not presence.complete and presence.episode_id not in self._listing and session is not None:
            self._listing.add(presence.episode_id)
            session.start_soon(self._list_viewers, session, presence)

    async def be_present_on(self, session: Session, presence: Presence) -> None:
        """
        Be present on one more connection; does not raise.
        """
        for attempt in count():
            if self._joined.get(presence.episode_id) is not presence:
                return
            try:
                await session.ask(presence.wish())
            except RefusedError as error:
                if error.code != "try_later":
                    # The episode is gone, or closed to us: nobody is told any more who is there.
                    self.drop(presence, error)
                    return
            except LostError:
                return
            else:
                return
            await trio.sleep(AGAIN.delay(attempt, self._chance))

    async def _list_viewers(self, session: Session, presence: Presence) -> None:
        # In a crowd not everybody can ask for everyone at each change.
        try:
            while not presence.complete and self._joined.get(presence.episode_id) is presence:
                if trio.current_time() - presence.listed_at > LIST_AGAIN.cap:
                    presence.attempt = 0
                await trio.sleep(LIST_AGAIN.delay(presence.attempt, self._chance))
                presence.attempt += 1
                presence.listed_at = trio.current_time()
                await self._read_list(session, presence)
        except ClientError:
            pass  # the connection is gone or the episode was left: what is known then comes by itself
        finally:
            self._listing.discard(presence.episode_id)

    async def _read_list(self, session: Session, presence: Presence) -> None:
        presence.begin_list()
        after: str | None = ""
        while after is not None:
            wish = {"type": "viewers", "resourceType": "episode", "resourceId": presence.episode_id}
            reply = await session.ask({**wish, "after": after, "limit": PAGE}, presence.add_page)
            after = reply["next_after"]
