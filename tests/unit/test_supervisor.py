"""Supervisors: who is restarted when, in which order children start and stop, and what reaches whom."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from engine.errors import ActorStoppedError, StoreUnavailableError
from engine.runtime.backoff import Backoff
from engine.runtime.supervisor import (
    ChildEvent,
    ChildSpec,
    ChildState,
    EscalationError,
    Restart,
    RestartPolicy,
    Strategy,
    Supervisor,
    SupervisorEvent,
)

POLICY = RestartPolicy(
    restart=Restart.PERMANENT,
    max_restarts=3,
    within=100,
    backoff_first=1,
    backoff_cap=5,
    backoff_jitter=0,
    grace=10,
    cool_down=1000,
)
Ready = trio.TaskStatus[None]


@pytest.fixture(autouse=True)
def _quiet():
    """
    The tracebacks of all these crashes would take longer to print than the tests to run.
    """
    with capture_logs():
        yield


class Bug(Exception):  # noqa: N818
    """
    What a child raises here when it crashes.
    """


@attrs.define(eq=False)
class Scripted:
    """
    A child that does what the test tells it, and keeps a diary of its lives with everyone else.
    """

    name: str
    diary: list[str]
    # Seconds from the readiness to the crash, a life each; after the last it runs for ever.
    crashes: list[float] = attrs.field(factory=list)
    # Seconds that its clean-up takes.
    clean_up: float = 0
    ready: bool = True

    async def run(self, status: Ready) -> None:
        self.diary.append(f"{self.name} starts")
        try:
            if self.ready:
                status.started()
            if self.crashes:
                await trio.sleep(self.crashes.pop(0))
                raise Bug(self.name)
            await trio.sleep_forever()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.clean_up)
            self.diary.append(f"{self.name} stops")
            raise

    def spec(self, *, park: bool = False, **changes: object) -> ChildSpec:
        return spec(self.name, self.run, park=park, **changes)


def spec(
    name: str, run: Callable[[Ready], Awaitable[None]], *, park: bool = False, **changes: object
) -> ChildSpec:
    return ChildSpec(name=name, kind="test", run=run, policy=attrs.evolve(POLICY, **changes), park=park)


async def start(
    nursery: trio.Nursery, *specs: ChildSpec, strategy: Strategy = Strategy.ONE_FOR_ONE
) -> tuple[Supervisor, list[SupervisorEvent]]:
    events: list[SupervisorEvent] = []
    supervisor = Supervisor("test", strategy=strategy, on_event=events.append)
    await nursery.start(supervisor.run)
    for child in specs:
        await supervisor.start_child(child)
    return supervisor, events


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.name: child.state.value for child in supervisor.children()}


# -- backoff


@given(
    attempt=st.integers(0, 10_000),
    first=st.floats(0, 10),
    cap=st.floats(0, 100),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_a_delay_is_never_above_the_cap_and_never_less_than_the_jitter_allows(
    attempt, first, cap, jitter, seed
):
    """
    However many attempts there were, and whatever the dice say.
    """
    delay = Backoff(first=first, cap=cap, jitter=jitter).delay(attempt, Random(seed))
    longest = min(cap, first * 2 ** min(attempt, 64))
    assert longest * (1 - jitter) * 0.999 <= delay <= longest
    unspread = Backoff(first=first, cap=cap, jitter=0)
    assert unspread.delay(attempt, Random(seed)) <= unspread.delay(attempt + 1, Random(seed))


# -- the first start


async def test_start_child_returns_when_the_child_says_that_it_is_ready(nursery):
    """
    Whoever starts a child may use it at once.
    """
    supervisor, _ = await start(nursery)
    may_begin, returned = trio.Event(), trio.Event()

    async def slow(status: Ready) -> None:
        await may_begin.wait()
        status.started()
        await trio.sleep_forever()

    async def starter() -> None:
        await supervisor.start_child(spec("slow", slow))
        returned.set()

    nursery.start_soon(starter)
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"slow": "starting"}
    assert not returned.is_set()
    may_begin.set()
    await returned.wait()
    assert states(supervisor) == {"slow": "running"}


async def test_a_first_start_that_fails_is_the_starters_to_handle(nursery):
    """
    Its error comes out of start_child; the child is neither kept nor reported as a crash.
    """
    supervisor, events = await start(nursery)

    async def broken(_: Ready) -> None:
        raise Bug("no such database")

    with capture_logs() as logs, pytest.raises(Bug, match="no such database"):
        await supervisor.start_child(spec("broken", broken))
    assert supervisor.children() == []
    assert [event.what for event in events] == [ChildEvent.GONE]
    assert logs == []


async def test_a_child_that_returns_before_it_is_ready_has_failed(nursery):
    """
    Nobody waits for ever for a readiness that cannot come.
    """
    supervisor, _ = await start(nursery)

    async def forgetful(_: Ready) -> None:
        return

    with pytest.raises(RuntimeError, match="before it called task_status"):
        await supervisor.start_child(spec("forgetful", forgetful, restart=Restart.TRANSIENT))


async def test_a_starter_that_gives_up_takes_its_child_with_it(nursery, autojump_clock):
    """
    A deadline around start_child leaves no half-started child behind.
    """
    supervisor, _ = await start(nursery)
    child = Scripted("child", [], ready=False, clean_up=2)
    with trio.move_on_after(5) as scope:
        await supervisor.start_child(child.spec())
    assert scope.cancelled_caught
    assert child.diary == ["child starts", "child stops"]
    assert supervisor.children() == []


async def test_children_are_started_by_a_running_supervisor_only_and_names_are_unique(nursery):
    """
    A mistake of the caller is an error that says so, not a child that never runs.
    """
    supervisor = Supervisor("idle", strategy=Strategy.ONE_FOR_ONE, on_event=None)
    child = Scripted("child", [])
    with pytest.raises(ActorStoppedError, match="idle does not run"):
        await supervisor.start_child(child.spec())
    supervisor, _ = await start(nursery, child.spec())
    with pytest.raises(ValueError, match="already has a child child"):
        supervisor.start_child_nowait(child.spec())
    await supervisor.stop()
    with pytest.raises(ActorStoppedError):
        supervisor.start_child_nowait(child.spec())


# -- restarts


async def test_a_crash_is_nobody_elses_business(nursery, autojump_clock):
    """
    A crashing temporary child is gone and reported; its sibling and its supervisor do not notice.
    """
    diary: list[str] = []
    sibling = Scripted("sibling", diary)
    doomed = Scripted("doomed", diary, crashes=[1])
    supervisor, events = await start(nursery, sibling.spec(), doomed.spec(restart=Restart.TEMPORARY))
    await trio.sleep(50)
    assert states(supervisor) == {"sibling": "running"}
    assert diary == ["sibling starts", "doomed starts"]
    assert [(event.child, event.what) for event in events[2:]] == [
        ("doomed", ChildEvent.CRASHED),
        ("doomed", ChildEvent.GONE),
    ]


@pytest.mark.parametrize(
    ("restart", "crashes", "comes_back"),
    [
        (Restart.PERMANENT, True, True),
        (Restart.PERMANENT, False, True),
        (Restart.TRANSIENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TEMPORARY, True, False),
        (Restart.TEMPORARY, False, False),
    ],
)
async def test_permanent_transient_and_temporary_mean_what_they_say(
    nursery, autojump_clock, restart, crashes, comes_back
):
    """
    Permanent is always restarted, transient after a crash only, temporary never.
    """
    lives = 0

    async def child(status: Ready) -> None:
        nonlocal lives
        lives += 1
        status.started()
        if lives == 2:
            await trio.sleep_forever()
        await trio.sleep(1)
        if crashes:
            raise Bug

    supervisor, _ = await start(nursery, spec("child", child, restart=restart))
    await trio.sleep(50)
    assert lives == (2 if comes_back else 1)
    assert states(supervisor) == ({"child": "running"} if comes_back else {})


async def test_delays_double_up_to_the_cap_and_start_anew_after_a_long_life(nursery, autojump_clock):
    """
    Backoff is for a child that keeps crashing, not for one that crashes now and then.
    """
    births: list[float] = []
    lengths = [0, 0, 0, 0, 150, 0]

    async def child(status: Ready) -> None:
        births.append(trio.current_time())
        status.started()
        if lengths:
            await trio.sleep(lengths.pop(0))
            raise Bug
        await trio.sleep_forever()

    await start(nursery, spec("child", child, max_restarts=9))
    await trio.sleep(500)
    gaps = [later - earlier for earlier, later in pairwise(births)]
    assert gaps == pytest.approx([1, 2, 4, 5, 150 + 1, 2])


async def test_a_restart_that_does_not_get_ready_is_a_crash_too(nursery, autojump_clock):
    """
    It is tried again with backoff, like any other crash.
    """
    lives = 0

    async def child(status: Ready) -> None:
        nonlocal lives
        lives += 1
        if lives == 2:
            raise Bug("not ready")
        status.started()
        if lives == 1:
            raise Bug("ready")
        await trio.sleep_forever()

    supervisor, events = await start(nursery, spec("child", child))
    await trio.sleep(50)
    assert [event.what for event in events] == ["ready", "crashed", "crashed", "ready"]
    (info,) = supervisor.children()
    assert (info.restarts, info.state, info.last_error) == (2, ChildState.RUNNING, "Bug: not ready")


async def test_a_crash_is_logged_once_and_says_all(nursery, autojump_clock):
    """
    A bug with its traceback as an error; an error of ours as a warning, whose text is enough.
    """

    async def buggy(status: Ready) -> None:
        status.started()
        async with trio.open_nursery():
            raise Bug("oops")

    async def waiting(status: Ready) -> None:
        status.started()
        raise StoreUnavailableError("the database is away")

    with capture_logs() as logs:
        supervisor, _ = await start(
            nursery,
            spec("buggy", buggy, restart=Restart.TEMPORARY),
            spec("waiting", waiting),
        )
        await wait_all_tasks_blocked()
        (info,) = supervisor.children()
        supervisor.resume_child("none such")
        await supervisor.stop()
    bug, away = logs
    assert bug["log_level"] == "error"
    assert (bug["child"], bug["kind"], bug["restarts"], bug["error"]) == ("buggy", "test", 0, "Bug('oops')")
    assert isinstance(bug["exc_info"], ExceptionGroup)
    assert (away["log_level"], away["then"]) == ("warning", "restart in 1.00 s")
    assert "exc_info" not in away
    assert info.last_error == "StoreUnavailableError: the database is away"
    assert info.next_start_at is not None


# -- intensity


async def test_a_dynamic_child_that_crashes_too_often_is_parked_and_tried_again(nursery, autojump_clock):
    """
    More than max_restarts within the time: it rests for the cool-down, and its sibling runs on.
    """
    diary: list[str] = []
    sibling, child = Scripted("sibling", diary), Scripted("child", diary, crashes=[0] * 4)
    supervisor, events = await start(nursery, sibling.spec(), child.spec(park=True))
    await trio.sleep(50)
    assert states(supervisor) == {"sibling": "running", "child": "parked"}
    assert [event.what for event in events].count(ChildEvent.PARKED) == 1
    assert diary.count("child starts") == 4
    await trio.sleep(1000)
    assert states(supervisor) == {"sibling": "running", "child": "running"}
    assert diary.count("child starts") == 5


async def test_an_operator_resumes_a_parked_child_at_once(nursery, autojump_clock):
    """
    Whoever has mended the cause need not wait for the cool-down.
    """
    child = Scripted("child", [], crashes=[0])
    supervisor, _ = await start(nursery, child.spec(park=True, max_restarts=0))
    await trio.sleep(1)
    assert states(supervisor) == {"child": "parked"}
    assert supervisor.resume_child("child")
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"child": "running"}
    assert not supervisor.resume_child("child")
    assert not supervisor.resume_child("nobody")


async def test_a_crash_now_and_then_is_within_the_intensity(nursery, autojump_clock):
    """
    Only failures within the time count.
    """
    child = Scripted("child", [], crashes=[60] * 8)
    supervisor, _ = await start(nursery, child.spec(max_restarts=2))
    await trio.sleep(1000)
    assert states(supervisor) == {"child": "running"}


async def test_a_singleton_that_crashes_too_often_ends_its_supervisor_in_order(autojump_clock):
    """
    `run` raises EscalationError, after the siblings were stopped in reverse order with their clean-up.
    """
    diary: list[str] = []
    supervisor = Supervisor("test", strategy=Strategy.ONE_FOR_ONE, on_event=None)
    with pytest.RaisesGroup(pytest.RaisesExc(EscalationError, match="c ended more than 1 times")):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await supervisor.start_child(Scripted("a", diary).spec())
            await supervisor.start_child(Scripted("b", diary, clean_up=3).spec())
            await supervisor.start_child(Scripted("c", diary, crashes=[0, 0]).spec(max_restarts=1))
    assert diary == ["a starts", "b starts", "c starts", "c starts", "b stops", "a stops"]


async def test_an_escalation_is_a_crash_to_the_supervisor_above(nursery, autojump_clock):
    """
    Supervisors make a tree: the upper one starts the lower one anew.
    """
    diary: list[str] = []

    async def lower(status: Ready) -> None:
        supervisor = Supervisor("lower", strategy=Strategy.ONE_FOR_ONE, on_event=None)
        diary.append("lower starts")
        async with trio.open_nursery() as inner:
            await inner.start(supervisor.run)
            crashes = [5.0] if diary.count("lower starts") == 1 else []
            await supervisor.start_child(Scripted("child", diary, crashes=crashes).spec(max_restarts=0))
            status.started()

    supervisor, events = await start(nursery, spec("lower", lower))
    await trio.sleep(50)
    assert diary == ["lower starts", "child starts"] * 2
    assert str(supervisor.children()[0].last_error).startswith("EscalationError: lower: child")
    assert [event.what for event in events] == ["ready", "crashed", "ready"]


# -- rest for one


async def test_rest_for_one_stops_the_later_ones_in_reverse_and_starts_them_in_order(nursery, autojump_clock):
    """
    What builds on the failed child is taken down and put up again around it; what is below stays.
    """
    diary: list[str] = []
    names = {name: Scripted(name, diary, clean_up=1) for name in "abcd"}
    names["b"].crashes = [10]
    supervisor, _ = await start(
        nursery, *(child.spec() for child in names.values()), strategy=Strategy.REST_FOR_ONE
    )
    diary.clear()
    await trio.sleep(50)
    assert diary == ["d stops", "c stops", "b starts", "c starts", "d starts"]
    assert states(supervisor) == dict.fromkeys("abcd", "running")
    assert [child.restarts for child in supervisor.children()] == [0, 1, 1, 1]


async def test_rest_for_one_starts_nobody_before_those_below_are_ready(nursery):
    """
    A failed child that takes long to get ready holds up the later ones, and only those.
    """
    lives, may_begin = 0, trio.Event()
    diary: list[str] = []

    async def slow(status: Ready) -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            status.started()
            await crash.wait()
            raise Bug
        await may_begin.wait()
        status.started()
        await trio.sleep_forever()

    crash = trio.Event()
    later = Scripted("later", diary)
    supervisor, _ = await start(
        nursery, spec("slow", slow, backoff_first=0), later.spec(), strategy=Strategy.REST_FOR_ONE
    )
    crash.set()
    await wait_all_tasks_blocked()
    assert lives == 2
    assert diary == ["later starts", "later stops"]
    may_begin.set()
    await wait_all_tasks_blocked()
    assert diary == ["later starts", "later stops", "later starts"]
    assert states(supervisor) == {"slow": "running", "later": "running"}


async def test_rest_for_one_survives_two_failures_at_once(nursery, autojump_clock):
    """
    A later child that fails by itself while an earlier one is restarted comes back after it.
    """
    diary: list[str] = []
    first, second = Scripted("first", diary, crashes=[5]), Scripted("second", diary, crashes=[5])
    third = Scripted("third", diary, clean_up=1)
    supervisor, _ = await start(
        nursery, first.spec(), second.spec(), third.spec(), strategy=Strategy.REST_FOR_ONE
    )
    diary.clear()
    await trio.sleep(50)
    assert diary == ["third stops", "first starts", "second starts", "third starts"]
    assert states(supervisor) == dict.fromkeys(("first", "second", "third"), "running")


async def test_rest_for_one_does_not_bring_a_temporary_child_back(nursery, autojump_clock):
    """
    Never restarted means also: not on behalf of a sibling.
    """
    diary: list[str] = []
    first, once = Scripted("first", diary, crashes=[5]), Scripted("once", diary)
    supervisor, _ = await start(
        nursery, first.spec(), once.spec(restart=Restart.TEMPORARY), strategy=Strategy.REST_FOR_ONE
    )
    await trio.sleep(50)
    assert states(supervisor) == {"first": "running"}


# -- stopping


async def test_stop_ends_the_children_in_reverse_order_and_gives_each_its_clean_up(autojump_clock):
    """
    What was started last may still use what was started before it.
    """
    diary: list[str] = []
    async with trio.open_nursery() as nursery:
        children = [Scripted(name, diary, clean_up=5) for name in "abc"]
        supervisor, _ = await start(nursery, *(child.spec() for child in children))
        await supervisor.stop()
        assert diary[3:] == ["c stops", "b stops", "a stops"]
        assert supervisor.children() == []
        await supervisor.stop()


async def test_a_cancelled_supervisor_stops_its_children_in_reverse_order_too(autojump_clock):
    """
    A tree that is cancelled from above comes down as orderly as one that is stopped.
    """
    diary: list[str] = []
    async with trio.open_nursery() as nursery:
        children = [Scripted(name, diary, clean_up=5) for name in "abc"]
        await start(nursery, *(child.spec() for child in children))
        nursery.cancel_scope.cancel()
    assert diary[3:] == ["c stops", "b stops", "a stops"]


async def test_a_child_that_outstays_its_grace_is_reported_and_holds_nobody_up(nursery, autojump_clock):
    """
    The others are stopped on time; `run` itself ends when the laggard does.
    """
    diary: list[str] = []
    good, laggard = Scripted("good", diary), Scripted("laggard", diary, clean_up=60)
    supervisor, events = await start(nursery, good.spec(), laggard.spec())
    began = trio.current_time()
    with capture_logs() as logs:
        await supervisor.stop()
    assert trio.current_time() - began == pytest.approx(10)
    assert diary[2:] == ["good stops"]
    assert [event.child for event in events if event.what is ChildEvent.ABANDONED] == ["laggard"]
    assert [(log["event"], log["child"], log["grace"]) for log in logs] == [
        ("child did not stop within its grace, going on without it", "laggard", 10)
    ]
    await trio.sleep(60)
    assert diary[2:] == ["good stops", "laggard stops"]
    assert supervisor.children() == []


async def test_stopping_one_child_forgets_it_and_leaves_the_others(nursery, autojump_clock):
    """
    Its name is free again as soon as stop_child returns; to stop it once more is no error.
    """
    diary: list[str] = []
    supervisor, _ = await start(nursery, Scripted("a", diary).spec(), Scripted("b", diary).spec())
    await supervisor.stop_child("a")
    assert states(supervisor) == {"b": "running"}
    await supervisor.stop_child("a")
    await supervisor.start_child(Scripted("a", diary).spec())
    assert states(supervisor) == {"b": "running", "a": "running"}


@pytest.mark.parametrize("state", [ChildState.BACKING_OFF, ChildState.PARKED])
async def test_a_child_that_waits_for_its_restart_is_stopped_at_once(nursery, autojump_clock, state):
    """
    Nothing runs, so there is nothing to wait for, and it does not come back.
    """
    child = Scripted("child", [], crashes=[0])
    max_restarts = 0 if state is ChildState.PARKED else 3
    supervisor, _ = await start(nursery, child.spec(park=True, max_restarts=max_restarts))
    await wait_all_tasks_blocked()
    assert states(supervisor) == {"child": state}
    began = trio.current_time()
    await supervisor.stop_child("child")
    assert trio.current_time() == began
    await trio.sleep(5000)
    assert child.diary == ["child starts"]


async def test_an_error_in_a_clean_up_is_reported_and_stops_nothing(nursery, autojump_clock):
    """
    The child is gone, the error logged and told, and the supervisor goes on.
    """

    async def clumsy(status: Ready) -> None:
        status.started()
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise Bug("while cleaning up")

    supervisor, events = await start(nursery, Scripted("sibling", []).spec(), spec("clumsy", clumsy))
    await supervisor.stop_child("clumsy")
    assert states(supervisor) == {"sibling": "running"}
    assert [event.what for event in events if event.child == "clumsy"] == ["ready", "crashed", "gone"]


async def test_a_keyboard_interrupt_passes_and_takes_the_children_down_in_order():
    """
    What is no Exception is not the supervisor's to handle.
    """
    diary: list[str] = []
    interrupt = trio.Event()

    async def interrupted(status: Ready) -> None:
        status.started()
        await interrupt.wait()
        raise KeyboardInterrupt

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await start(
                nursery,
                Scripted("a", diary).spec(),
                Scripted("b", diary).spec(),
                spec("interrupted", interrupted),
            )
            interrupt.set()
    assert diary == ["a starts", "b starts", "b stops", "a stops"]
