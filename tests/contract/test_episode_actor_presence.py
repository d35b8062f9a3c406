"""The actor of one episode: who is there, who hears of it, and when nobody needs the actor any more."""

from functools import partial

import pytest
import trio

from engine.actors.episode import Crash, presence_topic
from engine.domain.event import UserId
from engine.errors import ActorStoppedError
from engine.runtime.child import Restart, RestartPolicy
from engine.runtime.mailbox import Reply
from engine.runtime.registry import Registry
from engine.runtime.supervisor import Supervisor
from tests.patience import patience

ALICE, BOB, EVE = UserId("alice"), UserId("bob"), UserId("eve")


@pytest.fixture
async def alice(stage, client):
    """
    Alice, who is there alone and has been told so.
    """
    await stage.start()
    alice = client("alice-1")
    await stage.join(alice, ALICE)
    await alice.wait(lambda it: len(it.presence) == 2)
    return alice


def joined(*users, total=None):
    users = list(users)
    return {"total": total or len(users), "joined": users, "left": [], "viewers": None}


def left(*users, total):
    return {"total": total, "joined": [], "left": list(users), "viewers": None}


async def test_whoever_joins_is_told_first_who_is_there_and_everyone_then_who_came(stage, alice, client):
    """
    The first answer has all viewers; after it come diffs only.
    """
    assert alice.presence[0] == {"total": 1, "joined": [], "left": [], "viewers": [ALICE]}
    bob = client("bob-1")
    await stage.join(bob, BOB)
    assert bob.presence == [{"total": 2, "joined": [], "left": [], "viewers": [ALICE, BOB]}]
    await alice.wait(lambda it: len(it.presence) == 3)
    assert alice.presence[1:] == [joined(ALICE), joined(BOB, total=2)]


async def test_comings_and_goings_of_one_moment_are_one_diff(stage, alice, client):
    """
    However many: one message to each; who came and went meanwhile is not in it.
    """
    bob, eve = client("bob-1"), client("eve-1")
    stage.tell(
        stage.joining(bob, BOB, reply=Reply()),
        stage.joining(eve, EVE, reply=Reply()),
        stage.leave(bob, BOB),
        stage.leave(alice, ALICE),
    )
    await eve.wait(lambda it: len(it.presence) == 2)
    assert eve.presence[1] == {"total": 1, "joined": [EVE], "left": [ALICE], "viewers": None}
    assert [(len(came), len(went)) for came, went in stage.diffs] == [(1, 0), (1, 1)]


async def test_a_second_session_of_a_viewer_is_silent_until_the_last_one_leaves(stage, alice, client):
    """
    Several sessions of one user are one viewer.
    """
    again, bob = client("alice-2"), client("bob-1")
    await stage.join(again, ALICE)
    assert again.presence[0]["viewers"] == [ALICE]
    stage.tell(stage.leave(alice, ALICE))
    await stage.join(bob, BOB)
    await again.wait(lambda it: len(it.presence) == 2)
    assert again.presence[1] == joined(BOB, total=2)
    stage.tell(stage.leave(again, ALICE))
    await bob.wait(lambda it: len(it.presence) == 3)
    assert bob.presence[2] == left(ALICE, total=1)


async def test_a_changed_state_is_told(stage, alice):
    """
    From viewing to editing, as a diff of its own; staying as one is is not told.
    """
    await stage.join(alice, ALICE, "editing")
    await alice.wait(lambda it: len(it.presence) == 4)
    assert alice.presence[3] == joined(ALICE)
    assert [viewer.state for came, _ in stage.diffs for viewer in came] == ["viewing", "editing"]


async def test_changes_without_end_do_not_put_the_diff_off_without_end(stage, alice, client):
    """
    It is told a tick after the first change, however many follow.
    """
    bob = client("bob-1")
    with patience():
        while len(alice.presence) < 4:
            await stage.join(bob, BOB, "editing" if len(bob.presence) % 2 else "viewing")
    assert alice.presence[2] == joined(BOB, total=2)


async def test_presence_and_events_are_heard_apart(stage, alice, client):
    """
    One may watch without being seen, and be seen without hearing events.
    """
    watcher = client("watcher")
    await stage.subscribe(watcher)
    stage.tell(await stage.studio.update(stage.id))
    await watcher.wait(lambda it: it.offsets)
    bob = client("bob-1")
    await stage.join(bob, BOB)
    await alice.wait(lambda it: len(it.presence) == 3)
    assert (watcher.offsets, watcher.presence) == ([2], [])
    assert (alice.offsets, bob.offsets) == ([], [])


async def test_a_snapshot_has_the_viewers(stage, alice, client):
    """
    Whoever watches can show who else is there.
    """
    answer = await stage.subscribe(client("watcher"), snapshot=True)
    assert [viewer["userId"] for viewer in answer["snapshot"]["viewers"]] == [ALICE]


async def test_after_a_crash_everyone_is_told_everyone_once(stage, alice, client):
    """
    Who came and went during the crash is known from the hub; the diffs of the old life may be lost.
    """
    bob, eve = client("bob-1"), client("eve-1")
    await stage.join(bob, BOB)
    await alice.wait(lambda it: len(it.presence) == 3)
    await stage.crash(stage.leave(bob, BOB))
    await stage.start()
    assert stage.lives == [[], [ALICE]]
    everyone = {"total": 1, "joined": [], "left": [], "viewers": [ALICE]}
    assert alice.presence[3:] == [everyone]
    await stage.join(eve, EVE)
    await alice.wait(lambda it: len(it.presence) == 5)
    assert alice.presence[4] == joined(EVE, total=2)


async def test_whoever_joins_in_the_turn_that_crashes_is_told_to_ask_again(stage, alice, client):
    """
    Otherwise it would be seen, but hear of nobody.
    """
    bob, reply = client("bob-1"), Reply()
    stage.tell(Crash(), stage.joining(bob, BOB, reply=reply))
    with patience(), pytest.raises(ActorStoppedError):
        await reply.wait()
    await stage.start()
    await stage.join(bob, BOB)
    assert bob.presence[0]["viewers"] == [ALICE, BOB]
    stage.tell(stage.leave(alice, ALICE))
    await bob.wait(lambda it: it.presence[-1]["left"])
    assert bob.presence[-1] == left(ALICE, total=1)


async def test_a_client_that_is_gone_does_not_hear_who_is_there(stage, alice, client):
    """
    Its outlet refuses the first answer; its leaving comes separately.
    """
    gone = client("gone")
    gone.alive = False
    await stage.join(gone, BOB)
    assert stage.hub.subscribers(presence_topic(stage.created.topic)) == 1
    await alice.wait(lambda it: len(it.presence) == 3)
    stage.tell(stage.leave(gone, BOB))
    await alice.wait(lambda it: len(it.presence) == 4)
    assert alice.presence[2:] == [joined(BOB, total=2), left(BOB, total=1)]


# Passivation


async def test_an_actor_that_nobody_needs_ends(stage):
    """
    By itself, after the idle time.
    """
    stage.mailbox.idle = 0.05
    await stage.start()
    with patience():
        await stage.ended.wait()


@pytest.mark.parametrize("needs", ["subscribe", "join"])
async def test_an_actor_that_somebody_needs_lives_until_the_last_one_leaves(stage, client, needs):
    """
    Also when nothing happens for many times the idle time.
    """
    await stage.start()
    one = client("one")
    await (stage.subscribe(one) if needs == "subscribe" else stage.join(one, ALICE))
    stage.mailbox.idle = 0.02
    with trio.move_on_after(0.3):
        await stage.ended.wait()
    assert not stage.ended.is_set()
    stage.tell(stage.leave(one, ALICE))
    with patience():
        await stage.ended.wait()


async def test_between_two_lives_nobody_is_owed_anything_and_the_next_begins_at_now(stage, client):
    """
    The registry starts the actor for whoever comes; what happened while nobody listened is in the store.
    """
    policy = RestartPolicy(
        restart=Restart.TRANSIENT,
        max_restarts=3,
        within=10,
        backoff_first=0.01,
        backoff_cap=0.01,
        backoff_jitter=0,
        grace=5,
        cool_down=5,
    )
    supervisor = Supervisor("episodes")

    def start(key, mailbox):
        stage.mailbox = mailbox
        return stage.topics().episode(key, mailbox)

    registry = Registry(supervisor, kind="episode", policy=policy, capacity=16, idle=0.02, start=start)
    await stage.nursery.start(supervisor.run)
    first, second = client("first"), client("second")
    with patience():
        await registry.ask(stage.id, partial(wish, stage, first, None))
        stage.hub.drop_session(first.session)
        while registry.keys():  # noqa: ASYNC110 -- the registry tells nobody
            await trio.sleep(0.01)
        assert not registry.tell_running_nowait(stage.id, Crash())
        missed = await stage.studio.write(stage.id, 2)
        await registry.ask(stage.id, partial(wish, stage, second, 1))
    assert registry.statistics().started_total == 2
    assert second.ids == [event.id for event in missed]
    assert first.offsets == []


def wish(stage, client, since, reply):
    return stage.subscribing(client, since, reply=reply)
