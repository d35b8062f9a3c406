"""What plugins run jobs with: handlers, the context that these are given, and how they say no."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import attrs

from engine.domain.event import EpisodeId
from engine.domain.fields import FieldError
from engine.domain.job import MAX_DELAY, Job
from engine.errors import EngineError
from engine.hookspecs.given import Engine, Transaction


class JobTransaction(Transaction, Protocol):
    """
    A database transaction that commits together with the job's completion, or not at all.
    """

    async def create_episodes(self, given: Sequence[Mapping[str, Any]]) -> Sequence[EpisodeId]:
        """
        Create episodes, as if the submitter had posted each; the fields are those of `POST /episodes`.

        They are checked, and the plugins' `validate_episode` is asked, before anything is written. Raises
        InvalidEpisodesError with all that is wrong.
        """
        ...


class JobContext(Protocol):
    """
    What a job's handler is given of the engine.
    """

    @property
    def job(self) -> Job:
        """
        The job as it was claimed: payload, attempt (from 1), episode, submitter. `job.id` is a good
        idempotency key for what is done outside of the database.
        """
        ...

    @property
    def engine(self) -> Engine:
        """
        The plugin's own handle: for reading before the job's transaction begins, and for its metrics.
        """
        ...

    @property
    def data_dir(self) -> Path:
        """
        The node's data directory.
        """
        ...

    async def progress(self, fraction: float, message: str | None = None) -> None:
        """
        Tell how far it has got, 0 to 1: told to screens at most four times a second, the latest each time.
        """
        ...

    def progress_from_thread(self, fraction: float, message: str | None = None) -> None:
        """
        The same for a plain function, which runs in a thread. Raises JobStoppedError there once the job has
        been cancelled, is over its time, or was lost: nothing else can stop a thread.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[JobTransaction]:
        """
        The job's one transaction. What is written in it commits when the handler has returned, together with
        the completion and only if the job is still this handler's; exactly once, whatever crashes.

        From its first statement the handler has `jobs.transaction_budget` to return. An error that leaves the
        block undoes what was written only if it leaves the handler, too.
        """
        ...


class Retry(Exception):  # noqa: N818 -- a wish, and no error of the handler's
    """
    Raised by a handler: this attempt came to nothing, try again, after so many seconds or as usual.

    It counts as an attempt: after the last one the job has failed.
    """

    def __init__(self, reason: str = "the handler wants to try again", *, after: float | None = None) -> None:
        super().__init__(reason)
        if after is not None and (
            isinstance(after, bool) or not isinstance(after, int | float) or not 0 <= after <= MAX_DELAY
        ):
            raise ValueError(f"after must be a number of seconds, 0 to {MAX_DELAY} (a year), not {after!r}")
        self.after = after


class Discard(Exception):  # noqa: N818 -- a wish, and no error of the handler's
    """
    Raised by a handler: to try again would be of no use; the job has failed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class InvalidEpisodesError(EngineError):
    """
    Some of the episodes must not be created; none is. `errors` has the place of each, from 0, and its field.
    """

    def __init__(self, errors: Sequence[tuple[int, FieldError]]) -> None:
        place, error = errors[0]
        super().__init__(
            f"{len(errors)} fields of episodes are wrong; the first is {error.field} of number {place}: it "
            f"{error.message}"
        )
        self.errors = tuple(errors)


class JobStoppedError(EngineError):
    """
    The job is not this handler's any more. Let it pass: nothing that is done from now on counts.
    """


@attrs.frozen(kw_only=True)
class JobHandler:
    """
    What runs the jobs of one type, and how. Durations in seconds.
    """

    # Lower case words joined by dots, such as "episode.import".
    type: str
    # An async function runs on the event loop and is cancelled where it awaits; a plain one runs in a thread.
    # What it answers, JSON of at most 64 KiB, is the job's result.
    run: Callable[[JobContext], Awaitable[Any] | Any]
    max_attempts: int = 5
    # For one attempt; then it is cancelled, and tried again.
    timeout: float = 300.0
    # Before the second attempt up to so long, at random; up to twice as long before each next, up to the cap.
    backoff_first: float = 1.0
    backoff_cap: float = 300.0
    # How many of this type run on a node at a time.
    concurrency: int = 4
    # What is wrong with a payload: the submission is refused with 422. A plain function that does not wait.
    check: Callable[[Mapping[str, Any]], Iterable[FieldError]] | None = None
    # At most one unfinished job of each key; None is no key. A submission may give a key of its own.
    unique: Callable[[Mapping[str, Any]], str | None] | None = None
