"""`greenroom config`: output, streams and exit codes that scripts rely on."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from conf.options import OPTIONS
from gateway.cli.config import config as config_command


@pytest.fixture(autouse=True)
def _environment_of_nobody(monkeypatch):
    """
    Keep out what the machine that runs the tests is configured with.
    """
    for name in os.environ:
        if name.startswith("GREENROOM_") or name in ("DATABASE_URL", "NO_COLOR"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """
    Write a greenroom.toml and return its path, relative as an operator would give it.
    """
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = Path("greenroom.toml")
        path.write_text(text, "utf-8")
        return path

    return write


def test_config_check_says_ok_for_every_source_that_counts(file):
    """
    An operator sees that the file and the variables were really read.
    """
    config = file("[server]\nport = 1\nbacklog = 1")
    result = CliRunner(env={"GREENROOM_FEED_BATCH": "7"}).invoke(
        config_command, ["check", "--config", str(config)]
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"ok: default, {len(OPTIONS) - 3} options",
        "ok: file greenroom.toml, 2 options",
        "ok: environment GREENROOM_FEED_BATCH, 1 option",
    ]


@pytest.mark.parametrize("command", ["check", "show"])
def test_config_commands_print_all_mistakes_on_stderr_and_exit_with_2(file, command):
    """
    A script can rely on the exit code, and stdout stays clean.
    """
    config = file("[server]\nport = -1\nprot = 1")
    result = CliRunner().invoke(config_command, [command, "--config", str(config)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["server.port = -1", "server.prot"]


def test_config_show_prints_every_option_aligned_with_its_source():
    """
    Not on a terminal it prints plain TOML, one option a line.
    """
    result = CliRunner(env={"GREENROOM_SERVER_PORT": "9000"}).invoke(config_command, ["show"])
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line.split(" = ")[0] for line in lines] == list(OPTIONS)
    assert len({line.index("  # ") for line in lines}) == 1
    assert tomllib.loads(result.stdout)["server"]["port"] == 9000
    assert next(line for line in lines if line.startswith("server.port")).endswith(
        "  # environment GREENROOM_SERVER_PORT"
    )


def test_config_show_is_coloured_on_a_terminal_and_says_the_same():
    """
    Colour helps the eye; without it nothing is missing.
    """
    code = "from gateway.cli.config import config; config(['show'])"
    root = Path(__file__).parents[2]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=theirs, env={**os.environ, "TERM": "xterm"}
    ) as child:
        os.close(theirs)
        printed = b""
        # Linux reports the end of a terminal as an error: EIO.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                printed += chunk
    os.close(ours)
    assert child.returncode == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).replace("\r\n", "\n")
    assert text != printed.decode().replace("\r\n", "\n")
    assert text == CliRunner().invoke(config_command, ["show"]).stdout
