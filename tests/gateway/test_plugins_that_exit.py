"""Plugins that raise, in every hook, what would end the process: the node goes on, and counts a failure."""

import attrs
import pytest
import trio

from engine.hookspecs import FieldError, JobHandler, SocketNamespace, hookimpl
from tests.gateway.handlers import Handlers
from tests.gateway.job_clients import ended, submit
from tests.gateway.node_fixture import until
from tests.gateway.test_socketio_real_time import line_to

EXITS = [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException]


@attrs.define(eq=False)
class Leaver:
    """
    Raises an exit in each of its hooks, once it is told to.
    """

    kind: type[BaseException]
    ready: bool = False
    called: set[str] = attrs.field(factory=set)

    def leave(self, hook: str) -> None:
        if self.ready:
            self.called.add(hook)
            raise self.kind("enough")

    @hookimpl
    async def engine_started(self):
        if "engine_started" not in self.called:
            self.called.add("engine_started")
            raise self.kind("enough")

    @hookimpl
    async def engine_stopping(self):
        self.leave("engine_stopping")

    @hookimpl
    async def on_event(self, event):
        self.leave("on_event")

    @hookimpl
    async def authorize(self, identity):
        if identity.user == "carol@example.com":
            self.leave("authorize")

    @hookimpl
    def validate_episode(self, after):
        if after["title"] == "bad":
            self.leave("validate_episode")
        if after["title"] == "late":
            return self.mistakes()
        return None

    def mistakes(self):
        yield FieldError("title", "is late")
        self.leave("the answer")

    @hookimpl
    def session_opened(self):
        self.leave("session_opened")

    @hookimpl
    async def call(self):
        self.leave("call")

    @hookimpl
    def http(self):
        self.leave("http")

    @hookimpl
    def job_handlers(self):
        return [JobHandler(type="leaver.check", run=self.run, check=lambda payload: self.leave("check"))]

    async def run(self, context):
        await trio.lowlevel.checkpoint()

    @hookimpl
    def socket_namespaces(self):
        async def leave(socket):
            self.leave("namespace")

        return [SocketNamespace(name="/leave", events={"leave": leave})]


@pytest.mark.parametrize("kind", EXITS)
async def test_no_hook_can_end_the_node(start_greenroom, logs, kind):
    """
    Each exit is told as a failure of the plugin's, to whom it concerns.
    """
    leaver = Leaver(kind)
    node = await start_greenroom(
        {"plugins.failures_to_quarantine": 2, "supervision.plugin.backoff_first": "1ms"},
        plugins={"leaver": leaver, "test": Handlers()},
    )
    await until(lambda: node.node.plugin_tasks.lives["leaver"].prepared.is_set())
    probe = await line_to(node).opened()
    await probe.send("40/leave,")
    assert str(await probe.receive()).startswith("40/leave,")
    leaver.ready = True

    carol = node.token("carol@example.com")
    refused = await node.request("GET", "episodes", token=carol)
    assert (
        f"leaver could not decide: ForeignExitError: authorize must not end the node: {kind.__name__}"
        in refused.problem(503)["detail"]
    )
    for title in ("bad", "late"):
        written = await node.request("POST", "episodes", {"title": title})
        assert "could not decide" in written.problem(503)["detail"]
    check = await node.request("POST", "jobs", {"type": "leaver.check", "payload": {}})
    assert "could not decide" in check.problem(503)["detail"]
    (await node.request("GET", "x/leaver/")).problem(500)
    bob = await node.connect("bob@example.com")
    assert (await bob.ask(type="call", name="leaver.x"))["code"] == "failed"
    await probe.send('42/leave,["leave"]')
    await node.create()
    effect = node.node.effects["leaver"]
    await until(lambda: effect.quarantined_at is not None)
    assert f"ForeignExitError: on_event must not end the node: {kind.__name__}" in effect.last_error
    await until(lambda: "namespace" in leaver.called)
    # Else the node waits for them to go, at its end.
    await trio.aclose_forcefully(probe.raw.stream)
    await bob.vanish()

    assert (await ended(node, await submit(node, "test.echo")))["state"] == "completed"
    await node.stop()
    assert leaver.called == {
        *("engine_started", "engine_stopping", "on_event", "authorize", "validate_episode", "the answer"),
        *("session_opened", "call", "http", "check", "namespace"),
    }
    logs.entries.clear()
