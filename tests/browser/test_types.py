"""The declarations of the JavaScript client: TypeScript accepts its use, and they declare what there is."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.browser import node_tools

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "gateway" / "web"


@pytest.fixture(scope="module")
def tsc(packages: Path) -> list[str]:
    return [node_tools.node(), str(packages / "typescript" / "bin" / "tsc"), "--strict", "--noEmit"]


def test_the_whole_interface_compiles_strictly(tsc: list[str]) -> None:
    """
    What is right is accepted, and what is wrong is an error.
    """
    options = ["--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.asynciterable"]
    command = [*tsc, *options, "--skipLibCheck", "false", str(HERE / "types.ts")]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


def test_what_is_declared_exists_and_the_reverse() -> None:
    """
    The exports of the module, and the public members of its classes.
    """
    declared, written = (WEB / "client.d.ts").read_text("utf-8"), (WEB / "client.js").read_text("utf-8")
    pattern = r"^export (?:class|function) (\w+)"
    names = re.findall(pattern, written, re.MULTILINE)
    assert sorted(names) == sorted(re.findall(pattern, declared, re.MULTILINE))
    for name in ("Client", "Subscription"):
        assert _members(declared, name) == _members(written, name), name


def _members(source: str, name: str) -> set[str]:
    body = re.search(rf"^export class {name}\b.*?^}}", source, re.MULTILINE | re.DOTALL)
    assert body is not None
    found = re.findall(
        r"^  (?:readonly |async |get |private )*(\w+)(?:<.*?>)?(?:[(:;]| =)", body[0], re.MULTILINE
    )
    return set(found) - {"constructor"}
