"""The command line as a whole. What cannot be done is told in one clear line, and the exit code is 2."""

import sys

import click

from conf.settings import SettingsError
from engine.error_groups import only
from engine.errors import EngineError, PluginError, StartupError
from gateway.cli.actor import actor
from gateway.cli.backup import backup, restore
from gateway.cli.config import config
from gateway.cli.doctor import doctor
from gateway.cli.jobs import jobs
from gateway.cli.migrate import migrate
from gateway.cli.plugins import plugins
from gateway.cli.serve import serve
from gateway.cli.tail import tail
from gateway.cli.token import token
from gateway.cli.top import top
from gateway.cli.watch import watch

CANNOT_START = 2
FAILED = 1


@click.group()
@click.version_option(package_name="greenroom", message="%(package)s %(version)s")
def cli() -> None:
    """
    Greenroom: a real-time engine for episode production.
    """


for command in (
    serve,
    token,
    tail,
    watch,
    top,
    actor,
    plugins,
    jobs,
    doctor,
    backup,
    restore,
    migrate,
    config,
):
    cli.add_command(command)


def run() -> None:
    """
    Run the command line, and exit.
    """
    try:
        cli()
    except (SettingsError, StartupError, PluginError) as error:
        click.echo(f"greenroom: {error}", err=True)
        sys.exit(CANNOT_START)
    except BaseExceptionGroup as group:
        # The event loop wraps what ends it; a single error of ours is told like any other.
        cause = only(group)
        if not isinstance(cause, EngineError):
            raise
        click.echo(f"greenroom: {cause}", err=True)
        sys.exit(CANNOT_START if isinstance(cause, StartupError) else FAILED)
