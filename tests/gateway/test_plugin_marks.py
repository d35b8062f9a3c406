"""What plugins say of viewers is shown to whoever looks at the episode, and goes when it is taken back."""

import pytest

from engine.domain.event import EpisodeId, UserId
from engine.errors import PluginError
from engine.hookspecs import hookimpl
from engine.marks import MOST, Marks
from tests.gateway.node_fixture import until


class Marker:
    """
    Marks whom it is told to.
    """

    @hookimpl
    async def call(self, engine, identity, args):
        await engine.mark(args["episode"], identity.user, args["text"])


async def test_a_mark_is_shown_with_the_viewer_live_to_newcomers_and_over_rest(start_greenroom):
    """
    And it is taken back.
    """
    node = await start_greenroom(plugins={"marker": Marker()})
    episode = (await node.create())["id"]
    ann, bob = await node.connect("ann@example.com"), await node.connect("bob@example.com")
    for viewer in (ann, bob):
        await viewer.ask(type="presence", resourceType="episode", resourceId=episode, state="viewing")
    await ann.ask(type="call", name="marker.mark", args={"episode": episode, "text": "has the pen"})

    def marked(message):
        shown = [*message.get("joined", ()), *message.get("viewers", ())]
        return [one.get("marks") for one in shown if one["userId"] == "ann@example.com"]

    while marked(await bob.receive()) != [{"marker": "has the pen"}]:
        pass
    cem = await node.connect("cem@example.com")
    await cem.ask(type="presence", resourceType="episode", resourceId=episode, state="viewing")
    while marked(await cem.receive()) != [{"marker": "has the pen"}]:
        pass
    path = f"episodes/{episode}/presence"
    shown = {one["userId"]: one.get("marks") for one in (await node.request("GET", path)).json["data"]}
    assert shown == {
        "ann@example.com": {"marker": "has the pen"},
        "bob@example.com": None,
        "cem@example.com": None,
    }
    await ann.ask(type="call", name="marker.mark", args={"episode": episode, "text": None})
    while marked(await bob.receive()) != [None]:
        pass


async def test_marks_survive_a_crash_of_the_episode_s_actor(start_greenroom):
    """
    They are no actor's.
    """
    node = await start_greenroom(plugins={"marker": Marker()})
    node.may_log_tracebacks = True
    episode = (await node.create())["id"]
    ann = await node.connect("ann@example.com")
    await ann.ask(type="presence", resourceType="episode", resourceId=episode, state="viewing")
    await ann.ask(type="call", name="marker.mark", args={"episode": episode, "text": "here"})
    node.node.crash_episodes()
    actors = node.node.episode_supervisor.children
    await until(lambda: [(child.restarts, child.state.value) for child in actors()] == [(1, "running")])
    told = [message["viewers"] for message in await ann.pending() if message.get("viewers")]
    # The next life tells everyone anew.
    assert told[-1][0].get("marks") == {"marker": "here"}


def test_marks_are_bounded_and_short():
    """
    Text of a plugin's reaches every screen.
    """
    marks = Marks()
    for text in ("", "x" * 201, "two\nlines"):
        with pytest.raises(PluginError, match="1 to 200 printable characters"):
            marks.put("p", EpisodeId("e"), UserId("u"), text)
    for number in range(MOST):
        marks.put("p", EpisodeId("e"), UserId(str(number)), "here")
    with pytest.raises(PluginError, match="take marks back"):
        marks.put("p", EpisodeId("e"), UserId("one more"), "here")
    marks.put("p", EpisodeId("e"), UserId("0"), None)
    marks.put("p", EpisodeId("e"), UserId("one more"), "here")
