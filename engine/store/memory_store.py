"""The store in memory as a whole, by what the node uses of it."""

from typing import Any

import attrs
import trio

from engine.domain.event import Epoch
from engine.store.memory import (
    MemoryCompositions,
    MemoryEpisodeList,
    MemoryEpisodes,
    MemoryLog,
    MemoryPresence,
    MemoryRecords,
    MemoryTables,
)
from engine.store.memory_jobs import MemoryJobs
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
            jobs=MemoryJobs(tables),
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

    job_list = patient_job_list = patient_jobs

    async def aclose(self) -> None:
        """
        Nothing is open.
        """
        await trio.lowlevel.checkpoint()

    def retune(self, deadline: float) -> None:
        """
        Nothing here takes time.
        """
