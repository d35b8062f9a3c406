"""The transaction in which a handler writes: it commits with the job's completion, or not at all."""

from typing import LiteralString

import attrs
import psycopg
import trio

from engine.domain.event import Event
from engine.domain.job import Job, JobChange
from engine.errors import StoreUnavailableError
from engine.store.jobs import Jobs, RefusedError, one_line
from engine.store.transactions import PluginTransaction


@attrs.define(eq=False, kw_only=True)
class JobTransaction(PluginTransaction):
    """
    What a handler writes for its job, and the job's completion: both or neither.

    The completion checks the job's fence under the job's lock: who lost the job has written nothing.
    """

    job: Job
    jobs: Jobs
    # Events that it has appended to logs, to be told once they are committed.
    events: list[Event] = attrs.field(factory=list, init=False)

    @property
    def _begin(self) -> LiteralString:
        # The pool's connections wait for the disk.
        return "begin"

    async def complete(self, change: JobChange) -> Event | None:
        """
        Commit what was written, with the job's completion; None if the job was lost, and nothing is written.

        Raises StoreUnavailableError when nobody knows whether it was committed: then the job is completed,
        or it still runs with all of this undone. Raises RefusedError for what PostgreSQL refuses.
        """
        with trio.move_on_after(self.deadline) as scope:
            try:
                async with self._working() as connection:
                    event = await self.jobs.apply_within(connection, change)
                if event is not None:
                    await self._commit()
                return event
            except psycopg.Error as error:
                raise RefusedError(one_line(error)) from error
            finally:
                await self.rollback()
        assert scope.cancelled_caught
        raise StoreUnavailableError(f"the database did not commit within {self.deadline:g} s")
