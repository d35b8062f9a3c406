"""`greenroom plugins` with a running node: an operator sees what is wrong, mends it, and replays."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import CompletedProcess

import trio

from tests.acceptance.outside import Program, eventually

PLUGIN = """
import pathlib
from engine.hookspecs import hookimpl

HERE = pathlib.Path(__file__).parent

@hookimpl
def on_episode_created(event):
    if not (HERE / "mended").exists():
        raise RuntimeError("no paper")
    with (HERE / "handled").open("a") as file:
        file.write(event.data["episode"]["id"] + "\\n")
"""
SETTINGS = """
[plugins]
enabled = ["activity", "printer"]
[plugins.printer]
failures_to_quarantine = 2
[supervision.plugin]
backoff_first = "20ms"
"""


async def test_an_operator_sees_why_a_plugin_stopped_resumes_it_and_replays(
    serve: Callable[..., Awaitable[Program]],
    greenroom: Callable[..., CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    """
    list, show, resume, replay; and doctor, which needs no node.
    """
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "printer.py").write_text(PLUGIN)
    settings = tmp_path / "greenroom.toml"
    settings.write_text(SETTINGS)
    program = await serve("--config", settings, PYTHONPATH=str(plugins))
    episode = (await program.create())["id"]

    async def command(*arguments: str) -> str:
        told = (*arguments, "--url", f"http://127.0.0.1:{program.port}", "--data-dir", program.data_dir)
        done = await trio.to_thread.run_sync(lambda: greenroom("plugins", *told))
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def is_quarantined() -> bool:
        return "quarantined" in await command("list")

    await eventually(is_quarantined)
    listed = await command("list")
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["activity", "running"],
        ["printer", "quarantined"],
    ]
    shown = await command("show", "printer")
    assert "RuntimeError: no paper" in shown
    # Neither a list of Python's nor what stands for characters that a terminal would obey.
    assert "�" not in shown and "{" not in shown
    assert re.search(r"^cursor +xid \d+, seq \d+$", shown, re.MULTILINE)
    assert re.search(r"^20\S+Z  episode_created \S+  attempt 1$", shown, re.MULTILINE)
    assert 'raise RuntimeError("no paper")' in shown
    (plugins / "mended").touch()
    assert (await command("resume", "printer")).split()[:2] == ["printer", "running"]
    handled = plugins / "handled"
    await eventually(lambda: handled.exists() and handled.read_text().split() == [episode])
    await command("replay", "printer", "--from", "beginning")
    await eventually(lambda: handled.read_text().split() == [episode, episode])
    doctor = await trio.to_thread.run_sync(
        lambda: greenroom("plugins", "doctor", "--config", settings, PYTHONPATH=str(plugins))
    )
    assert "printer: ok; hooks on_episode_created" in doctor.stdout
    assert "it runs in a thread" in doctor.stdout
