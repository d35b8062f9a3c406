"""Supervisors: how a child starts, when it is restarted, parked or escalated, and what is told of it."""

from collections.abc import Awaitable, Callable
from itertools import pairwise

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from engine.errors import ActorStoppedError, StoreUnavailableError
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
Run = Callable[[Ready], Awaitable[None]]


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
        return spec(self.name, self.run, park, **changes)


def spec(name: str, run: Run, park: bool = False, **changes: object) -> ChildSpec:
    return ChildSpec(name=name, kind="test", run=run, policy=attrs.evolve(POLICY, **changes), park=park)


async def start(nursery: trio.Nursery, *specs: ChildSpec) -> tuple[Supervisor, list[SupervisorEvent]]:
    events: list[SupervisorEvent] = []
    supervisor = Supervisor("test", strategy=Strategy.ONE_FOR_ONE, on_event=events.append)
    await nursery.start(supervisor.run)
    for child in specs:
        await supervisor.start_child(child)
    return supervisor, events


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.name: child.state.value for child in supervisor.children()}


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
    assert (supervisor.children(), logs) == ([], [])
    assert [event.what for event in events] == [ChildEvent.GONE]


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
        once = spec("buggy", buggy, restart=Restart.TEMPORARY)
        supervisor, _ = await start(nursery, once, spec("waiting", waiting))
        await wait_all_tasks_blocked()
        (info,) = supervisor.children()
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
    child = Scripted("child", [], crashes=[0, 0, 0])
    supervisor, _ = await start(nursery, child.spec(park=True, max_restarts=1))
    await trio.sleep(2)
    assert states(supervisor) == {"child": "parked"}
    assert supervisor.resume_child("child")
    await wait_all_tasks_blocked()
    # What it did before it was parked is forgiven.
    assert states(supervisor) == {"child": "backing_off"}
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
