"""The gateway as a supervised child: its next life serves on the same port."""

import trio

from gateway import gateway as module
from tests.gateway.node_fixture import until


async def test_a_gateway_that_crashed_serves_again_on_the_same_port(start_greenroom, monkeypatch):
    """
    As the supervisor restarts any other child; the node goes on.
    """
    crash = trio.Event()
    serve = module.serve

    async def serve_until_it_crashes(*given, **more):
        async with trio.open_nursery() as nursery:

            async def fail():
                await crash.wait()
                raise RuntimeError("a bug of the server")

            nursery.start_soon(fail)
            await serve(*given, **more)
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(module, "serve", serve_until_it_crashes)
    node = await start_greenroom({"supervision.gateway.backoff_first": "1ms"})
    node.may_log_tracebacks = True
    episode = await node.create()
    monkeypatch.setattr(module, "serve", serve)
    crash.set()
    await until(lambda: node.node.root.restarted["gateway"] == 1)
    await until(lambda: {c.name: c.state for c in node.node.root.children()}["gateway"] == "running")
    assert (await node.request("GET", f"episodes/{episode['id']}")).status == 200
    viewer = await node.subscriber(f"episode:{episode['id']}")
    await node.request("PATCH", f"episodes/{episode['id']}", {"title": "Two"})
    assert (await viewer.receive())["event"] == "episode_updated"
