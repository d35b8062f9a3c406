"""The plugins in docs/examples: their own tests pass, and they are packages that can be installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "docs/examples").glob("*/pyproject.toml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_installs_is_found_and_passes_its_tests(example: Path, tmp_path: Path) -> None:
    """
    Built as its pyproject.toml says, put where Python finds it, and tested from there.
    """
    where = tmp_path / "installed"
    install = ["install", "--no-index", "--no-deps", "--no-build-isolation", "-q", "--target", where, example]
    run(sys.executable, "-m", "pip", *install)
    # Not the copy beside the tests.
    environment = {"PYTHONPATH": f"{where}{os.pathsep}{ROOT}"}
    tests = tmp_path / "tests"
    tests.symlink_to(example / "tests")
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=tmp_path, **environment)
    given = {"webhook": {"GREENROOM_PLUGINS_WEBHOOK_SECRET": "sixteen characters"}}.get(example.name, {})
    if given:
        given["GREENROOM_PLUGINS_WEBHOOK_URL"] = "https://example.com"
    found = run(sys.executable, "-m", "gateway", "plugins", "doctor", **environment, **given)
    assert f"\n{example.name}: ok; hooks " in found


def test_there_are_three() -> None:
    """
    The parametrised test would pass with none.
    """
    assert [path.name for path in EXAMPLES] == ["digest", "edit-lease", "webhook"]


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """
    Run a command that must succeed; what it printed.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
