"""The command line as a whole. What cannot be done is told in one clear line, and the exit code is 2."""

import sys
from importlib import import_module

import click

from conf.mistakes import SettingsError
from engine.error_groups import only
from engine.errors import EngineError, PluginError, StartupError

CANNOT_START = 2
FAILED = 1
# Where each command is, under its own name, and what the list of commands says of it.
COMMANDS = {
    "actor": ("actor", "List, restart, park and resume the actors of a running node."),
    "backup": ("backup", "Write the embedded database into FILE, whether a node runs or not."),
    "config": ("config", "Check, compare and show the settings."),
    "doctor": (
        "doctor",
        "Look at settings, permissions, file descriptors, database, migrations, clock, plugins and, if there "
        "is one, the queue of SQS.",
    ),
    "jobs": ("jobs", "Submit, see and steer the jobs of a running node."),
    "migrate": ("migrate", "Bring the database's schema up to date."),
    "plugins": ("plugins", "Write, look at and mend plugins."),
    "restore": ("backup", "Put the database of a backup in place of the present one."),
    "serve": ("serve", "Run a node until SIGINT or SIGTERM."),
    "tail": ("tail", "Print what happens, one line an event, until Ctrl-C."),
    "token": ("token", "Print a token that this data directory's node accepts."),
    "top": ("top", "Show what a running node is doing, redrawn until Ctrl-C."),
    "watch": ("watch", "Show who is looking at an episode, and what happens to it, until Ctrl-C."),
}


class Commands(click.Group):
    """
    The commands, each imported when it is asked for: all of them together take a second.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"gateway.cli.{module}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=Commands)
@click.version_option(package_name="greenroom", message="%(package)s %(version)s")
def cli() -> None:
    """
    Greenroom: a real-time engine for episode production.
    """


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
