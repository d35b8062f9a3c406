"""Deletes what is no longer kept, a bounded number of rows at a time. Knows no schedule."""

from collections.abc import Sequence
from typing import LiteralString

import attrs

from engine.domain.event import EpisodeId
from engine.store.postgres import Database
from engine.store.queries import queries

_SQL = queries("housekeeping")
# Less than the id of any episode.
NO_EPISODE = "00000000-0000-0000-0000-000000000000"


@attrs.define(eq=False, kw_only=True)
class Leftovers:
    """
    Delete records by age in seconds (0: they never grow too old) and by count.

    Each statement looks at `limit` rows at most, and answers how many it deleted.
    """

    database: Database

    async def seen(self, plugins: Sequence[str]) -> None:
        """
        Take note that these plugins run on a node.
        """
        await self.database.execute(_SQL["seen"], {"plugins": list(plugins)})

    async def gone(self, patience: float) -> list[str]:
        """
        The plugins that no node has run for so many seconds, and that left a cursor.
        """
        rows = await self.database.fetch(_SQL["gone"], {"patience": patience})
        return [row[0] for row in rows]

    async def activity(self, age: float, keep: int, limit: int) -> int:
        """
        Delete the oldest activity that is too old, or beyond the newest `keep`.
        """
        return await self._cut(_SQL["activity"], age=age, keep=keep, limit=limit)

    async def audit(self, age: float, keep: int, limit: int) -> int:
        """
        The same for audit records.
        """
        return await self._cut(_SQL["audit"], age=age, keep=keep, limit=limit)

    async def notifications(self, age: float, limit: int) -> int:
        """
        Delete the oldest notifications that are too old.
        """
        return await self._cut(_SQL["notifications"], age=age, limit=limit)

    async def people(self, after: str, limit: int) -> list[str]:
        """
        The next people who have notifications, in the order of their ids.
        """
        rows = await self.database.fetch(_SQL["people"], {"after": after, "limit": limit})
        return [row[0] for row in rows]

    async def notifications_of(self, people: Sequence[str], keep: int, limit: int) -> int:
        """
        Delete what each of them has beyond the newest `keep`.
        """
        return await self._cut(_SQL["notifications_of"], people=list(people), keep=keep, limit=limit)

    async def jobs(self, age: float, limit: int) -> int:
        """
        Delete jobs that ended too long ago.
        """
        return await self._cut(_SQL["jobs"], age=age, limit=limit)

    async def jobs_alone(self, keep: int, limit: int) -> int:
        """
        Delete, of the jobs that have ended and belong to no episode, what is beyond the newest `keep`.
        """
        return await self._cut(_SQL["jobs_alone"], keep=keep, limit=limit)

    async def episodes(self, after: EpisodeId | None, limit: int) -> list[EpisodeId]:
        """
        The next episodes that have jobs, in the order of their ids.
        """
        rows = await self.database.fetch(_SQL["episodes"], {"after": after or NO_EPISODE, "limit": limit})
        return [EpisodeId(row[0]) for row in rows]

    async def jobs_of(self, episodes: Sequence[EpisodeId], keep: int, limit: int) -> int:
        """
        Delete what each of them has of ended jobs beyond the newest `keep`.
        """
        return await self._cut(_SQL["jobs_of"], episodes=list(episodes), keep=keep, limit=limit)

    async def idempotency_keys(self, age: float, limit: int) -> int:
        """
        Forget keys that are too old: a request that is repeated later is made again.
        """
        return await self._cut(_SQL["idempotency_keys"], age=age, limit=limit)

    async def _cut(self, statement: LiteralString, **params: object) -> int:
        row = await self.database.fetch_one(statement, params)
        assert row is not None
        return int(row[0])
