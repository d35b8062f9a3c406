"""The registry: actors on demand, and no message lost between one life of an actor and the next."""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.errors import ActorStoppedError, MailboxFullError, ParkedError
from engine.runtime.mailbox import Mailbox, Reply
from engine.runtime.registry import Registry
from engine.runtime.supervisor import (
    ChildEvent,
    Restart,
    RestartPolicy,
    Strategy,
    Supervisor,
    SupervisorEvent,
)

POLICY = RestartPolicy(
    restart=Restart.PERMANENT,
    max_restarts=2,
    within=100,
    backoff_first=1,
    backoff_cap=5,
    backoff_jitter=0,
    grace=10,
    cool_down=1000,
)
IDLE = 30
Listener = Callable[[SupervisorEvent], None]


@pytest.fixture(autouse=True)
def _quiet():
    """
    The tracebacks of all these crashes would take longer to print than the tests to run.
    """
    with capture_logs():
        yield


class Bug(Exception):  # noqa: N818
    """
    The crash that a message asks for.
    """


@attrs.frozen
class Say:
    """
    A word to write down; "crash" is not written, it crashes.
    """

    word: str
    reply: Reply[str] | None = None


@attrs.define(eq=False)
class Stage:
    """
    What all lives of all actors of a test share: what they were told, and how the test meddles with them.
    """

    heard: list[tuple[str, str]] = attrs.field(factory=list)
    lives: int = 0
    needed: bool = False
    before_ready: Callable[[], Any] = trio.lowlevel.checkpoint
    before_end: Callable[[], Any] = trio.lowlevel.checkpoint


@attrs.define(eq=False)
class Scribe:
    """
    An actor that writes down what it hears until nobody needs it.
    """

    key: str
    mailbox: Mailbox[Say]
    stage: Stage

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        self.stage.lives += 1
        await self.stage.before_ready()
        task_status.started()
        while True:
            message = await self.mailbox.receive_or_idle()
            if message is not None:
                self._hear(message)
            elif not self.stage.needed:
                break
        await self.stage.before_end()

    def _hear(self, message: Say) -> None:
        if message.word == "crash":
            raise Bug
        self.stage.heard.append((self.key, message.word))
        if message.reply is not None:
            message.reply.set(f"{self.key} heard {message.word}")


async def start(
    nursery: trio.Nursery, stage: Stage, *, capacity: int = 10, on_event: Listener | None = None
) -> Registry[str, Say]:
    supervisor = Supervisor("scribes", strategy=Strategy.ONE_FOR_ONE, on_event=on_event)
    await nursery.start(supervisor.run)
    return Registry(
        supervisor,
        kind="scribe",
        policy=POLICY,
        capacity=capacity,
        idle=IDLE,
        start=lambda key, mailbox: Scribe(key, mailbox, stage),
    )


def say(word: str) -> Callable[[Reply[str]], Say]:
    return lambda reply: Say(word, reply)


async def test_the_first_message_starts_the_actor_and_waits_for_it(nursery):
    """
    Who tells need not know whether the actor runs, nor wait until it does.
    """
    may_begin = trio.Event()
    stage = Stage(before_ready=may_begin.wait)
    registry = await start(nursery, stage)
    assert not registry.tell_running_nowait("a", Say("to nobody"))
    registry.tell_nowait("a", Say("hello"))
    await registry.tell("a", Say("again"))
    assert registry.tell_running_nowait("a", Say("and again"))
    await wait_all_tasks_blocked()
    assert (stage.heard, stage.lives) == ([], 1)
    may_begin.set()
    await wait_all_tasks_blocked()
    assert stage.heard == [("a", "hello"), ("a", "again"), ("a", "and again")]
    assert await registry.ask("b", say("hi")) == "b heard hi"
    assert registry.keys() == ("a", "b")


async def test_every_actor_has_a_mailbox_of_its_own_size(nursery):
    """
    One that does not keep up is full by itself; the others take messages.
    """
    registry = await start(nursery, Stage(before_ready=trio.sleep_forever), capacity=1)
    registry.tell_nowait("slow", Say("1"))
    with pytest.raises(MailboxFullError, match="scribe/slow"):
        registry.tell_nowait("slow", Say("2"))
    with pytest.raises(MailboxFullError):
        registry.tell_running_nowait("slow", Say("2"))
    registry.tell_nowait("other", Say("1"))
    assert (registry.statistics().actors, registry.statistics().depth) == (2, 2)


async def test_an_actor_nobody_needs_passivates_after_the_idle_time(nursery, autojump_clock):
    """
    As long as it says that it is needed it stays; then it is gone, and comes back with the next message.
    """
    stage = Stage(needed=True)
    registry = await start(nursery, stage)
    registry.tell_nowait("a", Say("hello"))
    await trio.sleep(10 * IDLE)
    assert registry.keys() == ("a",)
    stage.needed = False
    await trio.sleep(2 * IDLE)
    assert registry.keys() == ()
    assert registry.supervisor.children() == []
    assert await registry.ask("a", say("back")) == "a heard back"
    assert stage.lives == 2
    assert (registry.statistics().started_total, registry.statistics().passivated_total) == (2, 1)


async def test_a_message_that_comes_while_the_actor_ends_starts_it_again(nursery, autojump_clock):
    """
    Told, asked or told only if running: what the mailbox has taken is handled by the next life.
    """
    ending, may_end = trio.Event(), trio.Event()

    async def end_slowly() -> None:
        ending.set()
        await may_end.wait()

    stage = Stage(before_end=end_slowly)
    registry = await start(nursery, stage)
    registry.tell_nowait("a", Say("first"))
    await ending.wait()
    registry.tell_nowait("a", Say("told"))
    assert registry.tell_running_nowait("a", Say("told if running"))
    answers: list[str] = []

    async def asker() -> None:
        answers.append(await registry.ask("a", say("asked")))

    nursery.start_soon(asker)
    await wait_all_tasks_blocked()
    may_end.set()
    await wait_all_tasks_blocked()
    assert [word for _, word in stage.heard] == ["first", "told", "told if running", "asked"]
    assert (answers, stage.lives) == (["a heard asked"], 2)


async def test_a_message_told_as_the_actors_last_act_starts_it_again(nursery, autojump_clock):
    """
    There is no moment between the last checkpoint of an actor and its end in which a message is lost.
    """

    async def tell_myself() -> None:
        if stage.lives == 1:
            registry.tell_nowait("a", Say("last act"))

    stage = Stage(before_end=tell_myself)
    registry = await start(nursery, stage)
    registry.tell_nowait("a", Say("first"))
    await trio.sleep(10 * IDLE)
    assert [word for _, word in stage.heard] == ["first", "last act"]
    assert registry.keys() == ()


async def test_a_message_told_as_soon_as_the_actor_is_gone_starts_a_new_one(nursery, autojump_clock):
    """
    Nor is there one between its end and the supervisor's forgetting it.
    """

    def listen(event: SupervisorEvent) -> None:
        if event.what is ChildEvent.GONE and stage.lives == 1:
            registry.tell_nowait("a", Say("at once"))

    stage = Stage()
    registry = await start(nursery, stage, on_event=listen)
    registry.tell_nowait("a", Say("first"))
    await trio.sleep(10 * IDLE)
    assert [word for _, word in stage.heard] == ["first", "at once"]
    assert registry.keys() == ()


async def test_after_a_crash_the_unread_messages_are_still_there(nursery, autojump_clock):
    """
    Only the message being handled is lost: it may be the one that crashes. Its asker hears of it at once.
    """
    stage = Stage()
    registry = await start(nursery, stage)
    failed_at: list[float] = []

    async def asker() -> None:
        with pytest.raises(ActorStoppedError):
            await registry.ask("a", say("crash"))
        failed_at.append(trio.current_time())

    registry.tell_nowait("a", Say("before"))
    nursery.start_soon(asker)
    nursery.start_soon(registry.tell, "a", Say("after"))
    await trio.sleep(5)
    assert sorted(word for _, word in stage.heard) == ["after", "before"]
    assert failed_at == [0]
    assert stage.lives == 2


async def test_a_parked_actor_refuses_at_once_and_keeps_what_it_was_told(nursery, autojump_clock):
    """
    Asks fail instead of waiting for the cool-down; other messages are handled after it.
    """
    stage = Stage()
    registry = await start(nursery, stage)
    for _ in range(3):
        registry.tell_nowait("a", Say("crash"))
    registry.tell_nowait("a", Say("kept"))
    asked = trio.Event()

    async def asker() -> None:
        with pytest.raises(ParkedError, match="scribe/a crashed too often"):
            await registry.ask("a", say("unread"))
        asked.set()

    nursery.start_soon(asker)
    await trio.sleep(10)
    assert asked.is_set()
    assert registry.statistics().parked == 1
    with pytest.raises(ParkedError):
        await registry.ask("a", say("refused"))
    with pytest.raises(ParkedError):
        registry.tell_nowait("a", Say("refused"))
    assert not registry.tell_running_nowait("a", Say("refused"))
    assert await registry.ask("b", say("hi")) == "b heard hi"
    await trio.sleep(1000)
    assert stage.heard == [("b", "hi"), ("a", "kept")]
    assert await registry.ask("a", say("welcome back")) == "a heard welcome back"


async def test_stopping_the_supervisor_fails_who_waits(nursery):
    """
    Nobody waits for an actor that will not come back, and nobody starts one.
    """
    stage = Stage(before_ready=trio.sleep_forever)
    registry = await start(nursery, stage, capacity=1)
    stopped: list[str] = []

    async def expect_stop(name: str, act: Callable[[], Any]) -> None:
        with pytest.raises(ActorStoppedError):
            await act()
        stopped.append(name)

    nursery.start_soon(expect_stop, "asker", lambda: registry.ask("a", say("unread")))
    await wait_all_tasks_blocked()
    nursery.start_soon(expect_stop, "teller", lambda: registry.tell("a", Say("no room")))
    await wait_all_tasks_blocked()
    await registry.supervisor.stop()
    await wait_all_tasks_blocked()
    assert sorted(stopped) == ["asker", "teller"]
    assert registry.keys() == ()
    with pytest.raises(ActorStoppedError, match="does not run"):
        registry.tell_nowait("a", Say("late"))


async def test_an_actor_that_leaves_its_messages_unread_is_parked_not_spun(nursery, autojump_clock):
    """
    To return without reading is a bug; it gets the backoff of one instead of all the CPU.
    """
    lives = 0

    class Lazy:
        async def run(self, task_status: trio.TaskStatus[None]) -> None:
            nonlocal lives
            lives += 1
            task_status.started()

    supervisor = Supervisor("lazies", strategy=Strategy.ONE_FOR_ONE, on_event=None)
    await nursery.start(supervisor.run)
    registry: Registry[str, Say] = Registry(
        supervisor, kind="lazy", policy=POLICY, capacity=1, idle=IDLE, start=lambda key, mailbox: Lazy()
    )
    registry.tell_nowait("a", Say("unread"))
    await trio.sleep(100)
    assert lives == 3
    assert registry.statistics().parked == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "ask", "tell if running", "wait", "crash"]),
        st.sampled_from(["a", "b"]),
        # Around the idle time, where actors are just ending, and the clean-up time.
        st.sampled_from([0, 1, IDLE - 1, IDLE, IDLE + 1, IDLE + 2]),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_whatever_happens_when_every_message_is_heard_once_and_in_order(steps):
    """
    Actors passivate, end slowly and crash in between: what was taken is heard, but for what crashes.
    """

    async def main() -> None:
        stage = Stage(before_end=partial(trio.sleep, 1))
        told: dict[str, list[str]] = {"a": [], "b": []}
        unanswered: set[str] = set()

        async def asker(key: str, word: str) -> None:
            unanswered.add(word)
            assert await registry.ask(key, say(word)) == f"{key} heard {word}"
            unanswered.discard(word)

        async with trio.open_nursery() as nursery:
            registry = await start(nursery, stage, capacity=100)
            # Crashes are to be survived here, not to be parked for.
            registry.policy = attrs.evolve(registry.policy, max_restarts=1000)
            for number, (what, key, delay) in enumerate(steps):
                word = str(number)
                if what == "wait":
                    await trio.sleep(delay)
                elif what == "crash":
                    registry.tell_nowait(key, Say("crash"))
                elif what == "ask":
                    # Starting tasks run in no certain order: this one shall have told before the next step.
                    nursery.start_soon(asker, key, word)
                    await wait_all_tasks_blocked()
                    told[key].append(word)
                elif what == "tell":
                    registry.tell_nowait(key, Say(word))
                    told[key].append(word)
                elif registry.tell_running_nowait(key, Say(word)):
                    told[key].append(word)
            await trio.sleep(1000)
            assert registry.keys() == ()
            assert registry.supervisor.children() == []
            nursery.cancel_scope.cancel()
        assert unanswered == set()
        for key, words in told.items():
            assert [word for heard_by, word in stage.heard if heard_by == key] == words

    trio.run(main, clock=MockClock(autojump_threshold=0))
