"""Actors restarted, parked and resumed by an operator: nobody is disconnected, nothing is missed."""

from engine.hookspecs import hookimpl
from gateway.rest import engine
from tests.gateway.node_fixture import until

OPERATOR = {"role": "operator"}


async def do(node, what, name):
    return await node.request("POST", f"engine/actors/{what}", {"name": name}, **OPERATOR)


async def test_a_restarted_actor_lives_again_without_a_crash(greenroom):
    """
    The catalog's subscribers hear everything, before and after.
    """
    viewer = await greenroom.connect()
    answer = await do(greenroom, "restart", "catalog")
    assert (answer.status, answer.json["name"]) == (200, "catalog")
    assert answer.json["state"] in ("starting", "running")
    await greenroom.create()
    await greenroom.effects()
    assert [message["event"] for message in await viewer.pending()] == ["episode_created"]
    assert greenroom.node.root.crashed["catalog"] == 0


async def test_a_parked_plugin_waits_until_it_is_resumed(greenroom):
    """
    Its cursor stays; resumed, it handles what came meanwhile.
    """
    assert (await do(greenroom, "park", "audit")).json["state"] == "parked"
    await greenroom.create()
    await until(lambda: greenroom.node.effects["activity"].handled_total == 1)
    assert greenroom.node.effects["audit"].handled_total == 0
    assert (await do(greenroom, "restart", "plugins/activity")).status == 200
    answer = await do(greenroom, "resume", "audit")
    assert (answer.status, answer.json["state"]) == (200, "starting")
    await until(lambda: greenroom.node.effects["audit"].handled_total == 1)
    assert (await do(greenroom, "resume", "audit")).problem(409)["detail"] == (
        "audit runs: there is nothing to resume"
    )


async def test_a_parked_episode_says_so_and_comes_back(greenroom):
    """
    Who subscribes meanwhile is told why not; who did before misses nothing.
    """
    episode = await greenroom.create()
    viewer = await greenroom.subscriber(f"episode:{episode['id']}")
    name = f"episode/{episode['id']}"
    assert (await do(greenroom, "park", name)).json["state"] == "parked"
    other = await greenroom.connect("carol@example.com")
    refused = await other.ask(type="subscribe", topic=f"episode:{episode['id']}")
    assert "parked by an operator" in refused["message"]
    await greenroom.request("PATCH", f"episodes/{episode['id']}", {"title": "Two"})
    await do(greenroom, "resume", name)
    assert (await viewer.receive())["event"] == "episode_updated"


async def test_what_cannot_be_restarted_is_refused_with_the_reason(greenroom):
    """
    And names that are none, bodies that name nothing, people who are no operators.
    """
    for name in ("gateway", "plugins"):
        assert "by itself" in (await do(greenroom, "park", name)).problem(409)["detail"]
    assert "lists them" in (await do(greenroom, "restart", "nobody")).problem(404)["detail"]
    for body in ({}, {"name": 3}, {"name": "a", "more": 1}, []):
        (await greenroom.request("POST", "engine/actors/park", body, **OPERATOR)).problem(422)
    (await greenroom.request("POST", "engine/actors/park", {"name": "catalog"})).problem(403)
    (await greenroom.request("GET", "engine/actors")).problem(403)
    names = {
        one["name"] for one in (await greenroom.request("GET", "engine/actors", **OPERATOR)).json["data"]
    }
    assert {"catalog", "feed", "audit", "gateway"} <= names


class Broken:
    """
    Fails at every event.
    """

    @hookimpl
    async def on_event(self, event):
        raise RuntimeError("a bug")


async def test_a_quarantine_that_cannot_be_ended_is_answered_all_the_same(start_greenroom, monkeypatch):
    """
    The plugin's actor is parked besides: whoever resumes the plugin is told where to look.
    """
    monkeypatch.setattr(engine, "PATIENCE", 0.1)
    node = await start_greenroom(
        {"plugins.broken.failures_to_quarantine": 1, "plugins.enabled": []}, plugins={"broken": Broken()}
    )
    await node.create()
    actor = node.node.effects["broken"]
    await until(lambda: actor.quarantined_at is not None)
    await do(node, "park", "broken")
    problem = (await node.request("POST", "engine/plugins/broken/resume", **OPERATOR)).problem(503)
    assert "greenroom actor list" in problem["detail"]
    await do(node, "resume", "broken")
    await until(lambda: actor.failures == 1)
