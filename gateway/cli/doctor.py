"""`greenroom doctor`: looks at everything that a node needs, and says in plain words what is wrong."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from conf.consequences import chosen_consequences
from conf.settings import Loaded, load
from engine.errors import PluginError
from gateway.cli.checks.database import of_database
from gateway.cli.checks.finding import Finding, Grade
from gateway.cli.checks.machine import of_machine
from gateway.cli.checks.queue import of_queue
from gateway.cli.options import config_option, data_dir_option, load_with_plugins, overrides_of

WRONG = 1


@click.command()
@config_option
@data_dir_option
def doctor(config: Path | None, data_dir: Path | None) -> None:
    """
    Look at settings, permissions, file descriptors, database, migrations, clock, plugins and, if there is
    one, the queue of SQS.

    Changes nothing, and disturbs no node. Exits with 0 if nothing is wrong, 1 if something is, 2 if the
    settings are.
    """
    overrides = overrides_of({"node.data_dir": data_dir})
    plugins: list[str] | None = None
    try:
        loaded, host = load_with_plugins(config, overrides)
        plugins = host.names()
        first = Finding(Grade.OK, "plugins", f"{len(plugins)} can be loaded: {', '.join(plugins)}")
    except PluginError as error:
        loaded = load(config, environ=os.environ, overrides=overrides)
        first = Finding(Grade.WRONG, "plugins", str(error), "install it, or change plugins.enabled")
    worst = Grade.OK
    for finding in (first, *_all(loaded, config, plugins)):
        worst = max(worst, finding.grade)
        click.echo(str(finding))
    if worst is Grade.WRONG:
        raise SystemExit(WRONG)


def _all(loaded: Loaded, config: Path | None, plugins: list[str] | None) -> Iterator[Finding]:
    yield Finding(Grade.OK, "settings", "no mistakes")
    for consequence in chosen_consequences(loaded):
        yield Finding(Grade.NOTE, "settings", str(consequence))
    yield from of_machine(loaded, config)
    yield from of_database(loaded.settings, plugins)
    yield from of_queue(loaded.settings)
