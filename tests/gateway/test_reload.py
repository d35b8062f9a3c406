"""A reload of a running node over REST: the parts go by the new settings, and clients notice nothing."""

import json
import ssl
import time

import pytest
import trio
from joserfc import jwk, jwt

from conf.settings import load
from engine.errors import StartupError
from engine.hookspecs import hookimpl
from tests.gateway.conftest import new_certificate
from tests.gateway.node_fixture import QUICK, until

TOKEN = {"role": "operator"}


@pytest.fixture
async def tuned(start_greenroom):
    """
    A node and the options that its next reload finds.
    """
    node = await start_greenroom()
    options = {}
    node.node.live.source = lambda: load(None, environ={}, overrides={**QUICK, **options})
    return node, options


async def reload(node):
    return await node.request("POST", "engine/reload", **TOKEN)


async def test_a_reload_answers_what_changed_and_what_needs_a_restart(tuned):
    """
    GET tells the same, before, and changes nothing.
    """
    node, options = tuned
    options |= {"feed.batch": 7, "server.port": 9}
    preview = await node.request("GET", "engine/reload", **TOKEN)
    assert node.node.settings.feed.batch == 500
    answer = await reload(node)
    assert preview.json == answer.json
    assert answer.json == {
        "changed": [{"option": "feed.batch", "before": "500", "after": "7", "source": "command line"}],
        "needs_restart": [
            {"option": "server.port", "before": "8000", "after": "9", "source": "command line"}
        ],
        "renewed": [],
    }
    assert node.node.feed.batch == 7
    assert (await reload(node)).json["changed"] == []


async def test_wrong_settings_are_refused_with_every_mistake(tuned):
    """
    Nothing of them is taken up; the answer names the option, the source and what would be right.
    """
    node, options = tuned
    poll = node.node.feed.poll
    options |= {"feed.batch": 0, "feed.poll": "7s", "presence.tick": "soon"}
    for method in ("GET", "POST"):
        answer = await node.request(method, "engine/reload", **TOKEN)
        assert answer.fields() == ["feed.batch", "presence.tick"]
        assert "must be a whole number of 1 or more (command line says 0)" in str(answer.json["errors"])
    assert node.node.feed.poll == poll
    node.may_log_tracebacks = True  # the refusal itself is logged as an error


async def test_a_reload_is_for_operators_and_needs_something_to_read(greenroom):
    """
    403 for others; 409 where a program gave the settings.
    """
    for method in ("GET", "POST"):
        (await greenroom.request(method, "engine/reload")).problem(403)
        (await greenroom.request(method, "engine/reload", **TOKEN)).problem(409)


async def test_running_children_go_by_the_new_policy(tuned):
    """
    An episode's actor that runs is parked after the new number of crashes, in a mailbox of the new size.
    """
    node, options = tuned
    node.may_log_tracebacks = True
    episode = await node.create()
    viewer = await node.subscriber(f"episode:{episode['id']}")
    options |= {
        "supervision.episode.max_restarts": 1,
        "supervision.episode.cool_down": "1h",
        "supervision.episode.mailbox": 3,
    }
    assert len((await reload(node)).json["changed"]) == 3
    [mailbox] = node.node.episodes._mailboxes.values()
    assert mailbox.capacity == 3
    node.node.crash_episodes()
    await until(lambda: [child.restarts for child in node.node.episode_supervisor.children()] == [1])
    node.node.crash_episodes()
    await until(lambda: node.node.episodes.statistics().parked == 1)
    assert await viewer.pending() == []


async def test_what_hears_of_every_job_keeps_a_mailbox_as_large_as_the_catalogs(tuned):
    """
    A reload that is about something else had made it as small as an episode's.
    """
    node, options = tuned
    await node.subscriber("jobs")
    options |= {"feed.batch": 7}
    await reload(node)
    [mailbox] = node.node.jobs_topic.mailboxes().values()
    kinds = node.node.settings.supervision
    assert mailbox.capacity == kinds.catalog.mailbox != kinds.episode.mailbox


async def test_plugins_are_held_to_the_new_budget(start_greenroom):
    """
    One that ran under the old budget is cancelled under the new.
    """

    class Slow:
        released = trio.Event()

        @hookimpl
        async def on_event(self, event):
            await self.released.wait()

    node = await start_greenroom(plugins={"slow": Slow()})
    node.node.live.source = lambda: load(
        None, environ={}, overrides={**QUICK, "plugins.effect_budget": "20ms"}
    )
    await reload(node)
    await node.create()
    await until(lambda: node.node.effects["slow"].failed_total > 0)
    assert "longer than its budget of 0.02 s" in node.node.effects["slow"].last_error
    Slow.released.set()


async def test_limits_hold_those_who_are_there_and_disconnect_nobody(tuned):
    """
    Fewer sessions than there are: the next is refused, the present ones stay; rates hold at once.
    """
    node, options = tuned
    first, second = await node.connect("a@example.com"), await node.connect("b@example.com")
    options |= {"limits.sessions": 1, "limits.request_burst": 1, "limits.requests_per_second": 1}
    await reload(node)
    third = await node.open()
    await third.send(type="connect", token=node.token("c@example.com", "viewer"))
    bye, code = await third.bye()
    assert (bye["code"], code) == (4503, 4503)
    assert (await first.pending(), await second.pending()) == ([], [])
    answers = [(await node.request("GET", "episodes")).status for _ in range(5)]
    assert 429 in answers


async def test_the_body_limit_and_the_presence_times_change(tuned):
    """
    What the wire and running actors read anew each time is in force at the next time.
    """
    node, options = tuned
    episode = await node.create()

    async def look(user):
        frontend = await node.connect(user)
        await frontend.ask(type="presence", resourceType="episode", resourceId=episode["id"], state="viewing")
        return frontend

    bob = await look("bob@example.com")
    # Ten times as long as a tick: he has been told of himself.
    await trio.sleep(0.1)
    await bob.pending()
    options |= {"server.max_body": 100, "presence.tick": "1h"}
    await reload(node)
    (await node.request("POST", "episodes", {"title": "x" * 150})).problem(413)
    await look("carol@example.com")
    await trio.sleep(0.1)
    assert await bob.pending() == []


async def test_rotated_keys_are_taken_up_and_wrong_ones_refused(start_greenroom, tmp_path):
    """
    Tokens of the old key end; a file that is none changes nothing, and the answer says why.
    """
    old, new = (jwk.ECKey.generate_key("P-256", {"kid": name}) for name in ("old", "new"))
    file = tmp_path / "keys.json"

    def write(key):
        file.write_text(json.dumps(jwk.KeySet([key]).as_dict(private=False)))

    def token(key):
        claims = {"sub": "olga", "role": "operator", "exp": int(time.time()) + 600}
        return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key, algorithms=["ES256"])

    write(old)
    options = {"auth.jwks_file": str(file)}
    node = await start_greenroom(options)
    node.may_log_tracebacks = True
    node.node.live.source = lambda: load(None, environ={}, overrides={**QUICK, **options})
    file.write_text("{")
    answer = await node.request("POST", "engine/reload", token=token(old))
    assert "is no JSON Web Key Set" in answer.problem(422)["detail"]
    write(new)
    answer = await node.request("POST", "engine/reload", token=token(old))
    assert answer.json["renewed"] == ["auth.jwks_file"]
    (await node.request("GET", "episodes", token=token(old))).problem(401)
    assert (await node.request("GET", "engine/reload", token=token(new))).json["renewed"] == []


async def test_a_renewed_certificate_is_shown_to_the_next_client(start_greenroom, tmp_path):
    """
    Who is connected stays; one that does not fit its key is refused, and the old one goes on.
    """
    file = tmp_path / "localhost.pem"
    first, second = new_certificate(), new_certificate()
    file.write_bytes(first)
    options = {"server.tls_certificate": str(file), "server.tls_key": str(file)}
    node = await start_greenroom(options)
    node.may_log_tracebacks = True
    node.node.live.source = lambda: load(None, environ={}, overrides={**QUICK, **options})

    async def client():
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", node.port, ssl_context=context)
        await stream.do_handshake()
        return stream, ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True))

    stays, shown = await client()
    assert shown.encode() in first
    file.write_bytes(
        first.partition(b"-----BEGIN PRIVATE")[0] + second[second.index(b"-----BEGIN PRIVATE") :]
    )
    with pytest.raises(StartupError, match="tls_certificate"):
        node.node.live.reload()
    _, shown = await client()
    assert shown.encode() in first
    file.write_bytes(second)
    assert node.node.live.reload().renewed == ("server.tls_certificate",)
    _, shown = await client()
    assert shown.encode() in second
    await stays.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await stays.receive_some()).startswith(b"HTTP/1.1 200")
