"""Reports of external workers: in whatever order they come, and however often, the end is the same."""

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.envelope import Completed, Failed, Progressed, Report, Started
from engine.domain.event import JobId, Request, UserId
from engine.domain.job import EXTERNAL, FINISHED, Job, JobChange, JobState
from engine.domain.report import Unheard, heard

NOW = datetime(2026, 1, 7, 12, tzinfo=UTC)
ID = "0b7e8a52-0000-4000-8000-000000000001"
WAITING = Job(
    id=JobId(ID),
    seq=1,
    type="test.elsewhere",
    payload={},
    max_attempts=3,
    timeout=60.0,
    next_run_at=NOW,
    source="rest",
    submitted_by=UserId("alice@example.com"),
    request=Request(mutation_id="m"),
    created_at=NOW,
    updated_at=NOW,
)


def report(fence, seq, outcome):
    """
    What a worker tells under this fence.
    """
    return Report(job_id=ID, fence=fence, seq=seq, outcome=outcome)


def changed(job, change):
    """
    The job as the statement leaves it, which checks what the change expects; None if it does not fit.
    """
    fits = job.state in change.expects and change.fence in (None, job.fence)
    if not fits or (change.told_seq is not None and job.told_seq >= change.told_seq):
        return None
    return attrs.evolve(
        job,
        state=change.state,
        attempt=change.attempt,
        fence=job.fence if change.new_fence is None else change.new_fence,
        told_seq=job.told_seq if change.new_told_seq is None else change.new_told_seq,
        lease_owner=change.lease_owner,
        result=change.result,
        error=change.error,
        progress=change.progress,
    )


def tell(job, reports):
    """
    Deliver in this order; what is early comes again at the end, as the queue brings it.
    """
    events, waiting, patience = [], list(reports), 1000
    while waiting and patience:
        patience -= 1
        told = waiting.pop(0)
        match heard(job, told, owner="tests", lease=60.0, delay=0.0):
            case Unheard.EARLY:
                waiting.append(told)
            case JobChange() as change:
                job = changed(job, change)
                assert job is not None, "a decision fits the job that it was made for"
                events.append((change.event.type, job.attempt, job.progress))
                if change.event.type == "job_processor_started" and not isinstance(told.outcome, Started):
                    waiting.insert(0, told)
    assert not waiting, "something stays early for ever"
    return job, events


ONE_RUN = [
    report(5, 0, Started(worker="ecs-1")),
    *(report(5, number, Progressed(fraction=number / 10)) for number in range(1, 5)),
    report(5, 5, Completed(result={"frames": 24})),
]
FIRST_FAILS = [
    report(5, 1, Started()),
    report(5, 2, Progressed(fraction=0.4)),
    report(5, 3, Failed(error="out of memory")),
]
TWO_RUNS = [*FIRST_FAILS, *(attrs.evolve(each, fence=6) for each in ONE_RUN)]


@given(order=st.permutations(ONE_RUN * 2))
def test_a_run_ends_the_same_in_whatever_order_and_however_often_it_is_told(order):
    """
    It begins once and completes once; progress only grows.
    """
    job, events = tell(WAITING, order)
    assert (job.state, job.result, job.attempt) == (JobState.COMPLETED, {"frames": 24}, 1)
    types = [type_ for type_, _, _ in events]
    assert types.count("job_processor_started") == types.count("job_completed") == 1
    assert types[0] == "job_processor_started" and types[-1] == "job_completed"
    fractions = [progress for type_, _, progress in events if type_ == "job_progress"]
    assert fractions == sorted(set(fractions))


@given(order=st.permutations(TWO_RUNS))
def test_of_two_runs_the_later_one_has_the_last_word(order):
    """
    Whatever of the first comes late counts no more.
    """
    job, events = tell(WAITING, order)
    assert (job.state, job.result) == (JobState.COMPLETED, {"frames": 24})
    assert [type_ for type_, _, _ in events].count("job_completed") == 1


def test_in_order_both_runs_are_told():
    """
    Nothing is left out when nothing is out of order.
    """
    job, events = tell(WAITING, TWO_RUNS)
    assert [type_.removeprefix("job_") for type_, _, _ in events] == [
        "processor_started",
        "progress",
        "retry",
        "processor_started",
        *["progress"] * 4,
        "completed",
    ]
    assert job.attempt == 2


RUNNING = attrs.evolve(
    WAITING, state=JobState.RUNNING, attempt=1, fence=5, told_seq=3, lease_owner=f"{EXTERNAL}ecs-1"
)


@pytest.mark.parametrize(
    ("job", "told", "unheard"),
    [
        (RUNNING, report(4, 9, Completed()), Unheard.STALE),
        (RUNNING, report(5, 3, Completed()), Unheard.STALE),
        (RUNNING, report(5, 9, Started()), Unheard.STALE),
        (RUNNING, report(6, 1, Started()), Unheard.EARLY),
        (attrs.evolve(RUNNING, lease_owner="node/1"), report(5, 9, Completed()), Unheard.STALE),
        (attrs.evolve(RUNNING, lease_owner="node/1"), report(6, 9, Completed()), Unheard.EARLY),
        (attrs.evolve(WAITING, fence=5), report(5, 9, Completed()), Unheard.STALE),
        *((attrs.evolve(RUNNING, state=state), report(9, 1, Started()), Unheard.STALE) for state in FINISHED),
    ],
)
def test_what_is_late_or_repeated_or_somebody_else_s_changes_nothing(job, told, unheard):
    """
    A worker that has lost its job cannot complete it.
    """
    assert heard(job, told, owner="tests", lease=60.0, delay=1.0) is unheard


def test_a_failure_is_tried_again_when_the_worker_says_or_never():
    """
    As often as the job allows.
    """

    def outcome(**fields):
        change = heard(
            RUNNING, report(5, 4, Failed(error="no", **fields)), owner="tests", lease=60.0, delay=7.0
        )
        assert isinstance(change, JobChange)
        return change.state, change.delay

    assert outcome() == (JobState.RETRY, 7.0)
    assert outcome(retry_after=90.0) == (JobState.RETRY, 90.0)
    assert outcome(retry=False) == (JobState.FAILED, None)


def test_who_runs_a_job_is_the_worker_by_its_name_or_the_sender():
    """
    People see it in the error of a job whose worker fell silent.
    """
    named = heard(WAITING, report(1, 0, Started(worker="ecs-1")), owner="studio", lease=60.0, delay=0.0)
    unnamed = heard(WAITING, report(1, 0, Progressed(fraction=0)), owner="studio", lease=60.0, delay=0.0)
    assert isinstance(named, JobChange) and isinstance(unnamed, JobChange)
    assert (named.lease_owner, unnamed.lease_owner) == ("external:ecs-1", "external:studio")
