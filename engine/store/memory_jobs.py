"""The tables of jobs in memory: empty. Engines on a virtual clock run no jobs yet, and say so."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import attrs

from engine.domain.event import Event
from engine.domain.job import Job
from engine.errors import EngineError
from engine.store.jobs import Claimed
from engine.store.memory import MemoryTables


@attrs.define(eq=False)
class MemoryJobs:
    """
    What the node asks about jobs though there are none, as `Jobs` and `JobList`.
    """

    tables: MemoryTables

    async def submit(self, jobs: Sequence[Any], idempotency: Any = None) -> NoReturn:
        """
        Refuse: publish a job's events instead, which is all that plugins see of it.
        """
        raise EngineError("a simulated engine runs no jobs; publish their events instead")

    async def claim(
        self, rooms: Mapping[str, int], limit: int, *, source: str, owner: str, lease: float
    ) -> Claimed:
        await self.tables.reach()
        return Claimed(jobs=[], events=[])

    async def look_for_due(self) -> float | None:
        await self.tables.reach()
        return None

    async def apply(self, changes: Iterable[Any], *, hurried: bool = False) -> list[Event]:
        await self.tables.reach()
        return []

    async def renew(self, jobs: Mapping[Any, int], *, lease: float) -> list[Any]:
        await self.tables.reach()
        return []

    async def wishes(self, owner: str) -> list[Any]:
        await self.tables.reach()
        return []

    async def purge(self, *, age: float, limit: int, states: Sequence[Any] | None = None) -> int:
        await self.tables.reach()
        return 0

    async def lapsed(self, limit: int) -> list[Job]:
        await self.tables.reach()
        return []

    async def orphans(self, *, owner: str, node: str, everybody: bool, limit: int) -> list[Job]:
        await self.tables.reach()
        return []

    async def counts(self) -> dict[Any, int]:
        await self.tables.reach()
        return {}

    async def pauses(self) -> list[Any]:
        await self.tables.reach()
        return []
