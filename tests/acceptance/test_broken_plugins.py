"""Plugins that misbehave in every way: only the operator notices, and nothing is lost for the plugin."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.acceptance.outside import SOON, Listener, Program, eventually
from tests.patience import patience

Serve = Callable[..., Awaitable[Program]]
Listen = Callable[..., Awaitable[Listener]]

# Once there is a file named `mended` beside it, the plugin notes each event in the file `handled`.
PLUGIN = """
import pathlib, time, trio
from engine.hookspecs import hookimpl

HERE = pathlib.Path(__file__).parent

@hookimpl
{kind} on_event(context, event):
    if not (HERE / "mended").exists():
        {trouble}
    with (HERE / "handled").open("a") as file:
        file.write(event.data["episode"]["id"] + "\\n")
"""
# What was refused within its transaction must not be taken for done.
OVERLOOKS = """
        async with context.transaction() as transaction:
            try:
                await transaction.execute("select 1 / 0")
            except Exception:
                return
"""
SETTINGS = """
[plugins]
enabled = ["activity", "notifications", "audit", "misbehaving"]
effect_budget = "500ms"
block_limit = "200ms"
failures_to_quarantine = 3

[supervision.plugin]
backoff_first = "20ms"
backoff_cap = "100ms"
"""
# Far more than a request or a frame takes, far less than the plugins sleep.
UNDISTURBED = 20


@pytest.mark.parametrize(
    ("kind", "trouble", "reason"),
    [
        pytest.param("async def", "raise RuntimeError('no!')", "RuntimeError: no!", id="raises"),
        pytest.param("async def", "await trio.sleep(60)", "budget of 0.5 s", id="sleeps"),
        pytest.param("async def", OVERLOOKS, "InFailedSqlTransaction", id="overlooks an error"),
        pytest.param("def", "time.sleep(60)", "budget of 0.5 s", id="blocks its thread"),
        pytest.param("async def", "time.sleep(60)", "more than 0.2 s", id="blocks the event loop"),
        pytest.param("async def", "while True: pass", "more than 0.2 s", id="computes for ever"),
    ],
)
async def test_a_broken_plugin_is_nobody_elses_trouble(
    serve: Serve, listen: Listen, tmp_path: Path, kind: str, trouble: str, reason: str
) -> None:
    """
    REST and frames go on; the plugin ends in quarantine, where operators see why; resumed, it catches up.
    """
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "misbehaving.py").write_text(PLUGIN.format(kind=kind, trouble=trouble))
    settings = tmp_path / "greenroom.toml"
    settings.write_text(SETTINGS)
    program = await serve("--config", settings, PYTHONPATH=str(plugins))
    bob = await listen(program)

    created: list[str] = []
    with patience(SOON):
        while not await is_quarantined(program):
            # Of the events that it does not handle, others hear as of any.
            created.append(await create_and_hear(program, bob))
    created.append(await create_and_hear(program, bob))

    shown = await program.plugin("misbehaving")
    assert reason in shown["reason"]
    assert shown["quarantined_at"] is not None
    assert shown["failures_in_a_row"] == 3
    assert shown["lag"] == len(created)
    details = (await program.ask("GET", "/api/v1/engine/plugins/misbehaving")).json
    assert [failure["attempt"] for failure in details["failures"][:3]] == [3, 2, 1]
    await program.assert_recorded_once(created)

    (plugins / "mended").touch()
    resumed = await program.ask("POST", "/api/v1/engine/plugins/misbehaving/resume")
    assert (resumed.status, resumed.json["state"]) == (200, "running")
    created.append((await program.create("After it was mended"))["id"])
    handled = plugins / "handled"
    await eventually(lambda: handled.exists() and handled.read_text().split() == created)
    await eventually(lambda: is_running_again(program))
    assert bob.closed is None


async def test_a_quarantine_survives_a_restart(serve: Serve, tmp_path: Path) -> None:
    """
    A restart does not put a broken plugin back to work, and what it missed still waits for it.
    """
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "misbehaving.py").write_text(PLUGIN.format(kind="async def", trouble="raise RuntimeError"))
    settings = tmp_path / "greenroom.toml"
    settings.write_text(SETTINGS)
    program = await serve("--config", settings, PYTHONPATH=str(plugins))
    episode = (await program.create())["id"]

    await eventually(lambda: is_quarantined(program))
    await program.kill()
    again = await serve("--config", settings, PYTHONPATH=str(plugins))
    await eventually(lambda: is_quarantined(again))
    (plugins / "mended").touch()
    await again.ask("POST", "/api/v1/engine/plugins/misbehaving/resume")
    handled = plugins / "handled"
    await eventually(lambda: handled.exists() and handled.read_text().split() == [episode])


async def is_quarantined(program: Program) -> bool:
    return bool((await program.plugin("misbehaving"))["state"] == "quarantined")


async def is_running_again(program: Program) -> bool:
    plugin = await program.plugin("misbehaving")
    return (plugin["state"], plugin["lag"], plugin["reason"]) == ("running", 0, None)


async def create_and_hear(program: Program, listener: Listener) -> str:
    """
    Create an episode and wait for its frame; neither may wait for any plugin.
    """
    with patience(UNDISTURBED):
        episode: str = (await program.create())["id"]
        await listener.wait(lambda: episode in listener.created())
    return episode
