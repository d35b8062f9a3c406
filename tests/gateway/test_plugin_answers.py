"""What plugins answer to clients, and what they are told in passing: on a running node, over real sockets."""

import trio

from engine.hookspecs import HttpResponse, Refused, hookimpl
from tests.gateway.node_fixture import until


class Clerk:
    """
    Answers calls and requests, well and badly.
    """

    def __init__(self):
        self.release = trio.Event()
        self.asked = []

    @hookimpl
    async def call(self, engine, identity, name, args):
        self.asked.append(name)
        match name:
            case "echo":
                return {"args": args, "who": identity.user, "plugin": engine.plugin}
            case "wait":
                await self.release.wait()
                return "waited"
            case "hang":
                await trio.sleep_forever()
            case "odd":
                return object()
            case "crash":
                raise RuntimeError("secret of the house")
        return Refused("unknown_call", f"clerk has no {name}")

    @hookimpl
    def http(self, request):
        match request.path:
            case "page":
                return HttpResponse(
                    body="<script>", headers={"content-type": "text/html", "set-cookie": "a=b"}
                )
            case "given":
                shown = {"query": request.query, "who": request.identity.user, "json": request.json()}
                return HttpResponse(status=201, body={**shown, "auth": "authorization" in request.headers})
            case "crash":
                raise RuntimeError("secret of the house")
            case "odd":
                return "neither"
        return None


async def test_a_client_s_call_is_answered_by_the_plugin_it_names(start_greenroom):
    """
    The name says which plugin and what; who asks is proved by the session, not told by the client.
    """
    node = await start_greenroom(plugins={"clerk": Clerk()})
    bob = await node.connect("bob@example.com")
    answer = await bob.ask(type="call", name="clerk.echo", args=[1, {"a": None}])
    assert answer == {
        "type": "ok",
        "result": {"args": [1, {"a": None}], "who": "bob@example.com", "plugin": "clerk"},
    }
    refused = await bob.ask(type="call", name="clerk.dance")
    assert (refused["type"], refused["code"], refused["message"]) == (
        "error",
        "unknown_call",
        "clerk has no dance",
    )
    for name in ("nobody.echo", "activity.echo", "echo", ""):
        assert (await bob.ask(type="call", name=name))["code"] == "unknown_call"


async def test_a_slow_answer_holds_up_nothing_else_of_its_session(start_greenroom):
    """
    Replies carry the ref: the later question may be answered first.
    """
    clerk = Clerk()
    node = await start_greenroom(plugins={"clerk": clerk})
    bob = await node.connect()
    await bob.send(type="call", name="clerk.wait", ref="slow")
    assert (await bob.ask(type="call", name="clerk.echo"))["type"] == "ok"
    assert (await bob.ask(type="subscribe", topic="catalog"))["type"] == "ok"
    clerk.release.set()
    while (reply := await bob.receive()).get("ref") != "slow":
        pass
    assert reply == {"type": "ok", "ref": "slow", "result": "waited"}


async def test_failures_are_told_as_values_and_tell_nothing_of_the_house(start_greenroom):
    """
    A crash, an answer that is no JSON, one over budget: an error with a code; the session goes on.
    """
    clerks = {"clerk": Clerk(), "hasty": Clerk()}
    node = await start_greenroom({"plugins.hasty.answer_budget": "50ms"}, plugins=clerks)
    node.may_log_tracebacks = True
    bob = await node.connect()
    failed = await bob.ask(type="call", name="clerk.crash")
    assert (failed["code"], "secret" in failed["message"]) == ("failed", False)
    assert (await bob.ask(type="call", name="clerk.odd"))["code"] == "failed"
    slow = await bob.ask(type="call", name="hasty.hang")
    assert slow["code"] == "too_slow"
    assert "budget of 0.05 s" in slow["message"]
    assert (await bob.ask(type="call", name="clerk.echo"))["type"] == "ok"


async def test_a_plugin_that_fails_too_often_is_given_a_rest(start_greenroom):
    """
    Its clients are told to try later, and it is not even asked.
    """
    clerk = Clerk()
    node = await start_greenroom({"plugins.clerk.failures_to_quarantine": 3}, plugins={"clerk": clerk})
    node.may_log_tracebacks = True
    bob = await node.connect()
    for _ in range(3):
        assert (await bob.ask(type="call", name="clerk.crash"))["code"] == "failed"
    assert (await bob.ask(type="call", name="clerk.echo"))["code"] == "try_later"
    assert clerk.asked == ["crash"] * 3


async def test_answers_under_way_are_bounded_per_plugin_and_per_session(start_greenroom):
    """
    Whoever asks for more is told so at once.
    """
    clerk = Clerk()
    node = await start_greenroom({"plugins.clerk.answers_at_once": 3}, plugins={"clerk": clerk})
    bob = await node.connect()
    for number in range(3):
        await bob.send(type="call", name="clerk.wait", ref=number)
    assert (await bob.ask(type="call", name="clerk.echo"))["code"] == "try_later"
    clerk.release.set()
    await until(lambda: node.node.plugin_tasks.answers.answered["clerk"] == 3)
    assert (await bob.ask(type="call", name="clerk.echo"))["type"] == "ok"


async def test_a_plugin_serves_http_under_its_own_path_only_to_whom_may(start_greenroom):
    """
    With token, role, problem+json and our headers, as every route; credentials are not handed on.
    """
    node = await start_greenroom(plugins={"clerk": Clerk()})
    answer = await node.request("POST", "x/clerk/given?a=1&a=2", {"b": 3})
    assert answer.status == 201
    assert answer.json == {"query": {"a": "1"}, "who": "alice@example.com", "json": {"b": 3}, "auth": False}
    page = await node.request("GET", "x/clerk/page", role="viewer")
    assert (page.body, page.headers["content-type"]) == (b"<script>", "text/html")
    assert page.headers["content-security-policy"] == "sandbox"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in page.headers
    (await node.request("GET", "x/clerk/page", token="")).problem(401)
    (await node.request("POST", "x/clerk/given", {}, role="viewer")).problem(403)
    (await node.request("GET", "x/clerk/elsewhere")).problem(404)
    (await node.request("GET", "x/nobody/page")).problem(404)
    (await node.request("GET", "x/activity/")).problem(404)


async def test_a_plugin_that_fails_over_http_is_named_and_tells_nothing(start_greenroom):
    """
    500 with the plugin's name; the reason is in the log.
    """
    node = await start_greenroom(plugins={"clerk": Clerk()})
    node.may_log_tracebacks = True
    crashed = (await node.request("GET", "x/clerk/crash")).problem(500)
    assert "clerk" in crashed["detail"]
    assert "secret" not in crashed["detail"]
    assert "no HttpResponse" in (await node.request("GET", "x/clerk/odd")).problem(500)["detail"]


class Watcher:
    """
    Remembers what it is told in passing, if it may.
    """

    def __init__(self):
        self.told = []
        self.may_hear = trio.Event()

    @hookimpl
    async def session_opened(self, session):
        self.told.append(("opened", session.identity.user))
        await self.may_hear.wait()

    @hookimpl
    def session_closed(self, session):
        self.told.append(("closed", session.identity.user))

    @hookimpl
    async def presence_changed(self, engine, change):
        present, gone = ([viewer.user for viewer in part] for part in (change.present, change.gone))
        self.told.append((change.episode, present, gone))


async def test_plugins_hear_who_comes_and_goes(start_greenroom):
    """
    Sessions and viewers, in the order in which it happened.
    """
    watcher = Watcher()
    watcher.may_hear.set()
    node = await start_greenroom(plugins={"watcher": watcher})
    episode = (await node.create())["id"]
    bob = await node.connect("bob@example.com")
    await bob.ask(type="presence", resourceType="episode", resourceId=episode, state="viewing")
    await until(lambda: (episode, ["bob@example.com"], []) in watcher.told)
    await bob.vanish()
    await until(lambda: (episode, [], ["bob@example.com"]) in watcher.told)
    await until(lambda: ("closed", "bob@example.com") in watcher.told)
    assert watcher.told[0] == ("opened", "bob@example.com")


async def test_what_a_slow_plugin_has_no_room_for_is_dropped_and_counted(start_greenroom):
    """
    Presence waits for no plugin; who hangs is cut off after the budget, and misses what came meanwhile.
    """
    watcher = Watcher()
    node = await start_greenroom(plugins={"watcher": watcher})
    actor = node.node.plugin_tasks.notices.actors["watcher"]
    actor.mailbox.resize(1)
    for _ in range(4):
        await node.connect("bob@example.com")
    assert actor.dropped_total == 2
    metrics = (await node.request("GET", "/metrics")).body.decode()
    assert 'greenroom_notices_dropped_total{plugin="watcher"} 2.0' in metrics
    watcher.may_hear.set()
    await until(lambda: actor.told_total == 2)


class Late:
    """
    Takes its time to prepare itself.
    """

    def __init__(self):
        self.ready = trio.Event()

    @hookimpl
    async def engine_started(self):
        await self.ready.wait()

    @hookimpl
    async def call(self):
        return self.ready.is_set()


async def test_a_plugin_is_asked_for_nothing_before_it_has_prepared_itself(start_greenroom):
    """
    Whoever asks waits for it as long as for an answer, and is then told to try again.
    """
    late = Late()
    options = {"plugins.late.answer_budget": "50ms", "plugins.late.life_cycle_budget": "1m"}
    node = await start_greenroom(options, plugins={"late": late})
    bob = await node.connect()
    early = await bob.ask(type="call", name="late.anything")
    assert (early["code"], "prepared" in early["message"]) == ("try_later", True)
    late.ready.set()
    await until(lambda: node.node.plugin_tasks.lives["late"].prepared.is_set())
    assert await bob.ask(type="call", name="late.anything") == {"type": "ok", "result": True}
