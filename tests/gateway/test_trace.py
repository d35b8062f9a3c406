"""What became of a write: its commit, its effects, its frames; and the place of it in a client's trace."""

import pytest

from engine.hookspecs import hookimpl
from tests.gateway.handlers import Handlers
from tests.gateway.node_fixture import until
from tests.gateway.test_socketio_real_time import ask, entered

OPERATOR = {"role": "operator"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Failing:
    """
    A plugin that never succeeds.
    """

    @hookimpl
    async def on_event(self, event):
        raise ValueError("no good")


async def test_a_write_is_followed_to_its_effects_and_frames(start_greenroom):
    """
    By the id that its answer named, or that its client chose.
    """
    node = await start_greenroom(plugins={"failing": Failing()})
    episode = await node.create()
    viewer = await node.subscriber(f"episode:{episode['id']}")
    carol = await node.connect("carol@example.com")
    headers = {"X-Request-ID": "my-write", "traceparent": PARENT}
    await node.request("PATCH", f"episodes/{episode['id']}", {"title": "Two"}, headers=headers)
    assert [message["event"] for message in await viewer.pending()] == ["episode_updated"]
    assert (await carol.receive())["event"] == "episode_updated"
    await until(lambda: node.node.effects["failing"].failures >= 1)
    await until(lambda: node.node.effects["audit"].handled_total == 2)

    trace = (await node.request("GET", "trace/my-write", **OPERATOR)).json
    assert trace["mutation"] == "my-write"
    [event] = trace["events"]
    assert (event["type"], event["offset"], event["user"]) == ("episode_updated", 2, "alice@example.com")
    assert event["traceparent"] == PARENT
    effects = {effect["plugin"]: effect for effect in event["effects"]}
    assert effects["audit"] == {"plugin": "audit", "state": "handled", "failures": 0, "last_error": None}
    assert effects["failing"]["state"] in ("waiting", "quarantined")
    topics = {f"episode:{episode['id']}": 1, "catalog": 1}
    assert event["frames"] == {"total": 2, "by_topic": topics}

    first = (await node.request("GET", f"episodes/{episode['id']}/events")).json["data"][0]
    created = node.rows("select request ->> 'mutation_id' from events where id = %s", first["id"])[0][0]
    failing = (await node.request("GET", f"trace/{created}", **OPERATOR)).json["events"][0]["effects"]
    [failed] = [effect for effect in failing if effect["plugin"] == "failing"]
    assert failed["failures"] >= 1
    assert failed["last_error"] == "ValueError: no good"


async def test_an_id_of_no_write_is_not_found_and_others_may_not_ask(greenroom):
    """
    404 says what that may mean; 403 for who is no operator.
    """
    assert "refused, or cut" in (await greenroom.request("GET", "trace/x", **OPERATOR)).problem(404)["detail"]
    (await greenroom.request("GET", "trace/x")).problem(403)


@pytest.mark.parametrize("given", ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT + "0"])
async def test_a_traceparent_that_is_none_is_ignored(greenroom, given):
    """
    As W3C Trace Context wants it: the request is served all the same.
    """
    answer = await greenroom.request("POST", "episodes", {"title": "T"}, headers={"traceparent": given})
    assert answer.status == 201
    assert greenroom.rows("select request ->> 'traceparent' from events") == [(None,)]


class Collector:
    """
    Keeps the spans that a node records.
    """

    def __init__(self):
        self.spans = []

    def begin(self, name, parent):
        return Kept(self, name, parent)

    def record(self, name, parent, *, began, attributes, error=None):
        self.spans.append((name, parent, dict(attributes), error))


class Kept:
    def __init__(self, collector, name, parent):
        self.collector, self.name, self.parent = collector, name, parent
        self.traceparent = PARENT[:-4] + "ee-01"

    def end(self, attributes, *, error=None):
        self.collector.spans.append((self.name, self.parent, dict(attributes), error))


async def test_every_attempt_at_a_job_is_a_span_below_its_submission(start_greenroom):
    """
    With what came of it; events of a job are spans as those of a write are.
    """
    node = await start_greenroom(plugins={"handlers": Handlers()})
    node.may_log_tracebacks = True
    node.node.traces.tracer = collector = Collector()
    headers = {"traceparent": PARENT}
    for kind in ("test.fail", "test.echo"):
        answer = await node.request("POST", "jobs", {"type": kind, "payload": {}}, headers=headers)
        assert answer.status == 202

    def of(name):
        return [span for span in collector.spans if span[0] == name]

    await until(lambda: len(of("job test.fail")) == 3 and of("job test.echo"))
    for number, (_, parent, about, error) in enumerate(of("job test.fail"), 1):
        assert parent == PARENT[:-4] + "ee-01"
        assert (about["greenroom.attempt"], "RuntimeError" in error) == (number, True)
        assert about["greenroom.outcome"] == ("job_failed" if number == 3 else "job_retry")
    [(_, _, about, error)] = of("job test.echo")
    assert (about["greenroom.outcome"], error) == ("job_completed", None)
    committed = {about["greenroom.type"] for _, _, about, _ in of("commit")}
    assert committed == {"job_queued", "job_processor_started", "job_retry", "job_failed", "job_completed"}


class Answering:
    @hookimpl
    async def call(self, identity, name, args):
        return {"got": args} if name == "echo" else None


async def test_every_step_of_a_write_is_a_span_below_the_request(start_greenroom):
    """
    Request, commit, frames, effects, failures; and a call over WebSocket below what its client names.
    """
    node = await start_greenroom(plugins={"failing": Failing(), "answering": Answering()})
    node.node.traces.tracer = collector = Collector()
    viewer = await node.connect()
    await node.request("POST", "episodes", {"title": "T"}, headers={"traceparent": PARENT})
    assert (await viewer.receive())["event"] == "episode_created"
    effects = {"effect activity", "effect audit", "effect failing"}
    await until(lambda: effects <= {span[0] for span in collector.spans})
    found = {span[0]: span for span in collector.spans}
    assert found["POST request"][1] == PARENT
    assert found["POST request"][2]["http.response.status_code"] == 201
    for name in ("commit", "frames", "effect activity", "effect audit", "effect failing"):
        assert found[name][1] == PARENT[:-4] + "ee-01", name
    assert found["effect failing"][3] == "ValueError: no good"
    assert found["frames"][2]["greenroom.clients"] == 1
    await viewer.ask(type="call", name="echo", args=1, traceparent=PARENT)
    assert [span[1] for span in collector.spans if span[0] == "call echo"] == [PARENT]
    handshake = [("traceparent", PARENT), ("authorization", f"Bearer {node.token()}")]
    other = await node.open(headers=handshake)
    await other.ask(type="call", name="echo", args=1)
    assert [span[1] for span in collector.spans if span[0] == "call echo"] == [PARENT, PARENT]


async def test_a_call_over_socket_io_is_below_what_its_client_names(start_greenroom):
    """
    A refusal is a failure with its code.
    """
    node = await start_greenroom(plugins={"answering": Answering()})
    node.node.traces.tracer = collector = Collector()
    probe = await entered(node)
    answer = await ask(probe, "call", {"name": "answering.echo", "args": 1, "traceparent": PARENT})
    assert answer == {"ok": True, "result": {"got": 1}}
    await ask(probe, "call", {"name": "nobody.echo", "traceparent": PARENT})
    assert [(name, parent, error) for name, parent, _, error in collector.spans] == [
        ("call answering.echo", PARENT, None),
        ("call nobody.echo", PARENT, "unknown_call"),
    ]
