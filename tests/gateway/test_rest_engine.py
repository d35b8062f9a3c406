"""The engine itself over REST: events, presence, the tree, plugins, health, metrics, pages."""

import trio

from engine.hookspecs import hookimpl
from gateway.protocol import NAMESPACE
from tests.gateway.node_fixture import NOBODYS, until_answer

OPERATORS = ("engine/tree", "engine/plugins", "engine/plugins/audit")


class Stumbling:
    """
    A plugin that fails until it is mended.
    """

    def __init__(self):
        self.mended = False
        self.seen = []

    @hookimpl
    async def on_event(self, event):
        if not self.mended:
            raise ValueError("no good")
        self.seen.append(event.data["episode"]["title"])


async def test_an_episodes_events_can_be_read_from_any_offset(greenroom):
    """
    As the frames that a WebSocket gets, with the position to go on from, and whether there is more.
    """
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    for title in ("Two", "Three", "Four"):
        await greenroom.request("PATCH", path, {"title": title})
    [(epoch,)] = greenroom.rows("select value from engine_meta where name = 'epoch'")

    everything = (await greenroom.request("GET", f"{path}/events", role="viewer")).json
    assert [event["offset"] for event in everything["data"]] == [1, 2, 3, 4]
    assert (everything["position"], everything["more"]) == ({"offset": 4, "epoch": epoch}, False)
    second = everything["data"][1]
    assert second == {
        "event": "episode_updated",
        "data": {
            "episode": {
                "id": episode["id"],
                "title": "Two",
                "episode_number": None,
                "status": "draft",
                "categories": [],
            },
            "changedFields": ["title"],
            "updatedBy": "alice@example.com",
            "timestamp": second["data"]["timestamp"],
        },
        "namespace": NAMESPACE,
        "broadcast": True,
        "id": second["id"],
        "topic": f"episode:{episode['id']}",
        "offset": 2,
        "epoch": epoch,
    }
    page = (await greenroom.request("GET", f"{path}/events?since=1&limit=2")).json
    assert page == {"data": everything["data"][1:3], "position": {"offset": 3, "epoch": epoch}, "more": True}
    beyond = (await greenroom.request("GET", f"{path}/events?since=99")).json
    assert beyond == {"data": [], "position": {"offset": 99, "epoch": epoch}, "more": False}
    for wrong in ("since=-1", "since=x", "since=" + "9" * 40, "limit=0", "from=1"):
        (await greenroom.request("GET", f"{path}/events?{wrong}")).problem(422)
    (await greenroom.request("GET", f"episodes/{NOBODYS}/events")).problem(404)


async def test_presence_is_who_is_there_now(greenroom):
    """
    Each viewer once, with the fields of wire.md's presence record.
    """
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}/presence"
    assert (await greenroom.request("GET", path)).json == {"data": [], "total": 0, "next_cursor": None}
    for _ in range(2):
        bob = await greenroom.connect("bob@example.com", name="Bob")
        await bob.ask(type="presence", resourceType="episode", resourceId=episode["id"], state="idle")
    answer = (await greenroom.request("GET", path, role="viewer")).json
    [viewer] = answer["data"]
    assert answer["total"] == 1
    assert viewer == {
        "id": viewer["id"],
        "userId": "bob@example.com",
        "userName": "Bob",
        "resourceType": "episode",
        "resourceId": episode["id"],
        "viewedAt": viewer["viewedAt"],
        "lastActive": viewer["lastActive"],
        "isActive": False,
        "state": "idle",
    }
    (await greenroom.request("GET", f"episodes/{NOBODYS}/presence")).problem(404)


async def test_the_engines_inside_is_for_operators(greenroom):
    """
    403 for everybody else.
    """
    for path in OPERATORS:
        for role in ("viewer", "editor"):
            (await greenroom.request("GET", path, role=role)).problem(403)
        assert (await greenroom.request("GET", path, role="operator")).status == 200
    (await greenroom.request("POST", "engine/plugins/audit/resume", role="editor")).problem(403)
    (await greenroom.request("GET", "engine/plugins/nobody", role="operator")).problem(404)
    (await greenroom.request("POST", "engine/plugins/nobody/resume", role="operator")).problem(404)


async def test_the_tree_shows_every_child_and_the_watched_episodes(greenroom):
    """
    Supervisors with their children, the plugins by name, an actor for an episode that is watched.
    """
    episode = await greenroom.create()
    await greenroom.subscriber(f"episode:{episode['id']}")
    tree = (await greenroom.request("GET", "engine/tree", role="operator")).json
    assert tree["node"] == "test-node"
    children = {child["name"]: child for child in tree["children"]}
    assert {"bell", "feed", "catalog", "presence", "episodes", "plugins", "gateway"} <= set(children)
    assert {child["state"] for child in tree["children"]} == {"running"}
    assert [child["name"] for child in children["episodes"]["children"]] == [f"episode/{episode['id']}"]
    assert [child["name"] for child in children["plugins"]["children"]] == [
        "activity",
        "notifications",
        "audit",
    ]
    assert tree["episodes"]["actors"] == 1
    assert tree["hub"]["sessions"] == 1


async def test_a_broken_plugin_is_quarantined_shown_and_resumed(start_greenroom):
    """
    Requests do not notice it; an operator sees what is wrong, resumes it, and it catches up in order.
    """
    plugin = Stumbling()
    quick = {
        "plugins.failures_to_quarantine": 2,
        "supervision.plugin.backoff_first": "1ms",
        "supervision.plugin.backoff_cap": "1ms",
    }
    greenroom = await start_greenroom(quick, plugins={"stumbling": plugin})

    async def shown():
        return await greenroom.request("GET", "engine/plugins/stumbling", role="operator")

    await greenroom.create("One")
    await until_answer(shown, lambda answer: answer.json["state"] == "quarantined")
    # Failures are kept a moment later.
    answer = await until_answer(shown, lambda answer: len(answer.json["failures"]) == 2)
    await greenroom.create("Two")
    state = answer.json
    assert (state["name"], state["failures_in_a_row"], state["failed_total"]) == ("stumbling", 2, 2)
    assert state["last_error"] == "ValueError: no good"
    assert "no good" in state["reason"]
    assert state["quarantined_at"] is not None
    assert [failure["attempt"] for failure in state["failures"]] == [2, 1]
    assert "raise ValueError" in state["failures"][0]["traceback"]
    assert [
        entry["name"]
        for entry in (await greenroom.request("GET", "engine/plugins", role="operator")).json["data"]
    ] == [
        *("activity", "notifications", "audit", "imports", "renders", "stumbling"),
    ]
    assert (await until_answer(shown, lambda answer: answer.json["lag"] == 2)).json["state"] == "quarantined"

    plugin.mended = True
    resumed = await greenroom.request("POST", "engine/plugins/stumbling/resume", role="operator")
    assert (resumed.status, resumed.json["state"]) == (200, "running")
    await until_answer(shown, lambda answer: answer.json["lag"] == 0)
    assert plugin.seen == ["One", "Two"]


async def test_health_and_metrics_need_no_token(greenroom):
    """
    A load balancer and Prometheus have none.
    """
    await greenroom.connect()
    healthy = await greenroom.request("GET", "/healthz", token="")
    assert (healthy.status, healthy.json) == (200, {"status": "ok"})
    ready = await greenroom.request("GET", "/readyz", token="")
    assert (ready.status, ready.json) == (200, {"status": "ready"})
    metrics = await greenroom.request("GET", "/metrics", token="")
    assert metrics.status == 200
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = metrics.body.decode().splitlines()
    assert "greenroom_sessions 1.0" in lines
    assert 'greenroom_plugin_quarantined{plugin="audit"} 0.0' in lines
    assert all(line.startswith(("# HELP greenroom_", "# TYPE greenroom_", "greenroom_")) for line in lines)


async def test_the_pages_load_nothing_from_elsewhere(greenroom):
    """
    The first page, the documentation and all that it names come from the node itself.
    """
    for path, kind in (
        ("/", "html"),
        ("/docs", "html"),
        ("/console/docs.js", "javascript"),
        ("/console/docs.css", "css"),
    ):
        page = await greenroom.request("GET", path, token="")
        assert page.status == 200
        assert kind in page.headers["content-type"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert b"http://" not in page.body
        assert b"https://" not in page.body
    assert b"/console/docs.js" in (await greenroom.request("GET", "/docs", token="")).body
    (await greenroom.request("GET", "/console/secret", token="")).problem(404)


async def test_every_answer_has_an_id_and_none_of_the_api_is_cached(greenroom):
    """
    The client's own id if it is sane, else one of the node's; it stands in events as the mutation's.
    """
    given = await greenroom.request("GET", "episodes", headers={"X-Request-Id": "abc/1.2:3-4"})
    assert given.headers["x-request-id"] == "abc/1.2:3-4"
    assert given.headers["cache-control"] == "no-store"
    for unfit in ("a b", "x" * 101, b"caf\xe9", "<script>"):
        answer = await greenroom.request("GET", "episodes", headers={"X-Request-Id": unfit})
        assert len(answer.headers["x-request-id"]) == 36


async def test_requests_are_answered_while_others_wait(greenroom):
    """
    Forty at once on a pool of ten: each gets its own answer.
    """
    episodes = [await greenroom.create(f"Episode {number}") for number in range(4)]
    read = []

    async def get(number):
        answer = await greenroom.request("GET", f"episodes/{episodes[number % 4]['id']}")
        read.append(answer.json == episodes[number % 4])

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(get, number)
    assert read == [True] * 40
