"""The job source that is always there: the table processing_queue. Knows no handlers, and runs nothing."""

from collections.abc import Mapping

import attrs
import trio

from engine.store.jobs import Claimed, Jobs

NAME = "postgres"


@attrs.frozen(kw_only=True)
class SourceStatistics:
    """
    What was asked of a source, and what it gave; ages in seconds, None when it never happened.
    """

    polls_total: int
    claimed_total: int
    failures_total: int
    last_successful_poll_age: float | None
    last_error: str | None


@attrs.define(eq=False, kw_only=True)
class PostgresQueue:
    """
    Own when the queue has to be asked again for what was delayed. A crash loses nothing.

    `owner` is who claims: a node, in this one of its lives.
    """

    jobs: Jobs
    owner: str
    # Seconds that a claimed job is the owner's.
    lease: float
    # When the next delayed job is due, by trio's clock; -inf: look at once; None: nothing is delayed.
    due_at: float | None = attrs.field(default=float("-inf"), init=False)
    _polls: int = attrs.field(default=0, init=False)
    _claimed: int = attrs.field(default=0, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _succeeded_at: float | None = attrs.field(default=None, init=False)
    _last_error: str | None = attrs.field(default=None, init=False)

    async def claim(self, rooms: Mapping[str, int], limit: int) -> Claimed:
        """
        Take what is due, the most urgent first. Raises StoreUnavailableError.
        """
        self._polls += 1
        try:
            await self._look_for_due()
            claimed = await self.jobs.claim(rooms, limit, source=NAME, owner=self.owner, lease=self.lease)
        except Exception as error:
            self._failures += 1
            self._last_error = f"{type(error).__name__}: {error}"
            raise
        self._succeeded_at = trio.current_time()
        self._claimed += len(claimed.jobs)
        return claimed

    async def _look_for_due(self) -> None:
        if self.due_at is None or trio.current_time() < self.due_at:
            return
        # What somebody delays from here on may come too late for this look.
        self.due_at = None
        try:
            seconds = await self.jobs.look_for_due()
        except BaseException:
            self.look_again()
            raise
        if seconds is not None:
            self.look_again(max(0.0, seconds))

    def look_again(self, delay: float = 0.0) -> None:
        """
        Something is due in so many seconds, or may be.
        """
        at = trio.current_time() + delay
        self.due_at = at if self.due_at is None else min(self.due_at, at)

    def statistics(self) -> SourceStatistics:
        """
        What happened so far.
        """
        at = self._succeeded_at
        return SourceStatistics(
            polls_total=self._polls,
            claimed_total=self._claimed,
            failures_total=self._failures,
            last_successful_poll_age=None if at is None else trio.current_time() - at,
            last_error=self._last_error,
        )
