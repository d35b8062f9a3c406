"""Options that several commands share, and how they become settings."""

import getpass
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from conf.settings import Loaded, PluginSchema, Settings, load
from engine.plugin_host.host import PluginHost

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Settings in TOML; without it, the file that GREENROOM_CONFIG names.",
)
data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Directory of the embedded database and the generated secret.",
)


def overrides_of(given: Mapping[str, object]) -> dict[str, object]:
    """
    What was given on the command line, by dotted option.
    """
    return {
        option: str(value) if isinstance(value, Path) else value
        for option, value in given.items()
        if value is not None
    }


def load_with_plugins(config: Path | None, overrides: Mapping[str, object]) -> tuple[Loaded, PluginHost]:
    """
    The settings in force and the plugins that they name, which have checked what is theirs.

    Raises SettingsError, PluginError.
    """
    host = PluginHost()

    def schemas(enabled: Sequence[str], discover: bool) -> Mapping[str, PluginSchema]:
        host.load(enabled, discover=discover)
        return host.schemas

    return load(config, environ=os.environ, overrides=overrides, schemas=schemas), host


def load_settings(config: Path | None, overrides: Mapping[str, object]) -> Settings:
    """
    The settings in force, for who needs no plugins. Raises SettingsError.
    """
    return load(config, environ=os.environ, overrides=overrides).settings


def json_of(text: str, file: Any, option: str) -> Any:
    """
    The JSON that an option says, or the file that its twin `…-file` has opened. Raises BadParameter.
    """
    option += "" if file is None else "-file"
    try:
        return json.loads(text if file is None else file.read())
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"is no JSON: {error}", param_hint=option) from None


def own_name() -> str:
    """
    Who runs this command.
    """
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "nobody"  # a container's user may have no name
