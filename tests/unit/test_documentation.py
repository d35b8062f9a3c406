"""The documentation and the program say the same: what is documented exists, and the reverse."""

import inspect
import re
from pathlib import Path

from engine import hookspecs
from engine.testing import SimulatedClient, SimulatedEngine, SimulatedJobs
from gateway import protocol
from gateway.cli.main import COMMANDS
from gateway.client.messages import FINAL_CODES

ROOT = Path(__file__).parents[2]
REAL_TIME = (ROOT / "docs/real-time.md").read_text("utf-8")
SOCKET_IO = (ROOT / "docs/socket-io.md").read_text("utf-8")
OPERATING = (ROOT / "docs/operating.md").read_text("utf-8")
PLUGINS = (ROOT / "docs/plugins.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")


def test_every_close_code_is_documented_and_every_documented_one_exists():
    """
    Close codes are public API.
    """
    documented = {int(code) for code in re.findall(r"^\| (\d{4}) \|", REAL_TIME, re.MULTILINE)}
    codes = {value for name, value in vars(protocol).items() if name.isupper() and isinstance(value, int)}
    assert documented == codes


def test_a_code_that_clients_know_and_no_node_sends_is_said_to_be_reserved():
    """
    Else whoever writes a client looks in vain for when it comes.
    """
    documented = {int(code) for code in re.findall(r"^\| (\d{4}) \|", REAL_TIME, re.MULTILINE)}
    reserved = {int(code) for code in re.findall(r"^(\d{4}) \(\w+\) is reserved", REAL_TIME, re.MULTILINE)}
    assert FINAL_CODES - documented == reserved


def test_every_hook_is_documented_with_its_arguments():
    """
    The contract and its documentation are one.
    """
    documented = set(re.findall(r"^### `(\w+\([^)]*\))`", PLUGINS, re.MULTILINE))
    hooks = set()
    for specs in hookspecs.GROUPS:
        for name, function in vars(specs).items():
            if callable(function) and not name.startswith("_"):
                arguments = function.__code__.co_varnames[1 : function.__code__.co_argcount]
                hooks.add(f"{name}({', '.join(arguments)})")
    assert documented == hooks


def test_every_command_is_documented():
    """
    What `greenroom --help` lists, the operators' page lists.
    """
    documented = set(re.findall(r"^\| `greenroom (\w+)` \|", OPERATING, re.MULTILINE))
    assert documented == set(COMMANDS)


def test_every_client_message_is_documented():
    """
    What the protocol decodes is in the table of what a client may send.
    """
    documented = set(re.findall(r'^\| `\{"type": "(\w+)"', REAL_TIME, re.MULTILINE))
    types = {message.__struct_config__.tag for message in protocol.ClientMessage.__args__}
    assert documented | {"connect"} == types


def test_every_event_of_a_socket_io_client_is_documented():
    """
    What the namespace /real-time takes is in the table of what a client emits.
    """
    table = SOCKET_IO.partition("| The client emits |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"^\| `([\w:]+)`", table, re.MULTILINE))
    source = (ROOT / "gateway/namespaces/real_time.py").read_text("utf-8")
    assert documented == set(re.findall(r'^            case "([\w:]+)":', source, re.MULTILINE))


def test_what_a_simulated_engine_can_do_is_documented():
    """
    For who tests a plugin: the engine's own methods, its clients' and its jobs'.
    """
    testing = PLUGINS.partition("## Testing")[2].partition("\n## ")[0]
    code = " ".join(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", testing, flags=re.DOTALL)))
    documented = set(re.findall(r"\w+", code))
    offered = {
        name
        for part in (SimulatedEngine, SimulatedClient, SimulatedJobs)
        for name, value in vars(part).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }
    # For the engine itself.
    assert offered - documented == {"running", "push", "pack"}


def test_ci_runs_the_readme_s_own_test_command():
    """
    The command that a newcomer types is the one that is known to work.
    """
    commands = re.findall(r"```console\n(.+?)\n```", README, re.DOTALL)
    test_command = next(command for command in commands if command.endswith("tox"))
    assert test_command in (ROOT / ".ci/run").read_text("utf-8")


def test_no_file_of_ours_is_too_long():
    """
    A file is one idea: never over 400 lines.
    """
    files = [
        path
        for folder in ("engine", "gateway", "plugins", "conf", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert {
        path.name: lines for path in files if (lines := len(path.read_text("utf-8").splitlines())) > 400
    } == {}


def test_every_metric_is_documented_and_every_documented_one_exists():
    """
    What `/metrics` answers, the operators' page lists.
    """
    files = ("metrics.py", "job_metrics.py")
    source = "".join((ROOT / "gateway/rest" / name).read_text("utf-8") for name in files)
    named = set(re.findall(r'"(greenroom_\w+)"', source)) | {
        f"greenroom_{name}"
        for name in re.findall(r'\b(?:gauge|counter|histogram)s?\(\s*f?"(\w+)(?:"|\{)', source)
    }
    named -= {"greenroom_pool_"}
    named |= {f"greenroom_pool_{name}" for name in re.findall(r'^            \("(\w+)", "', source, re.M)}
    documented = set(re.findall(r"`(greenroom_\w+?)(?:_total)?`", OPERATING))
    assert documented == named
