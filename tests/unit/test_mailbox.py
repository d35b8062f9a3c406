"""The mailbox: order, bounds, and that nobody waits for an answer that cannot come."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from engine.errors import ActorStoppedError, MailboxFullError, ParkedError
from engine.runtime.mailbox import Mailbox, Reply, ask
from tests.patience import patience


@attrs.frozen
class Question:
    """
    A message that wants an answer.
    """

    text: str
    reply: Reply[str]


def question(text: str):
    return lambda reply: Question(text, reply)


async def test_a_full_mailbox_refuses_and_says_so():
    """
    Its bound is kept, and every refusal is counted.
    """
    mailbox: Mailbox[int] = Mailbox(2, name="episode/7")
    mailbox.tell_nowait(1)
    mailbox.tell_nowait(2)
    with pytest.raises(MailboxFullError, match="episode/7 is full: 2 messages"):
        mailbox.tell_nowait(3)
    assert mailbox.drain_nowait(10) == [1, 2]
    statistics = mailbox.statistics()
    assert (statistics.told_total, statistics.received_total, statistics.refused_total) == (2, 2, 1)
    assert (statistics.depth, statistics.high_water, statistics.oldest_age) == (0, 2, 0)


async def test_who_waits_for_room_is_not_overtaken(nursery):
    """
    Waiting tellers get in in their order, before anyone who comes later and does not wait.
    """
    mailbox: Mailbox[str] = Mailbox(1)
    mailbox.tell_nowait("first")
    for waiting in ("second", "third"):
        nursery.start_soon(mailbox.tell, waiting)
        await wait_all_tasks_blocked()
    assert await mailbox.receive() == "first"
    with pytest.raises(MailboxFullError):
        mailbox.tell_nowait("pushy")
    assert [await mailbox.receive(), await mailbox.receive()] == ["second", "third"]
    assert len(mailbox) == 0


async def test_a_tell_that_is_cancelled_told_nothing(nursery):
    """
    After a deadline the caller knows that its message will never be handled.
    """
    mailbox: Mailbox[str] = Mailbox(1)
    mailbox.tell_nowait("first")
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_blocked, scope)
        await mailbox.tell("late")
    assert scope.cancelled_caught
    assert mailbox.drain_nowait(10) == ["first"]
    assert len(mailbox) == 0


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_reader_that_is_cancelled_as_a_message_comes_does_not_lose_it(nursery, cancel_first):
    """
    The message is either received or still there.
    """
    mailbox: Mailbox[str] = Mailbox(1)
    received = []
    scope = trio.CancelScope()

    async def reader() -> None:
        with scope:
            received.append(await mailbox.receive())

    nursery.start_soon(reader)
    await wait_all_tasks_blocked()
    if cancel_first:
        scope.cancel()
    mailbox.tell_nowait("hello")
    scope.cancel()
    await wait_all_tasks_blocked()
    assert received == ([] if cancel_first else ["hello"])
    assert received + mailbox.drain_nowait(1) == ["hello"]


async def test_an_ask_brings_the_first_answer(nursery):
    """
    An answer is final: what the actor or a crash adds later does not change it.
    """
    mailbox: Mailbox[Question] = Mailbox(1)

    async def actor() -> None:
        message = await mailbox.receive()
        message.reply.set(message.text.upper())
        message.reply.set("second thoughts")
        message.reply.fail(ValueError("too late"))

    nursery.start_soon(actor)
    assert await ask(mailbox, question("hello")) == "HELLO"


async def test_an_actor_that_crashes_fails_every_reply_it_holds(nursery):
    """
    Also the one it received turns ago and kept, and one that came in a batch; what is unread stays.
    """
    mailbox: Mailbox[Question | str] = Mailbox(10)
    failed = []

    async def asker(text: str) -> None:
        with pytest.raises(ActorStoppedError, match="ended before it answered"):
            await ask(mailbox, question(text))
        failed.append(text)

    for text in ("kept", "current", "batched"):
        nursery.start_soon(asker, text)
        await wait_all_tasks_blocked()
    mailbox.tell_nowait("unread")
    with pytest.raises(ZeroDivisionError), mailbox.serving():
        await mailbox.receive()
        await mailbox.receive()
        mailbox.drain_nowait(1)
        raise ZeroDivisionError
    await wait_all_tasks_blocked()
    assert sorted(failed) == ["batched", "current", "kept"]
    assert await mailbox.receive() == "unread"


async def test_closing_fails_who_waits_and_returns_what_was_not_read(nursery):
    """
    Nobody hangs on a closed mailbox: askers, tellers waiting for room, the reader, newcomers.
    """
    mailbox: Mailbox[Question | str] = Mailbox(2)
    mailbox.tell_nowait("told")
    stopped = []

    async def expect_stop(name: str, act) -> None:
        with pytest.raises(ActorStoppedError, match="has stopped"):
            await act()
        stopped.append(name)

    nursery.start_soon(expect_stop, "asker", lambda: ask(mailbox, question("unread")))
    await wait_all_tasks_blocked()
    nursery.start_soon(expect_stop, "teller", lambda: mailbox.tell("waiting"))
    await wait_all_tasks_blocked()
    unread = mailbox.close()
    assert unread[0] == "told"
    assert [type(message) for message in unread] == [str, Question]
    await expect_stop("newcomer", lambda: mailbox.tell("late"))
    await expect_stop("reader", mailbox.receive)
    await wait_all_tasks_blocked()
    assert sorted(stopped) == ["asker", "newcomer", "reader", "teller"]
    assert mailbox.close() == []


async def test_closing_wakes_the_reader(nursery):
    """
    An actor that waits for its next message hears of the end.
    """
    mailbox: Mailbox[str] = Mailbox(1)
    woken = trio.Event()

    async def reader() -> None:
        with pytest.raises(ActorStoppedError):
            await mailbox.receive()
        woken.set()

    nursery.start_soon(reader)
    await wait_all_tasks_blocked()
    mailbox.close()
    with patience():
        await woken.wait()


async def test_a_refusing_mailbox_keeps_what_nobody_waits_for(nursery):
    """
    While an actor is parked asks fail at once; other messages wait for `accept`.
    """
    mailbox: Mailbox[Question | str] = Mailbox(3)
    mailbox.tell_nowait("kept")
    failed = trio.Event()

    async def asker() -> None:
        with pytest.raises(ParkedError):
            await ask(mailbox, question("unread"))
        failed.set()

    nursery.start_soon(asker)
    await wait_all_tasks_blocked()
    mailbox.refuse(lambda: ParkedError("parked"))
    await failed.wait()
    assert not mailbox.accepts
    with pytest.raises(ParkedError):
        mailbox.tell_nowait("refused")
    mailbox.accept()
    mailbox.tell_nowait("after")
    assert mailbox.drain_nowait(10) == ["kept", "after"]


async def test_an_ask_that_nobody_could_fail_is_a_bug():
    """
    A message that hides its Reply is caught where it is made, not by a hanging caller.
    """
    mailbox: Mailbox[tuple[Reply[str]]] = Mailbox(1)
    with pytest.raises(AssertionError, match="must carry its Reply"):
        await ask(mailbox, lambda reply: (reply,))
    assert len(mailbox) == 0


async def test_a_reply_nobody_remembers_is_not_kept_by_the_mailbox():
    """
    An actor that forgets to answer askers who have given up does not fill the memory.
    """
    mailbox: Mailbox[Question] = Mailbox(1)
    mailbox.tell_nowait(Question("forgotten", Reply()))
    message = await mailbox.receive()
    assert len(mailbox._in_hand) == 1
    del message
    assert len(mailbox._in_hand) == 0


async def test_idle_counts_from_the_last_message_whatever_deadlines_the_actor_has(autojump_clock):
    """
    An actor with a timer of its own gets idle as soon as one without.
    """
    mailbox: Mailbox[str] = Mailbox(1, idle=10)
    with mailbox.serving():
        await trio.sleep(4)
        mailbox.tell_nowait("hello")
        assert await mailbox.receive_or_idle() == "hello"
        began = trio.current_time()
        message: str | None = "none yet"
        while message is not None:
            with trio.move_on_after(3):
                message = await mailbox.receive_or_idle()
        assert trio.current_time() - began == pytest.approx(10)


async def test_a_message_that_waits_is_received_however_long_the_turn_before_took(autojump_clock):
    """
    Idle is about messages, not about a slow actor.
    """
    mailbox: Mailbox[str] = Mailbox(1, idle=10)
    with mailbox.serving():
        mailbox.tell_nowait("hello")
        await trio.sleep(60)
        assert mailbox.statistics().oldest_age == pytest.approx(60)
        assert await mailbox.receive_or_idle() == "hello"


async def test_a_mailbox_that_grows_lets_in_who_waits_and_one_that_shrinks_keeps_what_it_has():
    """
    A reload changes the size of a running actor's mailbox: nobody is overtaken, nothing is lost.
    """
    mailbox = Mailbox[int](1)
    mailbox.tell_nowait(1)
    async with trio.open_nursery() as nursery:
        for number in (2, 3, 4):
            nursery.start_soon(mailbox.tell, number)
            await wait_all_tasks_blocked()
        mailbox.resize(3)
        assert len(mailbox) == 3
        mailbox.resize(1)
        assert [await mailbox.receive() for _ in range(2)] == [1, 2]
        # Two were too many already: who waits is let in when there is room.
        assert mailbox.statistics().depth == 1
        with pytest.raises(MailboxFullError):
            mailbox.tell_nowait(5)
        assert [await mailbox.receive() for _ in range(2)] == [3, 4]
