"""`greenroom migrate`: bring the database's schema up to date without serving."""

from contextlib import ExitStack
from pathlib import Path

import click

from engine.store import migrate as schema
from engine.store.data_dir import DataDir
from engine.store.embedded import EmbeddedPostgres
from gateway.cli.options import config_option, data_dir_option, load_settings, overrides_of


@click.command()
@config_option
@data_dir_option
def migrate(config: Path | None, data_dir: Path | None) -> None:
    """
    Bring the database's schema up to date.

    `greenroom serve` does this by itself; twice does no harm.
    """
    settings = load_settings(config, overrides_of({"node.data_dir": data_dir}))
    with ExitStack() as stack:
        conninfo = settings.database.url
        if not conninfo:
            directory = DataDir.open(settings.node.resolved_data_dir)
            stack.callback(directory.close)
            postgres = EmbeddedPostgres(directory.path, run_as=settings.database.embedded_run_as)
            stack.callback(postgres.stop)
            conninfo = postgres.start()
        applied = schema.migrate(conninfo)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("nothing to apply: the schema is up to date")
