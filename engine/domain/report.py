"""What the report of an external worker makes of a job. Pure; the store commits it, with the same checks."""

import enum
from typing import assert_never

from engine.domain import job as jobs
from engine.domain.envelope import Completed, Failed, Progressed, Report, Started
from engine.domain.job import FINISHED, WAITING, Job, JobChange, JobState


class Unheard(enum.Enum):
    """
    Why a report changes nothing: it is late or repeated, and never will; or it is ahead of others, and may.
    """

    STALE = enum.auto()
    EARLY = enum.auto()


def heard(job: Job, report: Report, *, owner: str, lease: float, delay: float) -> JobChange | Unheard:
    """
    The change that a report asks for. `owner` is who sent it, `delay` the seconds before another attempt.

    A report of whatever kind begins a job that waits, if its fence is new: the message that says `started`
    may come after it, or never. The change is then that beginning, and the report is to be heard again.
    """
    if report.fence > job.fence:
        return _begun(job, report, owner=owner, lease=lease)
    if report.fence < job.fence or job.state is not JobState.RUNNING or not job.is_external:
        return Unheard.STALE
    if report.seq <= job.told_seq:
        return Unheard.STALE
    match report.outcome:
        case Started():
            return Unheard.STALE
        case Progressed(fraction=fraction, message=message):
            change = jobs.progressed(job, fraction, message, lease=lease)
        case Completed(result=result):
            change = jobs.completed(job, result)
        case Failed(error=error, retry=retry, retry_after=after):
            wait = delay if after is None else after
            change = jobs.attempt_failed(job, error, delay=wait, final=not retry)
        case _:
            assert_never(report.outcome)
    return jobs.numbered(change, report.seq)


def _begun(job: Job, report: Report, *, owner: str, lease: float) -> JobChange | Unheard:
    if job.state in FINISHED:
        return Unheard.STALE
    if job.state not in WAITING:
        # Whoever runs it now has to be done with it first.
        return Unheard.EARLY
    is_start = isinstance(report.outcome, Started)
    worker = report.outcome.worker if isinstance(report.outcome, Started) else None
    change = jobs.started_elsewhere(
        job,
        owner=worker or owner,
        fence=report.fence,
        # Whatever it reports is still to be heard.
        seq=report.seq if is_start else report.seq - 1,
        lease=lease,
    )
    return Unheard.STALE if change is None else change
