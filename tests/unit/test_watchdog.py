"""The watchdog: who keeps the event loop to itself is named, with the place where, once for each time."""

import time

import pytest
import trio
from structlog.testing import capture_logs

from engine.runtime.foreign import Function, Runner
from engine.runtime.loop_guard import LoopBlockedError, LoopGuard
from engine.runtime.watchdog import Watchdog


async def blocks_here():
    time.sleep(30)  # noqa: ASYNC251


async def yields():
    for _ in range(5):
        await trio.sleep(0.001)


async def test_a_blocking_hook_is_named_with_its_stack_and_counted():
    """
    Before the guard interrupts it the watchdog has seen where it is; well-behaved code is left in peace.
    """
    guard = LoopGuard(0.4)
    watchdog, runner = Watchdog(guard), Runner(guard=guard)
    with capture_logs() as logs, guard.installed(), watchdog.watching():
        await runner.run(Function(owner="good", name="on_event", call=yields, is_async=True))
        for _ in range(2):
            with pytest.raises(LoopBlockedError):
                await runner.run(Function(owner="bad", name="on_event", call=blocks_here, is_async=True))
    assert watchdog.caught == {"bad": 2}
    told = [line for line in logs if line["log_level"] == "error"]
    assert [(line["plugin"], line["hook"]) for line in told] == [("bad", "on_event")] * 2
    assert "in blocks_here" in told[0]["stack"]
    assert told[0]["seconds"] >= 0.2
