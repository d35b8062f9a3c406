"""What is counted of jobs on this node, by type."""

import attrs


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
    # Given back when the node stopped.
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

    def of(self, kind: str) -> TypeCounts:
        """
        The counts of one type.
        """
        return self.types.setdefault(kind, TypeCounts())

    def count(self, kind: str, event: str | None) -> None:
        """
        A job of this type came to the transition of that event; None: it was lost.
        """
        counts, name = self.of(kind), "lost" if event is None else OUTCOMES.get(event)
        if name is not None:
            setattr(counts, name, getattr(counts, name) + 1)
