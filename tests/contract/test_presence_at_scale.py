"""Hundreds of viewers of one episode who come, go, reload and change: all end up knowing who is there."""

import json
import random
from collections import deque
from datetime import UTC, datetime, timedelta

import attrs
import pytest
import trio
import trio.testing

from engine.actors import episode as module
from engine.actors.episode import (
    Crash,
    EpisodeActor,
    Heartbeat,
    InjectedCrashError,
    Join,
    Leave,
    PresenceTimes,
    presence_topic,
)
from engine.actors.messages import Channels, PresenceUpdate
from engine.actors.topic_log import TopicLog
from engine.domain.event import EpisodeId, Epoch, Offset, UserId, episode_topic
from engine.domain.presence import Meta, Presence, SessionId, page
from engine.runtime.mailbox import Mailbox, Reply

EPISODE = EpisodeId("pilot")
THERE = presence_topic(episode_topic(EPISODE))
BEGAN = datetime(2026, 1, 7, tzinfo=UTC)
TICK, GRACE, ACTIVE_FOR = 0.1, 0.5, 8.0


def now():
    """
    The time of day, by the test's clock.
    """
    return BEGAN + timedelta(seconds=trio.current_time())


class Words:
    """
    Presence as JSON, as large as on the wire.
    """

    def encode(self, message):
        assert isinstance(message, PresenceUpdate)
        viewers = message.viewers
        shown = {
            "total": message.total,
            "names": message.names,
            "complete": message.complete,
            "joined": [viewer.to_json(EPISODE) for viewer in message.joined],
            "left": [viewer.to_json(EPISODE) for viewer in message.left],
            "viewers": None if viewers is None else [viewer.to_json(EPISODE) for viewer in viewers],
        }
        return json.dumps(shown).encode()


WORDS = Words()


@attrs.define(eq=False)
class Screen:
    """
    One session, and what its screen shows: it knows nothing but its frames.
    """

    session: SessionId
    user: UserId
    state: str
    joined_at: datetime
    total: int = 0
    names: list = attrs.field(factory=list)
    # By user; not to be trusted before it was asked for, if a frame was not complete.
    viewers: dict = attrs.field(factory=dict)
    complete: bool = True
    # When a frame came that it had not asked for, and how large each was.
    at: list = attrs.field(factory=list)
    sizes: list = attrs.field(factory=list)
    asked: bool = False

    def push(self, data):
        frame = json.loads(data)
        self.sizes.append(len(data))
        if not self.asked:
            self.at.append(trio.current_time())
        self.total, self.names = frame["total"], frame["names"]
        if frame["viewers"] is not None:
            self.viewers, self.complete = {}, True
        self.complete = self.complete and frame["complete"]
        for viewer in (*(frame["viewers"] or ()), *frame["joined"]):
            self.viewers[viewer["userId"]] = (viewer["userName"], viewer["state"], viewer["isActive"])
        for viewer in frame["left"]:
            self.viewers.pop(viewer["userId"], None)
        return True

    def meta(self):
        return Meta(
            user=self.user,
            name=self.user.upper(),
            state=self.state,
            joined_at=self.joined_at,
            active_at=now(),
        )


@attrs.define(eq=False, kw_only=True)
class Crowd:
    """
    One episode's actor, its crashes, and those who are there.
    """

    nursery: trio.Nursery
    grace: float = GRACE
    hub: Channels = attrs.field(factory=Channels)
    mailbox: Mailbox = attrs.field(factory=lambda: Mailbox(10_000))
    here: dict = attrs.field(factory=dict)
    crashes: list = attrs.field(factory=list)
    actor: EpisodeActor | None = None
    _count: int = 0

    async def start(self):
        """
        Begin a life of the actor.
        """
        self.actor = EpisodeActor(
            id=EPISODE,
            mailbox=self.mailbox,
            hub=self.hub,
            log=TopicLog(
                topic=episode_topic(EPISODE),
                epoch=Epoch("epoch"),
                hub=self.hub,
                log=None,
                head=self._head,
                snapshot=None,
                replay_limit=10,
                replay_size=10_000,
                ring=deque(maxlen=10),
            ),
            presence=Presence(active_for=timedelta(seconds=ACTIVE_FOR)),
            times=PresenceTimes(
                tick=TICK, reload_grace=self.grace, silence=ACTIVE_FOR / 4, position_check=3600
            ),
            on_presence=self,
        )
        await self.nursery.start(self._live)

    async def _live(self, task_status):
        try:
            await self.actor.run(task_status)
        except InjectedCrashError:
            self.crashes.append(trio.current_time())

    async def _head(self):
        await trio.lowlevel.checkpoint()
        return Offset(0)

    def changed(self, episode, present, gone):
        pass

    def began(self, episode, viewers):
        pass

    def join(self, user, state="viewing"):
        """
        A new tab.
        """
        self._count += 1
        screen = Screen(SessionId(f"{self._count}"), UserId(user), state, now())
        self.here[screen.session] = screen
        self.tell(screen)
        return screen

    def tell(self, screen):
        """
        Say who is there with which state, as the gateway does.
        """
        meta = screen.meta()
        self.hub.track(THERE, screen.session, meta)
        outlet = Asking(screen)
        reply = Reply()
        self.mailbox.tell_nowait(
            Join(session=screen.session, meta=meta, outlet=outlet, format=WORDS, reply=reply)
        )

    def leave(self, screen):
        """
        A tab is closed.
        """
        del self.here[screen.session]
        self.hub.drop_session(screen.session)
        self.mailbox.tell_nowait(Leave(screen.session, screen.user))

    async def crash(self):
        """
        The actor fails, and is there again a little later.
        """
        self.mailbox.tell_nowait(Crash())
        await trio.sleep(0.02)
        await self.start()

    def expected(self):
        """
        Who is there, from nothing but the tabs that are open.
        """
        strongest = {}
        for screen in self.here.values():
            order = ("idle", "viewing", "editing")
            before = strongest.get(screen.user, "idle")
            strongest[screen.user] = max(before, screen.state, key=order.index)
        return {user: (user.upper(), state, state != "idle") for user, state in strongest.items()}

    def listed(self):
        """
        The list that a client is answered, page by page.
        """
        found, after = {}, ""
        while True:
            shown = page(
                self.hub.metas(THERE),
                now=now(),
                active_for=timedelta(seconds=ACTIVE_FOR),
                after=after,
                limit=37,
            )
            for viewer in shown.viewers:
                found[viewer.user] = (viewer.name, viewer.state, viewer.is_active)
            if shown.next_after is None:
                assert shown.total == len(found)
                return found
            after = shown.next_after


@attrs.define(eq=False)
class Asking:
    """
    A screen's outlet: the first frame after a wish is its answer.
    """

    screen: Screen
    answered: bool = False

    def push(self, data):
        self.screen.asked, self.answered = not self.answered, True
        return self.screen.push(data)


@pytest.fixture
async def crowd(monkeypatch):
    """
    An actor by a clock that does not wait, whose episode nobody views yet.
    """
    monkeypatch.setattr(module, "utc_now", now)
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery=nursery)
        await crowd.start()
        yield crowd
        nursery.cancel_scope.cancel()


def most_in_a_second(times):
    """
    The most of them in any second.
    """
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 1 + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(
    ("seed", "size", "crashes"),
    [(1, 300, 0), (2, 300, 0.004), (3, 300, 0.01), (4, 15, 0), (5, 15, 0.01)],
)
async def test_every_screen_ends_up_showing_who_is_there(autojump_clock, crowd, seed, size, crashes):
    """
    A hundred changes a second among three hundred: few frames, of bounded size, and the right end.
    """
    chance = random.Random(seed)
    users = [f"user-{number:03}" for number in range(size * 2 // 3)]
    for _ in range(size):
        crowd.join(chance.choice(users))
    for _ in range(800):
        await trio.sleep(0.01)
        if chance.random() < crashes:
            await crowd.crash()
        screen = chance.choice(list(crowd.here.values()))
        match chance.choice(["join", "leave", "state", "reload"]):
            case "join":
                crowd.join(chance.choice(users), chance.choice(["viewing", "editing"]))
            case "leave":
                crowd.leave(screen)
            case "state":
                screen.state = chance.choice(["viewing", "editing", "idle"])
                crowd.tell(screen)
            case "reload":
                crowd.leave(screen)
                if chance.random() < 0.5:
                    await trio.sleep(GRACE * chance.random())
                crowd.join(screen.user, screen.state)
    # Everybody gives a sign of life; then nothing happens any more.
    for screen in crowd.here.values():
        meta = screen.meta()
        crowd.hub.track(THERE, screen.session, meta)
        crowd.mailbox.tell_nowait(Heartbeat(screen.session, meta))
    await trio.sleep(GRACE + ACTIVE_FOR / 4 + 2 * TICK)
    expected = crowd.expected()
    assert crowd.listed() == expected
    newcomer = Screen(SessionId("new"), UserId("new"), "viewing", now())
    newcomer.push(WORDS.encode(crowd.actor._everyone()))
    assert newcomer.total == len(expected) > size / 4
    for screen in crowd.here.values():
        assert (screen.total, screen.names) == (newcomer.total, newcomer.names)
        if screen.complete:
            assert screen.viewers == expected
        # A new life tells everybody anew, whenever the one before has told them last.
        assert most_in_a_second(screen.at) <= 10 + most_in_a_second(crowd.crashes)
        assert max(screen.sizes) < 20_000
    if size < 20:
        assert all(screen.complete for screen in crowd.here.values())


async def test_a_reload_within_the_grace_is_no_news(autojump_clock, crowd):
    """
    The page is back before anybody was told that it had gone; who does not come back is told after that.
    """
    alice, _ = crowd.join("alice"), crowd.join("bob")
    await trio.sleep(1)
    heard = len(alice.at)
    bob = next(screen for screen in crowd.here.values() if screen.user == "bob")
    for _ in range(3):
        crowd.leave(bob)
        await trio.sleep(GRACE * 0.9)
        bob = crowd.join("bob")
        await trio.sleep(2 * GRACE)
    assert len(alice.at) == heard
    crowd.leave(bob)
    await trio.sleep(GRACE * 0.9)
    assert (len(alice.at), alice.total) == (heard, 2)
    await trio.sleep(GRACE * 0.1 + 2 * TICK)
    assert (len(alice.at), alice.total, set(alice.viewers)) == (heard + 1, 1, {"alice"})


async def test_who_leaves_and_comes_back_within_one_tick_may_have_lost_the_place_in_the_summary(
    autojump_clock, monkeypatch
):
    """
    The first two names are by the order of coming; a screen shows the same as one that has just come.
    """
    monkeypatch.setattr(module, "utc_now", now)
    async with trio.open_nursery() as nursery:
        crowd = Crowd(nursery=nursery, grace=0.0)
        await crowd.start()
        alice = crowd.join("alice")
        for user in ("bob", "carol"):
            await trio.sleep(1)
            crowd.join(user)
        await trio.sleep(1)
        bob = next(screen for screen in crowd.here.values() if screen.user == "bob")
        crowd.leave(bob)
        await trio.sleep(TICK / 10)
        crowd.join("bob")
        await trio.sleep(1)
        assert alice.names == ["ALICE", "CAROL"]
        late = crowd.join("late")
        await trio.sleep(1)
        assert alice.names == late.names == ["ALICE", "CAROL"]
        nursery.cancel_scope.cancel()


async def test_who_is_silent_for_long_is_shown_as_not_active_until_the_next_sign_of_life(
    autojump_clock, crowd
):
    """
    Told within a quarter of the time, to everybody, once.
    """
    alice, bob = crowd.join("alice"), crowd.join("bob")
    await trio.sleep(1)
    heard = len(alice.at)
    for _ in range(8):
        await trio.sleep(ACTIVE_FOR / 4)
        meta = alice.meta()
        crowd.hub.track(THERE, alice.session, meta)
        crowd.mailbox.tell_nowait(Heartbeat(alice.session, meta))
    await trio.sleep(1)
    assert alice.viewers["bob"] == bob.viewers["bob"] == ("BOB", "viewing", False)
    assert alice.viewers["alice"] == ("ALICE", "viewing", True)
    assert len(alice.at) == heard + 1
    crowd.hub.track(THERE, bob.session, meta := bob.meta())
    crowd.mailbox.tell_nowait(Heartbeat(bob.session, meta))
    await trio.sleep(2 * TICK)
    assert alice.viewers["bob"] == ("BOB", "viewing", True)
    assert crowd.listed()["bob"] == ("BOB", "viewing", True)
    assert len(alice.at) == heard + 2
