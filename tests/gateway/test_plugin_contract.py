"""The plugin contract on a running node: life cycle, single types of events, the engine's handle."""

import trio

from engine.hookspecs import JobHandler, hookimpl
from tests.gateway.handlers import Handlers
from tests.gateway.job_clients import ended, submit
from tests.gateway.node_fixture import until


class Seen:
    """
    Remembers what it was given, and when.
    """

    def __init__(self):
        self.calls = []
        self.may_start = trio.Event()

    @hookimpl
    async def engine_started(self, engine):
        await self.may_start.wait()
        async with engine.transaction() as transaction:
            await transaction.execute("create table seen (title text)")
        self.calls.append("started")

    @hookimpl
    async def on_episode_created(self, context, event):
        async with context.transaction() as transaction:
            await transaction.execute("insert into seen values (%s)", [event.data["episode"]["title"]])
        context.metrics.counter("episodes", "New episodes.").add()
        self.calls.append(event.type)

    @hookimpl
    def on_episode_deleted(self, event):
        self.calls.append(event.type)

    @hookimpl
    def engine_stopping(self, engine):
        self.calls.append(f"{engine.plugin} stopping")


async def test_a_plugin_prepares_itself_gets_what_it_asked_for_and_cleans_up(start_greenroom):
    """
    No event comes before engine_started has returned, none of a type without a hook, and nobody waits.
    """
    seen = Seen()
    node = await start_greenroom(plugins={"seen": seen})
    path = f"episodes/{(await node.create('Pilot'))['id']}"
    await node.request("PATCH", path, {"title": "Pilot, take 2"})
    await until(lambda: node.node.effects["activity"].handled_total == 2)
    assert seen.calls == []
    seen.may_start.set()
    await node.request("DELETE", path)
    await until(lambda: node.node.effects["seen"].handled_total == 3)
    assert seen.calls == ["started", "episode_created", "episode_deleted"]
    assert node.rows("select title from seen") == [("Pilot",)]
    metrics = (await node.request("GET", "/metrics")).body.decode()
    assert "greenroom_plugin_seen_episodes_total 1.0" in metrics
    await node.stop()
    assert seen.calls[-1] == "seen stopping"


async def test_a_plugin_that_cannot_start_is_tried_again_and_harms_nobody(start_greenroom):
    """
    engine_started is called again with backoff; a transaction that it left half done is undone.
    """

    class Clumsy:
        def __init__(self):
            self.attempts = 0
            self.titles = []

        @hookimpl
        async def engine_started(self, engine):
            async with engine.transaction() as transaction:
                await transaction.execute("create table clumsy ()")
                self.attempts += 1
                if self.attempts < 3:
                    raise RuntimeError("not yet")

        @hookimpl
        async def on_event(self, event):
            self.titles.append(event.data["episode"]["title"])

    clumsy = Clumsy()
    node = await start_greenroom({"supervision.plugin.backoff_first": "1ms"}, plugins={"clumsy": clumsy})
    node.may_log_tracebacks = True
    await node.create("Pilot")
    await until(lambda: clumsy.titles)
    assert clumsy.attempts == 3
    assert clumsy.titles == ["Pilot"]


async def test_validate_episode_is_shown_headers_but_no_credentials(start_greenroom):
    """
    A plugin may want a token of its own in a header; whose token it is must stay with the engine.
    """
    shown = []

    class Curious:
        @hookimpl
        def validate_episode(self, headers):
            shown.append(headers)

    node = await start_greenroom(plugins={"curious": Curious()})
    headers = {"X-Edit-Lease": "7", "Cookie": "a=b"}
    assert (await node.request("POST", "episodes", {"title": "Pilot"}, headers=headers)).status == 201
    assert shown[0]["x-edit-lease"] == "7"
    assert not {"authorization", "cookie"} & set(shown[0])


class Slow:
    """
    Prepares itself for as long as the test wants, and has a job to do.
    """

    def __init__(self):
        self.gate = trio.Event()
        self.calls = []

    @hookimpl
    async def engine_started(self):
        await self.gate.wait()
        self.calls.append("engine_started")

    async def work(self, context):
        await trio.lowlevel.checkpoint()
        self.calls.append("work")

    @hookimpl
    def job_handlers(self):
        return [JobHandler(type="slow.work", run=self.work)]


async def test_no_job_begins_before_its_plugin_has_prepared_itself(start_greenroom):
    """
    Other plugins' jobs do not wait for it, and its own begin as soon as it has.
    """
    slow = Slow()
    node = await start_greenroom(
        # Nothing is found by looking for it now and then.
        {"jobs.poll": "1h", "feed.poll": "1h"},
        plugins={"slow": slow, "test": Handlers()},
    )
    job = await submit(node, "slow.work")
    other = await submit(node, "test.echo")
    assert (await ended(node, other))["state"] == "completed"
    assert (await node.request("GET", f"jobs/{job}")).json["state"] == "queued"
    assert slow.calls == []
    slow.gate.set()
    assert (await ended(node, job))["state"] == "completed"
    assert slow.calls == ["engine_started", "work"]
