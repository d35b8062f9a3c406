"""An episode actor that crashes under its viewers: they stay connected and miss nothing."""

import signal
from collections.abc import Awaitable, Callable

import trio

from tests.acceptance.outside import Listener, Program, eventually

Serve = Callable[..., Awaitable[Program]]
Listen = Callable[..., Awaitable[Listener]]
CRASHES = 4
UPDATES_BETWEEN = 15


async def test_viewers_hear_every_offset_once_and_in_order(serve: Serve, listen: Listen) -> None:
    """
    The actor crashes again and again while updates go on; two viewers, one since the beginning.
    """
    program = await serve(GREENROOM_TEST_HOOKS="1")
    program.expected_crash = "InjectedCrashError"
    episode = (await program.create())["id"]
    early = await listen(program, "bob@example.com")
    topic = f"episode:{episode}"
    await early.answer("s", type="subscribe", topic=topic, since={"offset": 0, "epoch": "unknown"})
    began = early.of_type("subscribed")[0]["position"]["offset"]
    stop, sent = trio.Event(), 0

    async def update() -> None:
        nonlocal sent
        while not stop.is_set():
            body = {"title": f"Take {sent}"}
            answer = await program.ask("PATCH", f"/api/v1/episodes/{episode}", body)
            assert answer.status == 200, answer.body
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(update)
        for crash in range(1, CRASHES + 1):
            before = sent
            await eventually(lambda before=before: sent >= before + UPDATES_BETWEEN)
            program.process.send_signal(signal.SIGUSR2)
            await eventually(lambda crash=crash: restarts(program, episode, crash))
        late = await listen(program, "carol@example.com")
        epoch = early.frames()[0]["epoch"]
        await late.answer("s", type="subscribe", topic=topic, since={"offset": 1, "epoch": epoch})
        before = sent
        await eventually(lambda: sent >= before + UPDATES_BETWEEN)
        stop.set()
    for listener, first in ((early, began), (late, 1)):
        wanted = list(range(first + 1, sent + 2))
        await listener.wait(lambda listener=listener: offsets(listener)[-1:] == [sent + 1])
        assert offsets(listener) == wanted
        assert listener.closed is None
    assert late.of_type("subscribed")[0]["recovered"]


async def test_without_the_test_hook_the_signal_does_nothing(serve: Serve, listen: Listen) -> None:
    """
    Nobody crashes a production node's actors.
    """
    program = await serve()
    episode = (await program.create())["id"]
    bob = await listen(program)
    await bob.answer("s", type="subscribe", topic=f"episode:{episode}")
    program.process.send_signal(signal.SIGUSR2)
    await program.ask("PATCH", f"/api/v1/episodes/{episode}", {"title": "Take 2"})
    await bob.wait(bob.frames)
    assert not await restarts(program, episode, 1)


async def restarts(program: Program, episode: str, count: int) -> bool:
    """
    Whether the episode's actor was restarted that often and runs.
    """
    tree = (await program.ask("GET", "/api/v1/engine/tree")).json
    (episodes,) = [child for child in tree["children"] if child["name"] == "episodes"]
    (actor,) = [child for child in episodes["children"] if episode in child["name"]]
    return actor["restarts"] >= count and actor["state"] == "running"


def offsets(listener: Listener) -> list[int]:
    """
    What it heard since it subscribed; before that it heard the catalog.
    """
    kinds = [message.get("type") for message in listener.messages]
    return [frame["offset"] for frame in listener.messages[kinds.index("subscribed") :] if "event" in frame]
