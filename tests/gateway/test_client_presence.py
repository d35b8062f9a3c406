"""The Python client knows who is present where it is, and stays present over its connections."""

import random
from typing import Any

import pytest

from engine.runtime.backoff import Backoff
from gateway.client import ClosedError, Options, Presence, RefusedError, State, connect
from gateway.client import presence as client_presence
from tests.gateway.chaos_proxy import chaos
from tests.gateway.node_fixture import NOBODYS, RunningNode
from tests.gateway.scripted_node import scripted
from tests.patience import patience

QUICK = Options(backoff=Backoff(first=0.01, cap=0.05, jitter=1.0), chance=random.Random(3))
BOB = "bob@example.com"


def client_of(greenroom: RunningNode, user: str, url: str = "") -> Any:
    token = greenroom.token(user, "viewer", name=user.partition("@")[0].title())
    return connect(url or f"http://127.0.0.1:{greenroom.port}", token=token, options=QUICK)


async def shows(presence: Presence, *expected: str) -> None:
    """
    Wait until these are shown, each as "Name state".
    """
    with patience():
        seen = presence.version
        while sorted(f"{each.name} {each.state}" for each in presence.viewers) != sorted(expected):
            seen = await presence.wait_change(seen)


async def test_viewers_are_kept_up_to_date(greenroom: RunningNode) -> None:
    """
    Who joins sees everyone; who comes, changes and goes is told to the others.
    """
    episode = (await greenroom.create())["id"]
    async with client_of(greenroom, BOB) as bob:
        presence = await bob.join(episode)
        assert [(each.user, each.name) for each in presence.viewers] == [(BOB, "Bob")]
        async with client_of(greenroom, "carol@example.com") as carol:
            hers = await carol.join(episode, state="editing")
            await shows(hers, "Bob viewing", "Carol editing")
            await shows(presence, "Bob viewing", "Carol editing")
            assert (presence.total, presence.complete) == (2, True)
            await carol.set_state(episode, "idle")
            await shows(presence, "Bob viewing", "Carol idle")
            await carol.leave(episode)
            await shows(presence, "Bob viewing")
            with pytest.raises(ValueError, match="not joined"):
                carol.viewers(episode)
            with pytest.raises(ClosedError, match="left"), patience():
                await hers.wait_change(hers.version)
        assert bob.viewers(episode) == presence.viewers


async def test_a_client_that_comes_back_is_present_again_with_its_state(greenroom: RunningNode) -> None:
    """
    And knows again who is there, whoever came and went meanwhile.
    """
    episode = (await greenroom.create())["id"]
    async with (
        client_of(greenroom, "alice@example.com") as alice,
        chaos(greenroom.port) as proxy,
        client_of(greenroom, BOB, proxy.url) as bob,
    ):
        seen_by_alice = await alice.join(episode)
        presence = await bob.join(episode)
        await bob.set_state(episode, "editing")
        await shows(seen_by_alice, "Alice viewing", "Bob editing")
        proxy.refusing = True
        proxy.cut()
        await shows(seen_by_alice, "Alice viewing")
        await alice.set_state(episode, "idle")
        assert bob.state is State.STALE
        proxy.refusing = False
        await shows(seen_by_alice, "Alice idle", "Bob editing")
        await shows(presence, "Alice idle", "Bob editing")


async def test_a_wish_made_while_the_connection_is_down_is_fulfilled_on_the_next(
    greenroom: RunningNode,
) -> None:
    """
    Who joins, changes or leaves does not have to look at the state first.
    """
    episode = (await greenroom.create())["id"]
    async with chaos(greenroom.port) as proxy, client_of(greenroom, BOB, proxy.url) as bob:
        presence = await bob.join(episode)
        proxy.cut()
        with patience():
            await bob.wait_state(State.STALE)
            await bob.set_state(episode, "editing")
        await shows(presence, "Bob editing")
        proxy.cut()
        with patience():
            await bob.wait_state(State.STALE)
            await bob.leave(episode)
        async with client_of(greenroom, "carol@example.com") as carol:
            await shows(await carol.join(episode), "Carol viewing")


async def test_a_refused_wish_changes_nothing(greenroom: RunningNode) -> None:
    """
    Neither an episode that is not there nor a state that is none is wished again later.
    """
    episode = (await greenroom.create())["id"]
    async with client_of(greenroom, BOB) as bob:
        with pytest.raises(RefusedError) as refused:
            await bob.join(NOBODYS)
        assert refused.value.code == "not_found"
        with pytest.raises(ValueError, match="not joined"):
            bob.viewers(NOBODYS)
        presence = await bob.join(episode)
        with pytest.raises(RefusedError) as refused:
            await bob.set_state(episode, "asleep")
        assert refused.value.code == "bad_state"
        assert presence.state == "viewing"


async def test_an_episode_that_is_closed_to_a_returning_client_is_no_longer_shown(
    greenroom: RunningNode,
) -> None:
    """
    Whoever waits for changes is told why none will come.
    """
    async with scripted() as node, connect(node.url, token="t", options=QUICK) as client:
        node.answers["presence"] = [told(viewer("a"), viewer("b"))]
        presence = await client.join("e")
        node.refusals["presence"] = ["forbidden"]
        await node.close(1001)
        with pytest.raises(RefusedError) as refused, patience():
            await presence.wait_change(presence.version)
        assert refused.value.code == "forbidden"


def viewer(user: str, state: str = "viewing") -> dict[str, Any]:
    times = {"viewedAt": "2026-01-07T12:00:00.000Z", "lastActive": "2026-01-07T12:00:00.000Z"}
    return {"userId": user, "userName": user, "state": state, **times}


def told(*viewers: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"type": "presence", "topic": "episode:e", "resourceType": "episode", "resourceId": "e"}
    return {**base, "total": len(viewers), "joined": [], "left": [], "viewers": list(viewers), **more}


def page(*users: str, total: int, next_after: str | None = None) -> dict[str, Any]:
    return {"viewers": [viewer(user) for user in users], "total": total, "next_after": next_after}


def diff(*joined: str, total: int, left: tuple[str, ...] = (), complete: bool = True) -> dict[str, Any]:
    come, gone = [viewer(user) for user in joined], [viewer(user) for user in left]
    frame = told(total=total, joined=come, left=gone, complete=complete)
    del frame["viewers"]
    return frame


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Lists are asked for soon.
    """
    monkeypatch.setattr(client_presence, "LIST_AGAIN", Backoff(first=0.05, cap=1.0, jitter=0))


async def test_a_crowd_of_which_a_part_is_told_is_asked_for_page_by_page(hasty: None) -> None:
    """
    The total is right at once, the list after the client has asked for it; what is told meanwhile counts.
    """
    async with scripted() as node, connect(node.url, token="t", options=QUICK) as client:
        node.answers["presence"] = [told(viewer("a"))]
        presence = await client.join("e")
        assert presence.complete
        node.replies["viewers"] = [page("a", "b", total=4, next_after="b"), page("c", "d", total=4)]
        node.answers["viewers"] = [diff("e", total=4, left=("a",))]
        await node.send(*[diff("b", total=4, complete=False)] * 3)
        seen = presence.version
        while presence.total != 4:
            seen = await presence.wait_change(seen)
        assert not presence.complete
        await shows(presence, *(f"{user} viewing" for user in "bcde"))
        assert (presence.total, presence.complete) == (4, True)
        asked = await node.wait_received("viewers", 2)
        assert [message["after"] for message in asked] == ["", "b"]
        node.answers["viewers"] = []
        await node.send(diff("f", total=5))
        await shows(presence, *(f"{user} viewing" for user in "bcdef"))
        assert presence.complete
        assert len(await node.wait_received("viewers", 2)) == 2


async def test_diffs_that_do_not_add_up_are_noticed(hasty: None) -> None:
    """
    A list of another length than the total is not believed; nor one in which something was left out before,
    nor one after a frame that was conflated away.
    """
    async with scripted() as node, connect(node.url, token="t", options=QUICK) as client:
        node.answers["presence"] = [told(viewer("a"))]
        presence = await client.join("e")
        node.replies["viewers"] = [page("b", "c", total=2)]
        await node.send(diff("b", total=4))
        await shows(presence, "b viewing", "c viewing")
        node.replies["viewers"] = [page("x", "y", total=2)]
        await node.send(diff(total=2, complete=False), diff(total=2))
        await shows(presence, "x viewing", "y viewing")
        node.replies["viewers"] = [page("z", total=1)]
        await node.send({**diff(total=2), "version": 7}, {**diff(total=2), "version": 8})
        await client.ping()
        assert presence.complete
        await node.send({**diff(total=2), "version": 10})
        await shows(presence, "z viewing")


async def test_a_client_that_is_present_gives_signs_of_life() -> None:
    """
    Whoever sends nothing is shown as not active after a while.
    """
    async with scripted() as node:
        options = Options(backoff=QUICK.backoff, ping_interval=0.02)
        async with connect(node.url, token="t", options=options):
            await node.wait_received("ping", 3)
