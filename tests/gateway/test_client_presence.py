"""The Python client knows who is present where it is, and stays present over its connections."""

import random
from typing import Any

import pytest
import trio

from engine.runtime.backoff import Backoff
from gateway import client_presence
from gateway.client import ClosedError, Options, Presence, RefusedError, State, connect
from tests.gateway.chaos_proxy import chaos
from tests.gateway.node_fixture import NOBODYS, SOON, RunningNode
from tests.gateway.scripted_node import scripted

QUICK = Options(backoff=Backoff(first=0.01, cap=0.05, jitter=1.0), chance=random.Random(3))
BOB = "bob@example.com"


def client_of(greenroom: RunningNode, user: str, url: str = "") -> Any:
    token = greenroom.token(user, "viewer", name=user.partition("@")[0].title())
    return connect(url or f"http://127.0.0.1:{greenroom.port}", token=token, options=QUICK)


async def shows(presence: Presence, *expected: str) -> None:
    """
    Wait until these are shown, each as "Name state".
    """
    with trio.fail_after(SOON):
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
            with pytest.raises(ClosedError, match="left"), trio.fail_after(SOON):
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
        with trio.fail_after(SOON):
            await bob.wait_state(State.STALE)
            await bob.set_state(episode, "editing")
        await shows(presence, "Bob editing")
        proxy.cut()
        with trio.fail_after(SOON):
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
        with pytest.raises(RefusedError) as refused, trio.fail_after(SOON):
            await presence.wait_change(presence.version)
        assert refused.value.code == "forbidden"


def viewer(user: str, state: str = "viewing") -> dict[str, Any]:
    times = {"viewedAt": "2026-01-07T12:00:00.000Z", "lastActive": "2026-01-07T12:00:00.000Z"}
    return {"userId": user, "userName": user, "state": state, **times}


def told(*viewers: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"type": "presence", "topic": "episode:e", "resourceType": "episode", "resourceId": "e"}
    return {**base, "total": len(viewers), "joined": [], "left": [], "viewers": list(viewers), **more}


async def test_a_crowd_that_is_told_as_a_number_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The total is right at once, the list after the client has asked for it; which it does not at each change.
    """
    monkeypatch.setattr(client_presence, "LIST_AGAIN", Backoff(first=0.05, cap=0.05, jitter=0))
    async with scripted() as node, connect(node.url, token="t", options=QUICK) as client:
        node.answers["presence"] = [told(viewer("a"))]
        presence = await client.join("e")
        assert presence.complete
        node.answers["presence"] = [told(viewer("a"), viewer("b"), viewer("c"))]
        crowd = told(total=3, complete=False)
        del crowd["viewers"]
        await node.send(crowd, crowd, crowd)
        with trio.fail_after(SOON):
            while presence.total != 3:
                await presence.wait_change(presence.version)
            assert not presence.complete
        await shows(presence, "a viewing", "b viewing", "c viewing")
        assert presence.complete
        assert len(await node.wait_received("presence", 2)) == 2


async def test_diffs_that_do_not_add_up_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A list of another length than the total is not believed.
    """
    monkeypatch.setattr(client_presence, "LIST_AGAIN", Backoff(first=0.01, cap=0.05, jitter=0))
    async with scripted() as node, connect(node.url, token="t", options=QUICK) as client:
        node.answers["presence"] = [told(viewer("a"))]
        presence = await client.join("e")
        node.answers["presence"] = [told(viewer("b"), viewer("c"))]
        diff = told(joined=[viewer("b")], total=4)
        del diff["viewers"]
        await node.send(diff)
        await shows(presence, "b viewing", "c viewing")
