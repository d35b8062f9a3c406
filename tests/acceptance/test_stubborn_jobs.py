"""A handler that will not be stopped keeps no node from ending, and its job is done in another life."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.acceptance.outside import Program, eventually

Serve = Callable[..., Awaitable[Program]]

# Never ends in the first life; the file tells that there was one.
PLUGIN = """
import trio
from engine.hookspecs import JobHandler, hookimpl


async def resist(context):
    mark = context.data_dir / "was_here"
    if mark.exists():
        return "done"
    mark.touch()
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


@hookimpl
def job_handlers():
    return [JobHandler(type="stubborn.resist", run=resist, backoff_first=0.01)]
"""
SETTINGS = """
[node]
shutdown_grace = "1s"

[supervision.job]
grace = "2s"

[supervision.poller]
grace = "2s"

[plugins]
enabled = ["activity", "stubborn"]
"""


async def test_a_handler_that_cannot_be_cancelled_is_left_behind(serve: Serve, tmp_path: Path) -> None:
    """
    The node ends a little after the graces, with PostgreSQL, and says so by its exit code.
    """
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "stubborn.py").write_text(PLUGIN)
    settings = tmp_path / "greenroom.toml"
    settings.write_text(SETTINGS)
    program = await serve("--config", settings, PYTHONPATH=str(plugins))
    job = (await program.ask("POST", "/api/v1/jobs", {"type": "stubborn.resist"})).json["id"]
    await eventually((program.data_dir / "was_here").exists)
    assert await program.stop() == 1
    assert not program.postgres()
    assert f"stubborn.resist {job}" in program.errors.read_text()
    program.killed = True  # its exit code is as it should be
    again = await serve("--config", settings, PYTHONPATH=str(plugins))

    async def is_done() -> bool:
        return (await again.ask("GET", f"/api/v1/jobs/{job}")).json["state"] == "completed"

    await eventually(is_done)
