"""The store in memory as a whole, by what the node uses of it."""

from typing import Any

import attrs
import trio

from engine.domain.event import Epoch
from engine.domain.job import Job
from engine.store.job_transaction import Validate
from engine.store.memory import (
    MemoryCompositions,
    MemoryEpisodeList,
    MemoryEpisodes,
    MemoryLog,
    MemoryPresence,
    MemoryRecords,
    MemoryTables,
)
from engine.store.memory_job_list import MemoryJobList
from engine.store.memory_job_transaction import MemoryJobTransaction
from engine.store.memory_jobs import JobRows, MemoryJobs
from engine.store.memory_plugins import MemoryCursors


class SilentBell:
    """
    There is no other node to hear of.
    """

    async def ring(self) -> None:
        await trio.lowlevel.checkpoint()

    async def listen(self, on_ring: Any) -> None:
        await trio.sleep_forever()


@attrs.define(eq=False, kw_only=True)
class MemoryStore:
    """
    The store, by what the node uses of it.
    """

    tables: MemoryTables
    cursors: MemoryCursors
    presence: MemoryPresence
    log: MemoryLog
    patient_log: MemoryLog
    episodes: MemoryEpisodes
    episode_list: MemoryEpisodeList
    compositions: MemoryCompositions
    records: MemoryRecords
    jobs: MemoryJobs
    job_list: MemoryJobList
    bell: SilentBell = attrs.field(factory=SilentBell)
    # Nothing is tidied up: a simulation's rounds of it are never due.
    socket_rooms: None = None
    leftovers: None = None

    @classmethod
    def empty(cls) -> "MemoryStore":
        """
        A store with nothing in it.
        """
        tables = MemoryTables()
        rows = JobRows(tables)
        return cls(
            tables=tables,
            cursors=MemoryCursors(tables=tables),
            presence=MemoryPresence(tables),
            log=MemoryLog(tables),
            patient_log=MemoryLog(tables),
            episodes=MemoryEpisodes(tables),
            episode_list=MemoryEpisodeList(tables),
            compositions=MemoryCompositions(tables),
            records=MemoryRecords(tables),
            jobs=MemoryJobs(tables, rows),
            job_list=MemoryJobList(tables, rows),
        )

    @property
    def epoch(self) -> Epoch:
        """
        The lifetime of all logs.
        """
        return self.tables.epoch

    @property
    def patient_jobs(self) -> MemoryJobs:
        """
        The same: nothing here is slow.
        """
        return self.jobs

    @property
    def patient_job_list(self) -> MemoryJobList:
        """
        The same.
        """
        return self.job_list

    def begin_job(self, plugin: str, job: Job, validate: Validate) -> MemoryJobTransaction:
        """
        The transaction in which a plugin's handler writes for its job.
        """
        return MemoryJobTransaction(
            plugin=plugin,
            tables=self.tables,
            script=self.cursors.script,
            job=job,
            rows=self.jobs.rows,
            validate=validate,
        )

    async def aclose(self) -> None:
        """
        Nothing is open.
        """
        await trio.lowlevel.checkpoint()

    def retune(self, deadline: float) -> None:
        """
        Nothing here takes time.
        """
