"""The table user_presence: who is present on which episode, as this node last wrote it."""

from collections.abc import Mapping

import attrs

from engine.domain.event import EpisodeId, UserId
from engine.domain.presence import Viewer
from engine.store.postgres import Database
from engine.store.queries import queries

_SQL = queries("presence")


@attrs.define(eq=False, kw_only=True)
class PresenceRows:
    """
    Write one node's rows; each node has its own.
    """

    database: Database
    node: str

    async def begin(self) -> None:
        """
        Be seen, and remove what an earlier life of this node left behind.
        """
        await self.database.execute(_SQL["forget"], {"node": self.node})
        await self.database.execute(_SQL["seen"], {"node": self.node})

    async def heartbeat(self, silence: float) -> None:
        """
        Be seen, and remove what nodes left behind that were not seen for `silence` seconds.
        """
        await self.database.execute(_SQL["seen"], {"node": self.node})
        await self.database.execute(_SQL["expire"], {"silence": silence})

    async def write(self, viewers: Mapping[tuple[EpisodeId, UserId], Viewer | None]) -> None:
        """
        Write the latest of each viewer; None removes one.
        """
        present, gone = [], []
        for (episode, user), viewer in viewers.items():
            key = {"node": self.node, "id": episode, "user": user}
            if viewer is None:
                gone.append(key)
            else:
                present.append({**attrs.asdict(viewer), **key, "is_active": viewer.is_active})
        async with (
            self.database.connection() as connection,
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            await cursor.executemany(_SQL["put"], present)
            await cursor.executemany(_SQL["drop"], gone)
