"""The transaction in which a handler writes: it commits with the job's completion, or not at all."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, LiteralString

import attrs
import psycopg
import trio

from engine.domain import episode as episodes
from engine.domain.access import Identity, Role
from engine.domain.episode import EpisodeChange
from engine.domain.event import EpisodeId, Event, utc_now
from engine.domain.fields import FieldError, Invalid
from engine.domain.job import Job, JobChange
from engine.domain.world import new_id
from engine.errors import StoreUnavailableError
from engine.hookspecs import InvalidEpisodesError
from engine.store.episode_batch import BATCH, create_episodes
from engine.store.events import Author
from engine.store.jobs import Jobs, RefusedError, one_line
from engine.store.transactions import PluginTransaction

# Asks the plugins what is wrong with a new episode.
Validate = Callable[[Identity, Mapping[str, Any]], Awaitable[Sequence[FieldError]]]


@attrs.define(eq=False, kw_only=True)
class JobTransaction(PluginTransaction):
    """
    What a handler writes for its job, and the job's completion: both or neither.

    The completion checks the job's fence under the job's lock: who lost the job has written nothing.
    """

    job: Job
    jobs: Jobs
    validate: Validate
    # Events that it has appended to logs, to be told once they are committed.
    events: list[Event] = attrs.field(factory=list, init=False)

    @property
    def _begin(self) -> LiteralString:
        # The pool's connections wait for the disk.
        return "begin"

    async def create_episodes(self, given: Sequence[Mapping[str, Any]]) -> Sequence[EpisodeId]:
        """
        Create episodes, as if the submitter had posted each. Raises InvalidEpisodesError.
        """
        changes = await decide_episodes(given, self.job, self.validate)
        author = Author(user=self.job.submitted_by, request=self.job.request)
        # Nobody can listen to a new episode: the feed brings the events to whom they concern, from the log.
        async with self._working() as connection:
            await create_episodes(connection, changes, author, self.epoch)
        return [change.episode.id for change in changes]

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


async def decide_episodes(
    given: Sequence[Mapping[str, Any]], job: Job, validate: Validate
) -> list[EpisodeChange]:
    """
    New episodes, as if the job's submitter had posted them. Raises InvalidEpisodesError.
    """
    # The role that the submitter had is not kept with the job; it was at least this one.
    identity = Identity(user=job.submitted_by, name=job.submitted_by, role=Role.EDITOR)
    now = utc_now()
    changes: list[EpisodeChange] = []
    errors: list[tuple[int, FieldError]] = []
    for place, one in enumerate(given):
        if place % BATCH == 0:
            await trio.lowlevel.checkpoint()
        fields = episodes.parse_new(one)
        if isinstance(fields, Invalid):
            errors += ((place, error) for error in fields.errors)
            continue
        # A microsecond apart, which nobody is shown: a list by age has them in the order given.
        at = now + timedelta(microseconds=place)
        change = episodes.create(EpisodeId(new_id()), fields, user=identity.user, now=at)
        wrong = await validate(identity, change.episode.to_json())
        errors += ((place, error) for error in wrong)
        changes.append(change)
    if errors:
        raise InvalidEpisodesError(errors)
    return changes
