"""The transaction of a job's handler in memory: what it wrote commits with the completion, or not at all."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from engine.domain.episode import EpisodeChange
from engine.domain.event import EpisodeId, Event, episode_topic
from engine.domain.job import Job, JobChange
from engine.domain.world import now
from engine.store.events import Author
from engine.store.job_transaction import Validate, decide_episodes
from engine.store.memory_jobs import JobRows, is_as_expected
from engine.store.memory_plugins import MemoryTransaction


@attrs.define(eq=False, kw_only=True)
class MemoryJobTransaction(MemoryTransaction):
    """
    What a handler writes for its job, as `JobTransaction`.
    """

    job: Job
    rows: JobRows
    validate: Validate
    events: list[Event] = attrs.field(factory=list, init=False)
    _changes: list[EpisodeChange] = attrs.field(factory=list, init=False)

    async def create_episodes(self, given: Sequence[Mapping[str, Any]]) -> Sequence[EpisodeId]:
        changes = await decide_episodes(given, self.job, self.validate)
        await self._begin()
        self._changes += changes
        return [change.episode.id for change in changes]

    async def complete(self, change: JobChange) -> Event | None:
        try:
            await self._begin()
            current = self.rows.all.get(change.job)
            if current is None or not is_as_expected(current, change, now()):
                return None
            self._write()
            [event] = self.rows.apply([change])
        finally:
            await self.rollback()
        return event

    def _write(self) -> None:
        super()._write()
        author = Author(user=self.job.submitted_by, request=self.job.request)
        for change in self._changes:
            self.tables.episodes[change.episode.id] = change.episode
            self.tables.append([(episode_topic(change.episode.id), change.event, author)])
