"""Options that several commands share, and how they become settings."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from conf.settings import Settings, load

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


def load_settings(config: Path | None, overrides: Mapping[str, object]) -> Settings:
    """
    The settings in force. Raises SettingsError.
    """
    return load(config, environ=os.environ, overrides=overrides).settings
