"""What is counted of jobs on this node, by type."""

import attrs

from engine.domain.job import Job
from engine.runtime.gauges import Histogram

# Seconds: jobs run from an instant to hours.
BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)


@attrs.define
class TypeCounts:
    """
    What became of the jobs of one type on this node since it started; `seconds` is the time they ran.
    """

    started: int = 0
    completed: int = 0
    retried: int = 0
    failed: int = 0
    cancelled: int = 0
    # Given back: the node stopped, or an operator restarted the run.
    released: int = 0
    # Taken away, because the lease had ended.
    lost: int = 0
    seconds: float = 0.0


OUTCOMES = {
    "job_completed": "completed",
    "job_retry": "retried",
    "job_failed": "failed",
    "job_cancelled": "cancelled",
    "job_queued": "released",
}


@attrs.define(eq=False)
class JobStatistics:
    """
    Own the counts; plain data, which outlives crashes of whoever counts.
    """

    types: dict[str, TypeCounts] = attrs.field(factory=dict, init=False)
    # Seconds that attempts ran, by type.
    durations: dict[str, Histogram] = attrs.field(factory=dict, init=False)
    # Seconds that jobs had been due when attempts began, by type.
    waits: dict[str, Histogram] = attrs.field(factory=dict, init=False)

    def of(self, kind: str) -> TypeCounts:
        """
        The counts of one type.
        """
        found = self.types.get(kind)
        if found is None:
            found = self.types[kind] = TypeCounts()
        return found

    def took(self, kind: str, seconds: float) -> None:
        """
        An attempt of a job of this type ran so long.
        """
        self.of(kind).seconds += seconds
        _observe(self.durations, kind, seconds)

    def began(self, job: Job) -> None:
        """
        An attempt at a job begins.
        """
        self.of(job.type).started += 1
        if job.started_at is not None:
            _observe(self.waits, job.type, max(0.0, (job.started_at - job.next_run_at).total_seconds()))

    def count(self, kind: str, event: str | None) -> None:
        """
        A job of this type came to the transition of that event; None: it was lost.
        """
        counts, name = self.of(kind), "lost" if event is None else OUTCOMES.get(event)
        if name is not None:
            setattr(counts, name, getattr(counts, name) + 1)


def _observe(histograms: dict[str, Histogram], kind: str, seconds: float) -> None:
    found = histograms.get(kind)
    if found is None:
        found = histograms[kind] = Histogram(BOUNDS)
    found.observe(seconds)
