"""Supervisors: the order in which children stop and start again, and the time they are given for it."""

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from engine.runtime.supervisor import (
    ChildEvent,
    ChildSpec,
    ChildState,
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
    assert states(supervisor) == {"slow": "starting", "later": "starting"}
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
    A tree that is cancelled from above comes down as orderly as one that is stopped; restarted children too.
    """
    diary: list[str] = []
    async with trio.open_nursery() as nursery:
        children = [Scripted(name, diary, clean_up=5, crashes=[1]) for name in "abc"]
        await start(nursery, *(child.spec() for child in children))
        await trio.sleep(5)
        diary.clear()
        nursery.cancel_scope.cancel()
    assert diary == ["c stops", "b stops", "a stops"]


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


async def test_a_child_that_is_parked_before_it_has_begun_does_not_begin(nursery, autojump_clock):
    """
    As an operator may, of one that was started on demand a moment ago; resumed, it lives its first life.
    """
    lives = []

    async def live(task_status):
        lives.append(trio.current_time())
        task_status.started()
        await trio.sleep_forever()

    supervisor, _ = await start(nursery)
    supervisor.start_child_nowait(spec("early", live))
    assert await supervisor.park_child("early")
    await trio.sleep(100)
    assert (lives, states(supervisor)) == ([], {"early": "parked"})
    assert supervisor.resume_child("early")
    await trio.sleep(1)
    assert (len(lives), states(supervisor)) == (1, {"early": "running"})


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
