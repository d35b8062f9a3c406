"""`greenroom config`: what is wrong with the settings, what follows from them, which are in force and why."""

import sys
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from conf.consequences import chosen_consequences
from conf.settings import Loaded, SettingsError, describe
from engine.domain.access import Role
from engine.errors import PluginError
from gateway.cli.ask import RefusedError, ask
from gateway.cli.live import Line, line_options
from gateway.cli.options import load_with_plugins

# The status of an answer that names what is wrong.
INVALID = 422

_config_file = click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Settings in TOML; without it, the file that GREENROOM_CONFIG names.",
)


@click.group()
def config() -> None:
    """
    Check, compare and show the settings.
    """


@config.command()
@_config_file
def check(file: Path | None) -> None:
    """
    Name every mistake in the settings, and what follows from those that are right.

    Exits with 0 if there is no mistake, otherwise with 2.
    """
    loaded = _load_or_exit(file)
    for source, count in Counter(loaded.sources.values()).items():
        click.echo(f"ok: {source}, {count} {'option' if count == 1 else 'options'}")
    for consequence in chosen_consequences(loaded):
        click.echo(f"note: {consequence}")


@config.command()
@line_options
def diff(url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Tell what a reload would change in a running node.

    The node itself reads its file and its environment; nothing is changed. Exits with 0 if nothing differs,
    with 1 if something does or the node cannot be asked, with 2 if the settings are wrong.
    """
    line = Line.of(url, token, data_dir, Role.OPERATOR)
    try:
        answer = ask(line, "GET", "/api/v1/engine/reload")
    except RefusedError as refused:
        if refused.status != INVALID:
            raise
        click.echo(refused.message, err=True)
        raise SystemExit(2) from None
    for what, heading in (("changed", "a reload would change"), ("needs_restart", "needs a restart")):
        for change in answer[what]:
            click.echo(f"{heading}: {change['option']}: {change['before']} -> {change['after']}")
    for option in answer["renewed"]:
        click.echo(f"a reload would read again: the file of {option}")
    if answer["changed"] or answer["needs_restart"] or answer["renewed"]:
        raise SystemExit(1)
    click.echo("nothing differs from what is in force")


@config.command()
@_config_file
def show(file: Path | None) -> None:
    """
    Print every option with its value and where it is from.

    The output is TOML, with secrets and passwords masked.
    """
    rows = [
        (f"{option} = {shown}", option, source) for option, shown, source in describe(_load_or_exit(file))
    ]
    # One long value must not push every source out of sight.
    width = min(max(len(setting) for setting, _, _ in rows), 80)
    for setting, option, source in rows:
        line = f"{setting:{width}}  # {source}"
        if sys.stdout.isatty():
            text = Text(line)
            text.stylize("bold", 0, len(option))
            text.stylize("dim" if source == "default" else "green", line.rindex("  # "))
            Console().print(text, soft_wrap=True)
        else:
            click.echo(line)


def _load_or_exit(file: Path | None) -> Loaded:
    try:
        return load_with_plugins(file, {})[0]
    except (SettingsError, PluginError) as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
