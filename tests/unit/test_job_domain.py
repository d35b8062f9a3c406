"""Jobs as the domain decides them: the state machine, its events, and what may be submitted."""

from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import job as decide
from engine.domain import job_request
from engine.domain.event import JobId, Request, UserId
from engine.domain.fields import Invalid
from engine.domain.job import EXTERNAL, MAX_ERROR, CancelWish, Job, JobChange, JobState

NOW = datetime(2026, 1, 7, tzinfo=UTC)
BY = {"user": UserId("bob"), "request": Request(mutation_id="m")}


def job(state=JobState.RUNNING, **fields):
    usual = {
        "id": JobId("j"),
        "seq": 1,
        "type": "test.one",
        "state": state,
        "payload": {},
        "max_attempts": 3,
        "timeout": 60.0,
        "next_run_at": NOW,
        "source": "rest",
        "submitted_by": UserId("alice"),
        "request": Request(mutation_id="m"),
        "created_at": NOW,
        "updated_at": NOW,
        "attempt": 1,
        "fence": 4,
        "lease_owner": "here/1",
    }
    return Job(**{**usual, **fields})


def after(before: Job, change: JobChange) -> Job:
    """
    The job as the statement makes it.
    """
    return attrs.evolve(
        before,
        state=change.state,
        attempt=change.attempt,
        fence=before.fence if change.new_fence is None else change.new_fence,
        lease_owner=change.lease_owner,
        progress=change.progress,
        error=change.error,
        result=change.result,
    )


@pytest.mark.parametrize("attempt, becomes", [(1, "retry"), (2, "retry"), (3, "failed")])
def test_a_failed_attempt_is_repeated_until_there_are_no_more(attempt, becomes):
    """
    The event says which, how often, and why.
    """
    change = decide.attempt_failed(job(attempt=attempt), "no", delay=7.0)
    assert change.state == becomes
    assert change.event.type == f"job_{becomes}"
    assert change.event.data["error"] == change.error == "no"
    if becomes == "retry":
        assert (change.delay, change.event.data["retryCount"]) == (7.0, attempt)
    else:
        assert change.delay is None


def test_what_is_final_fails_at_once_and_a_long_error_is_cut():
    """
    Nobody reads a megabyte of error on a screen.
    """
    change = decide.attempt_failed(job(), "x" * 100_000, delay=1, final=True)
    assert change.state == "failed"
    assert change.error == "x" * MAX_ERROR


def test_what_runs_here_is_asked_to_stop_what_waits_or_runs_elsewhere_is_cancelled():
    """
    And what has ended stays as it is.
    """
    assert isinstance(decide.cancel(job(), **BY), CancelWish)
    for waiting in (job(JobState.QUEUED), job(JobState.RETRY), job(lease_owner=f"{EXTERNAL}lambda")):
        change = decide.cancel(waiting, **BY)
        assert isinstance(change, JobChange)
        assert (change.state, change.user, change.expects) == ("cancelled", "bob", (waiting.state,))
        assert change.new_fence == waiting.fence + 1, "whoever ran it is shut out"
    for state in decide.FINISHED:
        assert decide.cancel(job(state), **BY) is None


def test_only_what_was_given_up_is_queued_again_by_hand():
    """
    With all its attempts, and its last error still to be seen.
    """
    for state in JobState:
        change = decide.queued_again(job(state, error="no"), **BY)
        assert (change is not None) == (state in decide.GIVEN_UP)
        if change is not None:
            assert (change.state, change.attempt, change.error) == ("queued", 0, "no")


STEPS = ("claim", "complete", "fail", "final", "progress", "cancel", "release", "rescue", "again")


def of_running(present, step):
    """
    What a step does to a running job, if anything.
    """
    match step:
        case "complete":
            return decide.completed(present, 1)
        case "fail" | "final":
            return decide.attempt_failed(present, "no", delay=1, final=step == "final")
        case "progress":
            return decide.progressed(present, 0.5, None, lease=1)
        case "cancel":
            return decide.cancelled(present)
        case "release":
            return decide.released(present, "as a test wants")
        case "rescue":
            return decide.rescued(present, delay=1)
        case _:
            return None


@given(st.lists(st.sampled_from(STEPS), max_size=30))
def test_no_way_through_the_states_leaves_the_machine(steps):
    """
    Attempts never exceed what is allowed, fences never fall, and only hands leave an end.
    """
    present = job(JobState.QUEUED, attempt=0)
    for step in steps:
        change = None
        running = present.state is JobState.RUNNING
        if step == "claim" and present.state in decide.WAITING:
            present = attrs.evolve(
                present, state=JobState.RUNNING, attempt=present.attempt + 1, fence=present.fence + 1
            )
        elif step == "again":
            change = decide.queued_again(present, **BY)
        elif step == "cancel" and not running:
            change = decide.cancel(present, **BY)
        elif running:
            change = of_running(present, step)
        if change is None:
            continue
        assert isinstance(change, JobChange)
        assert present.state in change.expects
        assert change.fence in (None, present.fence)
        following = after(present, change)
        assert following.fence >= present.fence
        assert 0 <= following.attempt <= following.max_attempts
        assert following.state is not JobState.RUNNING or step == "progress"
        assert present.state not in decide.FINISHED or step == "again"
        present = following


def test_an_external_worker_begins_what_waits_with_a_later_fence_only():
    """
    A repeated `started`, or one of a worker that was overtaken, begins nothing.
    """
    waiting = job(JobState.QUEUED, attempt=0)
    begun = decide.started_elsewhere(waiting, owner="lambda", fence=5, seq=1, lease=60)
    assert begun is not None
    assert after(waiting, begun).is_external
    assert decide.started_elsewhere(waiting, owner="lambda", fence=4, seq=1, lease=60) is None
    assert decide.started_elsewhere(job(), owner="lambda", fence=9, seq=1, lease=60) is None


@pytest.mark.parametrize(
    "field, value",
    [
        ("type", "Import"), ("type", ""), ("type", "a..b"), ("type", "a" * 101), ("type", 1), ("type", None),
        ("payload", []), ("payload", None), ("payload", {"a": ["\0"]}),
        ("episode_id", "x"), ("episode_id", 7),
        ("priority", -1), ("priority", 10), ("priority", None), ("priority", True), ("priority", 0.5),
        ("delay", -1), ("delay", float("nan")), ("delay", 10**9), ("delay", "1s"), ("delay", True),
        ("unique_key", ""), ("unique_key", "k" * 201), ("unique_key", 1),
        ("max_attempts", 0), ("max_attempts", 101), ("max_attempts", None),
        ("timeout", 0), ("timeout", -1), ("timeout", float("inf")), ("timeout", None),
        ("colour", "red"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(field, value):
    """
    Alone, and with what would be right.
    """
    found = job_request.parse({"type": "test.one", field: value})
    assert isinstance(found, Invalid)
    assert [error.field for error in found.errors] == [field]


NULLABLE = ("episode_id", "unique_key")


@pytest.mark.parametrize("field", job_request.FIELDS)
def test_null_is_offered_where_it_is_taken_only(field):
    """
    A refusal that says "or null" of a field that may not be would be followed, in vain.
    """
    found = job_request.parse({"type": "test.one", field: None})
    assert isinstance(found, Invalid) is (field not in NULLABLE)
    wrong = job_request.parse({"type": "test.one", field: object()})
    assert isinstance(wrong, Invalid)
    assert ("null" in wrong.errors[0].message) is (field in NULLABLE)


def test_a_right_submission_is_kept_as_it_is():
    """
    With an id in its one spelling.
    """
    given = {
        "type": "episode.import_all",
        "payload": {"path": "a.csv"},
        "episode_id": "AAAAAAAA-0000-4000-8000-000000000000",
        "priority": 9,
        "delay": 0,
        "unique_key": None,
        "max_attempts": 100,
        "timeout": 0.5,
    }
    kept = job_request.parse(given)
    assert kept == {**given, "episode_id": given["episode_id"].lower()}
