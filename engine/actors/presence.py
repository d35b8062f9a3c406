"""Write-behind of who is present: the table user_presence follows the actors, a little later, in batches."""

from typing import Protocol

import attrs
import structlog
import trio

from engine.domain.event import EpisodeId, UserId
from engine.domain.presence import Diff, Viewer
from engine.errors import StoreUnavailableError
from engine.store.presence import PresenceRows

log = structlog.get_logger(__name__)

# Changes that wait for the database; beyond it the oldest are forgotten: the table is a convenience,
# the actors hold the truth.
WAITING = 10_000


class PresenceSink(Protocol):
    """
    Whoever wants to know of presence diffs.
    """

    def changed(self, episode: EpisodeId, diff: Diff) -> None:
        """
        Take note; never blocks.
        """
        ...


@attrs.define(eq=False, kw_only=True)
class PresenceWriter:
    """
    Own what is still to be written to user_presence: the latest of each viewer.

    A crash loses at most rows of a table that is rebuilt from what actors say next.
    """

    rows: PresenceRows
    # Seconds that changes are gathered for one write.
    interval: float
    # The latest of each viewer of each episode; None for one who left.
    _waiting: dict[tuple[EpisodeId, UserId], Viewer | None] = attrs.field(factory=dict, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def changed(self, episode: EpisodeId, diff: Diff) -> None:
        """
        Take note of a diff.
        """
        for viewer in diff.joined:
            self._waiting[episode, viewer.user] = viewer
        for viewer in diff.left:
            self._waiting[episode, viewer.user] = None
        while len(self._waiting) > WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._changed.set()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Write what changed, once an interval; first remove what an earlier life of this node left.
        """
        await self.rows.expire()
        task_status.started()
        while True:
            await self._changed.wait()
            await trio.sleep(self.interval)
            self._changed = trio.Event()
            batch, self._waiting = self._waiting, {}
            try:
                await self.rows.write(batch)
            except StoreUnavailableError as error:
                log.warning("presence is not written while the database is away", reason=str(error))
                self._waiting = {**batch, **self._waiting}
                self._changed.set()
