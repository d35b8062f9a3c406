"""The examples' plugins on a running node: real SQL, real clients, a real receiver, a real job."""

import importlib.util
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.gateway.node_fixture import until, until_answer

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


def example(name: str):
    """
    The plugin of an example, as it would be imported.
    """
    [file] = (EXAMPLES / name).glob("greenroom_*/__init__.py")
    spec = importlib.util.spec_from_file_location(file.parent.name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def receiver():
    """
    Somebody who refuses the first delivery, and takes the others.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.got.append((dict(self.headers), body))
            self.send_response(500 if len(self.server.got) == 1 else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.got = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


async def test_the_webhook_delivers_each_event_once_and_signed(start_greenroom, receiver):
    """
    What was refused is tried again; a replay delivers nothing that was delivered.
    """
    webhook = example("webhook")
    secret = "sixteen characters"
    node = await start_greenroom(
        {
            "plugins.webhook.url": f"http://127.0.0.1:{receiver.server_address[1]}/hook",
            "plugins.webhook.secret": secret,
            "supervision.plugin.backoff_first": "1ms",
        },
        plugins={"webhook": webhook},
    )
    episode = await node.create("Pilot")
    await node.request("PATCH", f"episodes/{episode['id']}", {"title": "Nobody is told of this"})
    await until(lambda: node.node.effects["webhook"].handled_total == 2)
    assert len(receiver.got) == 2
    headers, body = receiver.got[1]
    at, _, given = headers["X-Greenroom-Signature"].partition(",v1=")
    assert given == webhook.signature(secret, int(at.removeprefix("t=")), body)
    await node.request("POST", "engine/plugins/webhook/replay", {"from": "beginning"}, role="operator")
    await until(lambda: node.node.effects["webhook"].handled_total == 4)
    assert len(receiver.got) == 2


async def test_the_lease_lets_one_edit_at_a_time_and_fences_what_is_late(start_greenroom):
    """
    Over WebSocket and REST, with PostgreSQL deciding who has it.
    """
    node = await start_greenroom(plugins={"edit-lease": example("edit-lease")})
    episode = (await node.create("Pilot"))["id"]
    path = f"episodes/{episode}"
    ann = await node.connect("ann@example.com", role="editor")
    bob = await node.connect("bob@example.com", role="editor")

    async def call(client, name, **args):
        return await client.ask(type="call", name=f"edit-lease.{name}", args={"episode": episode, **args})

    taken = (await call(ann, "acquire"))["result"]
    assert (await call(ann, "acquire"))["result"]["token"] == taken["token"] == 1
    assert (await call(bob, "acquire"))["code"] == "held"
    held = {"X-Edit-Lease": "1"}
    ours = await node.request("PATCH", path, {"title": "Ann's"}, user="ann@example.com", headers=held)
    assert ours.status == 200
    theirs = await node.request("PATCH", path, {"title": "Bob's"}, user="bob@example.com", headers=held)
    assert theirs.fields() == ["x-edit-lease"]
    without = await node.request("PATCH", path, {"title": "Forgetful"}, user="ann@example.com")
    assert without.fields() == ["x-edit-lease"]

    assert (await call(ann, "renew", token=1))["type"] == "ok"
    assert (await call(bob, "release", token=1))["code"] == "lost"
    assert (await call(ann, "release", token=1))["type"] == "ok"
    assert (await call(bob, "acquire"))["result"]["token"] == 2
    late = await node.request("PATCH", path, {"title": "Late"}, user="ann@example.com", headers=held)
    assert "bob@example.com is editing" in late.json["errors"][0]["message"]


async def test_the_digest_tells_everybody_on_the_list_when_the_job_is_done(start_greenroom):
    """
    What the activity log has, counted; the job's result says so.
    """
    node = await start_greenroom(plugins={"digest": example("digest")})
    await node.create("Pilot")
    await until(lambda: node.rows("select 1 from activity_logs"))
    ann = await node.subscriber("user:ann@example.com", "ann@example.com")
    wrong = await node.request("POST", "jobs", {"type": "digest.daily", "payload": {"people": "ann"}})
    assert wrong.status == 422
    given = {"type": "digest.daily", "payload": {"people": ["ann@example.com", "bob@example.com"]}}
    job = (await node.request("POST", "jobs", given)).json["id"]
    done = await until_answer(
        lambda: node.request("GET", f"jobs/{job}"), lambda answer: answer.json["state"] == "completed"
    )
    counts = [{"resource_type": "episode", "action": "CREATE", "count": 1}]
    assert done.json["result"] == {"told": 2, "counts": counts}
    while (message := await ann.receive()).get("event") != "digest":
        pass
    assert message["data"]["counts"] == counts
