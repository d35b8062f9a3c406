"""`greenroom config`: what is wrong with the settings, and which are in force and why. Starts nothing."""

import os
import sys
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from conf.settings import Loaded, SettingsError, describe, load

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
    Check and show the settings.
    """


@config.command()
@_config_file
def check(file: Path | None) -> None:
    """
    Name every mistake in the settings.

    Exits with 0 if there is none, otherwise with 2.
    """
    loaded = _load_or_exit(file)
    for source, count in Counter(loaded.sources.values()).items():
        click.echo(f"ok: {source}, {count} {'option' if count == 1 else 'options'}")


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
    width = min(max(len(setting) for setting, _, _ in rows), 60)
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
        return load(file, environ=os.environ)
    except SettingsError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
