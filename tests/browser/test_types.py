"""The declarations of the JavaScript client: TypeScript accepts its use, and they declare what there is."""

import re
import subprocess
from pathlib import Path

from tests.browser import node_tools

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "gateway" / "web"


def test_the_whole_interface_compiles_strictly(packages: Path) -> None:
    """
    What is right is accepted, and what is wrong is an error; tsconfig.json names the files.
    """
    tsc = packages / "typescript" / "bin" / "tsc"
    done = subprocess.run(
        [node_tools.node(), str(tsc), "--project", str(HERE)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


def test_what_is_declared_exists_and_the_reverse() -> None:
    """
    The exports of the module, and the public members of its classes.
    """
    for script in ("client", "client-vue"):
        declared, written = _read(f"{script}.d.ts"), _read(f"{script}.js")
        assert _exports(written) == _exports(declared)
    declared, written = _read("client.d.ts"), _read("client.js")
    for name in ("Client", "Subscription"):
        assert _members(declared, name) == _members(written, name), name


def _read(name: str) -> str:
    return (WEB / name).read_text("utf-8")


def _exports(source: str) -> list[str]:
    return sorted(re.findall(r"^export (?:class|function) (\w+)", source, re.MULTILINE))


def _members(source: str, name: str) -> set[str]:
    body = re.search(rf"^export class {name}\b.*?^}}", source, re.MULTILINE | re.DOTALL)
    assert body is not None
    found = re.findall(
        r"^  (?:readonly |async |get |private )*(\w+)(?:<.*?>)?(?:[(:;]| =)", body[0], re.MULTILINE
    )
    return set(found) - {"constructor"}
