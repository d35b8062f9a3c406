"""The examples in the plugin developers' pages run: every plugin is loaded and used, every test passes."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine import hookspecs
from engine.plugin_host.host import PluginHost
from engine.testing import simulate

ROOT = Path(__file__).parents[2]
PAGES = "\n".join((ROOT / "docs" / name).read_text("utf-8") for name in ("plugins.md", "jobs.md"))
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL))
EXAMPLES = sorted(name.removesuffix(".py") for name in FILES if not name.startswith("test_"))


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """
    All examples as files, where Python finds them.
    """
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in EXAMPLES:
        sys.modules.pop(name, None)


def test_every_block_of_python_is_a_file_with_a_name():
    """
    One without a name would be run by nobody.
    """
    assert len(re.findall(r"^```python$", PAGES, re.MULTILINE)) == len(FILES)


def test_every_hook_has_an_example(examples):
    """
    Each hook is implemented by some example; of the hooks for single types of event, some are.
    """
    host = PluginHost()
    for name in EXAMPLES:
        host.register(importlib.import_module(name), name)
    shown = {hook for name in EXAMPLES for hook in host.hooks_of(name)}
    alike = {hook for hook in hookspecs.EFFECTS if hook not in ("on_event", "on_events")}
    everything = {hook for group in hookspecs.GROUPS for hook in vars(group) if not hook.startswith("_")}
    assert everything - alike - shown == set()
    assert shown & alike


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_does_its_work_without_a_failure(name, examples):
    """
    On a simulated engine on which everything happens that hooks are about.
    """

    async def scenario(engine):
        client = engine.client("bob@example.com", "editor")
        episode = await engine.create("Pilot")
        await client.be_present(episode.id)
        await engine.change(episode.id, title="Pilot, take 2")
        job = {"id": "1", "type": "render", "state": "done"}
        await engine.publish("job_completed", {"job": job, "result": None}, episode=episode.id)
        await client.call(f"{name}.something")
        await engine.http(name, "GET", "anything")
        await client.disconnect()
        await engine.delete(episode.id, role="operator")
        await engine.settle()
        await engine.advance(10)
        node = engine.node
        for actor in (*node.effects.values(), *node.plugin_tasks.notices.actors.values()):
            assert actor.failed_total == 0
        assert engine.node.plugin_tasks.answers.failed.total() == 0

    ran = simulate(scenario, plugins={name: importlib.import_module(name)})
    assert [entry for entry in ran.logs if entry["log_level"] in ("warning", "error", "critical")] == []


def test_the_tests_in_the_page_pass(examples):
    """
    As their author runs them: pytest, in a directory with the files of the page.
    """
    tests = sorted(examples.glob("test_*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    run = subprocess.run(
        command,
        cwd=examples,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{examples}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    # Each of the files has one test.
    assert f"{len(tests)} passed" in run.stdout
