"""A stranger with the documentation alone: writes, tests and installs a plugin in a clean environment."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/plugins.md").read_text("utf-8")


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """
    A new virtual environment in which Greenroom is installed, from this tree, without asking the network.

    What Greenroom depends on, and pytest, are lent by the environment that runs this test.
    """
    where = tmp_path / "venv"
    venv.create(where, with_pip=True)
    python = where / "bin/python"
    [packages] = (where / "lib").glob("python3*/site-packages")
    lent = sysconfig.get_paths()["purelib"]
    # Below what is installed here; without its own Greenroom and other people's plugins, which editable
    # installs bring in by files that only a real site directory reads.
    (packages / "lent.pth").write_text(f"{lent}\n")
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "-q", "-e", ROOT)
    return python


def run(*command: object, cwd: Path | None = None) -> str:
    """
    Run a command that must succeed; what it printed.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_commands_in_the_page_make_a_plugin_that_is_tested_installed_and_found(clean, tmp_path):
    """
    Literally the page's own commands, one after the other.
    """
    [commands] = re.findall(r"```console\n(greenroom plugins new .*?)```", PAGE, re.DOTALL)
    bin_, said = clean.parent, []
    for line in commands.splitlines():
        program, *arguments = line.replace("'", "").split()
        if program == "pip":
            # As the page has it, and nothing from the network: what it needs is there already.
            arguments = ["install", "--no-index", "--no-deps", "--no-build-isolation", *arguments[1:]]
            said.append(run(clean, "-m", "pip", *arguments, cwd=tmp_path))
        else:
            module = {"greenroom": ["-m", "gateway"], "python": []}[program]
            said.append(run(clean, *module, *arguments, cwd=tmp_path))
    made, _, tested, found = said
    assert "greenroom_hello/__init__.py" in made
    assert "1 passed" in tested
    assert re.search(r"^hello: ok; hooks on_episode_created, settings$", found, re.MULTILINE)
    assert (bin_ / "greenroom").exists()


def test_a_name_that_is_none_and_a_directory_that_is_taken_are_refused(tmp_path):
    """
    Nothing is overwritten.
    """

    def new(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", "plugins", "new", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert "like edit-lease" in new("Hello_World").stderr
    (tmp_path / "greenroom-hello").mkdir()
    (tmp_path / "greenroom-hello/mine.txt").write_text("mine")
    refused = new("hello")
    assert refused.returncode == 1
    assert "not empty" in refused.stderr
    assert [file.name for file in (tmp_path / "greenroom-hello").iterdir()] == ["mine.txt"]
