"""Jobs as they are written: each transition is one statement, rows and events, many jobs at a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from engine.domain.event import Epoch, Event, JobId, UserId
from engine.domain.job import CancelWish, Job, JobChange, JobState
from engine.domain.job_request import NewJob
from engine.errors import EngineError, StoreUnavailableError
from engine.store.episodes import Idempotency, Replay
from engine.store.events import event_of_row
from engine.store.job_rows import change_params, claimed_job_of_row, new_job_params, started_event
from engine.store.postgres import Database
from engine.store.queries import queries
from engine.store.trio_psycopg import TrioConnection

_SQL = queries("jobs")
_REPLAY = queries("episodes")["replay"]
# What is not the job's in a claim's rows comes first: where its event stands.
_PLACE_COLUMNS = 5


class RefusedError(EngineError):
    """
    PostgreSQL refuses a transition, or what is committed with it, whenever it is tried. Settle the job
    otherwise; the text tells why.
    """


class KeyTakenError(RefusedError):
    """
    A job cannot be queued again while an unfinished one has its unique key. Answer 409.
    """


@attrs.frozen(kw_only=True)
class Claimed:
    """
    Jobs that this node now runs, the most urgent first; and the events that say so, in the same order.

    The events are made as they are taken, once: whoever runs the jobs has begun by then.
    """

    jobs: Sequence[Job]
    events: Iterable[Event]


@attrs.frozen(kw_only=True)
class Renewal:
    """
    A lease that still is its owner's; `cancelled_by` is set when somebody wants the job to stop.
    """

    job: JobId
    is_cancelled: bool
    cancelled_by: UserId | None


@attrs.define(eq=False, kw_only=True)
class Jobs:
    """
    Write jobs. A transition that somebody else was faster with is left out of the answer.
    """

    database: Database
    epoch: Epoch

    async def submit(
        self, jobs: Sequence[NewJob], idempotency: Idempotency | None = None
    ) -> list[Event] | Replay:
        """
        Queue new jobs, or answer what the same idempotency key has already done.

        Left out of the answer: a job whose id is taken, whose unique key an unfinished job has, or whose
        episode does not exist.
        """
        params = {
            "jobs": Jsonb([new_job_params(job) for job in jobs]),
            "epoch": self.epoch,
        }
        statement = _SQL["submit"]
        if idempotency is not None:
            params |= {"key": idempotency.key, "fingerprint": idempotency.fingerprint}
            statement = _SQL["submit_once"]
        try:
            rows = await self.database.fetch(statement, params)
        except errors.UniqueViolation as error:
            if idempotency is None or error.diag.constraint_name != "idempotency_keys_pkey":
                raise
            replay = await self._replay(jobs[0].user, idempotency)
            assert replay is not None, "a key that was in the way is there"
            return replay
        if not rows and idempotency is not None:
            # The key may have been used: what it did then may be why there is nothing to do now.
            return await self._replay(jobs[0].user, idempotency) or []
        return [event_of_row(row) for row in rows]

    async def answer_with(self, job: JobId, user: UserId, idempotency: Idempotency) -> Replay | None:
        """
        Let the key stand for a job that was there already; answers what it stands for, if it was used before.
        """
        params = {"user": user, "key": idempotency.key, "fingerprint": idempotency.fingerprint, "id": job}
        if await self.database.execute(_SQL["answer_with"], params):
            return None
        return await self._replay(user, idempotency)

    async def _replay(self, user: UserId, idempotency: Idempotency) -> Replay | None:
        row = await self.database.fetch_one(_REPLAY, {"user": user, "key": idempotency.key})
        return None if row is None else Replay(fingerprint=row[0], response=row[1])

    async def claim(
        self, rooms: Mapping[str, int], limit: int, *, source: str, owner: str, lease: float
    ) -> Claimed:
        """
        Take jobs that are due, at most `limit`, and of each type at most as many as it has room for.
        """
        params = {
            "rooms": Jsonb([{"type": kind, "room": room} for kind, room in rooms.items()]),
            "limit": limit,
            "source": source,
            "owner": owner,
            "lease": lease,
            "epoch": self.epoch,
        }
        rows = await self.database.fetch(_SQL["claim"], params)
        jobs = [claimed_job_of_row(row[_PLACE_COLUMNS:], owner) for row in rows]
        return Claimed(
            jobs=jobs,
            events=(
                started_event(job, row[:_PLACE_COLUMNS], self.epoch)
                for job, row in zip(jobs, rows, strict=True)
            ),
        )

    async def look_for_due(self) -> float | None:
        """
        Let what has become due be claimed; answers in how many seconds the next will be, if any.
        """
        async with self.database.connection() as connection, connection.pipeline():
            await connection.execute(_SQL["due"])
            row = await (await connection.execute(_SQL["next_due"])).fetchone()
        return None if row is None or row[0] is None else float(row[0])

    async def apply(self, changes: Iterable[JobChange], *, hurried: bool = False) -> list[Event]:
        """
        Commit transitions, at most one for each job; answers the events of those that came to be.

        `hurried` passes over jobs whose episode is locked at this moment. Raises RefusedError, and nothing is
        committed.
        """
        try:
            rows = await self.database.fetch(_SQL["apply"], self._changes(changes, hurried=hurried))
        except errors.DeadlockDetected as error:
            # A handler's own transaction may hold any lock. Nothing was committed.
            raise StoreUnavailableError(
                "transitions and somebody's transaction waited for each other"
            ) from error
        except errors.UniqueViolation as error:
            if error.diag.constraint_name != "processing_queue_unique":
                raise RefusedError(one_line(error)) from error
            raise KeyTakenError("another unfinished job has its unique key") from error
        except (psycopg.Error, ValueError, RecursionError) as error:
            # The latter two: what psycopg cannot even write down.
            raise RefusedError(one_line(error)) from error
        return [event_of_row(row) for row in rows]

    async def apply_within(self, connection: TrioConnection, change: JobChange) -> Event | None:
        """
        The same for one transition, in the transaction that is open on the connection.
        """
        found = await connection.execute(_SQL["apply"], self._changes([change], hurried=False))
        row = await found.fetchone()
        return None if row is None else event_of_row(row)

    async def renew(self, jobs: Mapping[JobId, int], *, lease: float) -> list[Renewal]:
        """
        Renew the leases of jobs with these fences; what is not answered has been lost.
        """
        given = Jsonb([{"id": job, "fence": fence} for job, fence in jobs.items()])
        rows = await self.database.fetch(_SQL["renew"], {"jobs": given, "lease": lease})
        return [
            Renewal(job=JobId(row[0]), is_cancelled=row[1], cancelled_by=row[2] and UserId(row[2]))
            for row in rows
        ]

    async def wishes(self, owner: str) -> list[tuple[JobId, int, UserId]]:
        """
        Which of this owner's running jobs are to be cancelled: id, fence, and who wants it.
        """
        rows = await self.database.fetch(_SQL["wishes"], {"owner": owner})
        return [(JobId(row[0]), row[1], UserId(row[2])) for row in rows]

    async def wish(self, wish: CancelWish, user: UserId) -> bool:
        """
        Ask the node that runs it to cancel a job; False when it does not run any more.
        """
        params = {"id": wish.job, "fence": wish.fence, "user": user}
        return await self.database.execute(_SQL["wish"], params) == 1

    async def purge(self, *, age: float, limit: int, states: Sequence[JobState] | None = None) -> int:
        """
        Delete jobs that ended more than `age` seconds ago, at most `limit`; answers how many.
        """
        names = None if states is None else [state.value for state in states]
        return await self.database.execute(_SQL["purge"], {"age": age, "limit": limit, "states": names})

    def _changes(self, changes: Iterable[JobChange], *, hurried: bool) -> dict[str, Any]:
        return {
            "changes": Jsonb([change_params(change) for change in changes]),
            "hurried": hurried,
            "epoch": self.epoch,
        }


def one_line(error: Exception) -> str:
    """
    What PostgreSQL said, in one line.
    """
    return " ".join(f"{type(error).__name__}: {error}".split())
