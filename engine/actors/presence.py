"""Write-behind of who is present: the table user_presence follows the actors, a little later, in batches."""

from collections.abc import Iterable
from typing import Protocol

import attrs
import structlog
import trio

from engine.domain.event import EpisodeId, UserId
from engine.domain.presence import Viewer
from engine.errors import StoreUnavailableError
from engine.store.presence import PresenceRows

log = structlog.get_logger(__name__)

# Changes that wait for the database; beyond it the oldest are forgotten: the table is a convenience,
# the actors hold the truth.
WAITING = 10_000
# Heartbeats that a node may miss before what it left behind is removed.
MISSED = 3


class PresenceSink(Protocol):
    """
    Whoever wants to know of presence diffs.
    """

    def changed(self, episode: EpisodeId, present: Iterable[Viewer], gone: Iterable[Viewer]) -> None:
        """
        Take note; never blocks.
        """
        ...

    def began(self, episode: EpisodeId, viewers: Iterable[Viewer]) -> None:
        """
        An actor's life begins with these viewers: diffs of the one before may be lost. Never blocks.
        """
        ...


@attrs.define(eq=False, kw_only=True)
class PresenceWriter:
    """
    Own who is to be in user_presence, and what of it is still to be written: the latest of each viewer.

    A crash loses nothing: the object outlives it, and its next life writes everybody again.
    """

    rows: PresenceRows
    # Seconds that changes are gathered for one write.
    interval: float
    # Seconds between two signs of life of this node.
    heartbeat: float
    # Whom the actors have said to be there.
    _here: dict[EpisodeId, dict[UserId, Viewer]] = attrs.field(factory=dict, init=False)
    # What is to be written: the latest of each viewer of each episode; None for one who left.
    _waiting: dict[tuple[EpisodeId, UserId], Viewer | None] = attrs.field(factory=dict, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def changed(self, episode: EpisodeId, present: Iterable[Viewer], gone: Iterable[Viewer]) -> None:
        """
        Take note of a diff.
        """
        for viewer in present:
            self._note(episode, viewer.user, viewer)
        for viewer in gone:
            self._note(episode, viewer.user, None)

    def began(self, episode: EpisodeId, viewers: Iterable[Viewer]) -> None:
        """
        Take note of everyone; who was there and is not among them has left.
        """
        here = {viewer.user: viewer for viewer in viewers}
        for user in set(self._here.get(episode, ())) - set(here):
            self._note(episode, user, None)
        for user, viewer in here.items():
            self._note(episode, user, viewer)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Write what changed, once an interval; be seen, once a heartbeat.
        """
        await self.rows.begin()
        task_status.started()
        for episode, viewers in self._here.items():
            self.began(episode, list(viewers.values()))
        beat_at = trio.current_time()
        while True:
            with trio.move_on_at(beat_at):
                await self._changed.wait()
                await trio.sleep(self.interval)
            try:
                await self._write()
                if trio.current_time() >= beat_at:
                    beat_at = trio.current_time() + self.heartbeat
                    await self.rows.heartbeat(MISSED * self.heartbeat)
            except StoreUnavailableError as error:
                log.warning("presence is not written while the database is away", reason=str(error))
                await trio.sleep(self.interval)

    async def _write(self) -> None:
        batch, self._waiting = self._waiting, {}
        self._changed = trio.Event()
        if not batch:
            return
        try:
            await self.rows.write(batch)
        except StoreUnavailableError:
            self._waiting = {**batch, **self._waiting}
            self._changed.set()
            raise

    def _note(self, episode: EpisodeId, user: UserId, viewer: Viewer | None) -> None:
        here = self._here.setdefault(episode, {})
        if viewer is None:
            here.pop(user, None)
            if not here:
                del self._here[episode]
        else:
            here[user] = viewer
        self._waiting[episode, user] = viewer
        while len(self._waiting) > WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._changed.set()
