"""The commands beside `serve`: token, migrate, config, and the help of all of them."""

import importlib.metadata
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli.main import cli
from tests.acceptance.outside import Program

Run = Callable[..., subprocess.CompletedProcess[str]]


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


def test_the_program_lists_its_commands(greenroom: Run) -> None:
    """
    `greenroom --help` exits with 0, and names every one of them with what it says of itself.
    """
    run = greenroom("--help")
    assert (run.returncode, run.stderr) == (0, "")
    told = " ".join(run.stdout.split())
    for (name, *below), command in list(commands(cli))[1:]:
        if not below:
            assert f"{name} {command.get_short_help_str(1000)}" in told


def test_every_command_explains_itself() -> None:
    """
    `--help` of every command exits with 0 and tells what it does and what each option means.
    """
    found = dict(commands(cli))
    assert set(found) >= {(), ("serve",), ("token",), ("migrate",), ("config", "check"), ("config", "show")}
    for path, command in found.items():
        run = CliRunner().invoke(cli, [*path, "--help"])
        assert (run.exit_code, run.stderr) == (0, ""), path
        assert command.help
        assert command.help.split()[0] in run.stdout
        for option in command.params:
            if isinstance(option, click.Argument):
                assert option.make_metavar(click.Context(command)) in run.stdout
                continue
            assert isinstance(option, click.Option)
            assert option.opts[0] in run.stdout
            assert option.help, (path, option.opts)


def test_the_version_is_the_distributions(greenroom: Run) -> None:
    """
    `greenroom --version` prints one line.
    """
    run = greenroom("--version")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"greenroom {importlib.metadata.version('greenroom')}\n"


@pytest.mark.parametrize("arguments", [["no-such-command"], ["serve", "--no-such-option"], ["token"]])
def test_a_wrong_command_line_exits_with_2(greenroom: Run, arguments: list[str]) -> None:
    """
    A usage, and what is wrong with what was given.
    """
    run = greenroom(*arguments)
    assert run.returncode == 2
    assert "Usage:" in run.stderr
    assert "Traceback" not in run.stderr


async def test_a_token_is_accepted_with_its_role(
    serve: Callable[..., Awaitable[Program]], tmp_path: Path, greenroom: Run
) -> None:
    """
    A token that was made before the node's first start, for each role, opens what the role may do.
    """
    data_dir = tmp_path / "data"
    tokens = {
        role: greenroom("token", "--user", f"{role}@example.com", "--role", role, "--data-dir", data_dir)
        for role in ("viewer", "editor", "operator")
    }
    assert all(run.returncode == 0 and len(run.stdout.splitlines()) == 1 for run in tokens.values())
    named = greenroom(
        "token", "--user", "al@example.com", "--name", "Alice Smith", "--ttl", "30m", "--data-dir", data_dir
    )
    program = await serve(data_dir=data_dir)
    allowed = {
        role: [
            (await program.ask(method, path, body, token=run.stdout.strip())).status
            for method, path, body in (
                ("GET", "/api/v1/episodes", None),
                ("POST", "/api/v1/episodes", {"title": role}),
                ("GET", "/api/v1/engine/tree", None),
            )
        ]
        for role, run in tokens.items()
    }
    assert allowed == {"viewer": [200, 403, 403], "editor": [200, 201, 403], "operator": [200, 201, 200]}
    answer = await program.ask("POST", "/api/v1/episodes", {"title": "Pilot"}, token=named.stdout.strip())
    assert answer.json["created_by"] == "al@example.com"


@pytest.mark.parametrize(
    "arguments",
    [["--ttl", "soon"], ["--role", "king"], ["--user", ""], ["--data-dir", "/proc/x"]],
)
def test_a_token_that_cannot_be_made_is_refused(greenroom: Run, tmp_path: Path, arguments: list[str]) -> None:
    """
    Nothing on stdout that could be taken for a token; exit code 2.
    """
    run = greenroom("token", "--user", "bob", "--data-dir", tmp_path / "data", *arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert "Traceback" not in run.stderr


def test_migrating_twice_does_no_harm(greenroom: Run, tmp_path: Path) -> None:
    """
    The first time tells what was applied, the second that nothing was left.
    """
    first = greenroom("migrate", "--data-dir", tmp_path / "data")
    assert first.returncode == 0
    assert first.stdout.startswith("applied 0001")
    second = greenroom("migrate", "--data-dir", tmp_path / "data")
    assert (second.returncode, second.stdout) == (0, "nothing to apply: the schema is up to date\n")


def test_settings_are_checked_and_shown(greenroom: Run, tmp_path: Path) -> None:
    """
    `check` says where settings are from; `show` has every one with its source, and no secret.
    """
    file = tmp_path / "greenroom.toml"
    file.write_text("[server]\nport = 8123\n")
    secrets = {
        "DATABASE_URL": "postgresql://greenroom:hunter2@db/greenroom",
        "GREENROOM_AUTH_SECRET": "0123456789abcdef0123456789abcdef",
    }
    check = greenroom("config", "check", "--config", file, **secrets)
    assert (check.returncode, check.stderr) == (0, "")
    assert f"ok: file {file}, 1 option" in check.stdout
    show = greenroom("config", "show", "--config", file, **secrets)
    assert (show.returncode, show.stderr) == (0, "")
    shown = {line.split(" = ")[0]: line for line in show.stdout.splitlines()}
    assert shown["server.port"].split() == ["server.port", "=", "8123", "#", "file", str(file)]
    assert shown["server.host"].endswith("# default")
    assert shown["auth.secret"].endswith("# environment GREENROOM_AUTH_SECRET")
    assert "postgresql://greenroom:***@db/greenroom" in shown["database.url"]
    assert not any(secret in show.stdout for secret in ("hunter2", "0123456789abcdef"))


def test_checking_names_every_mistake(greenroom: Run, tmp_path: Path) -> None:
    """
    Exit code 2, one line each on stderr.
    """
    file = tmp_path / "greenroom.toml"
    file.write_text("[server]\nport = 70000\nprot = 1\n")
    for command in ("check", "show"):
        run = greenroom("config", command, "--config", file)
        assert (run.returncode, run.stdout) == (2, "")
        assert len(run.stderr.splitlines()) == 2
