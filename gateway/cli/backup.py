"""`greenroom backup` and `greenroom restore`: the embedded database into a file, and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import psycopg
from psycopg.conninfo import make_conninfo

from conf.settings import Settings
from engine.store import backup as store
from engine.store.data_dir import DataDir
from engine.store.embedded import EmbeddedPostgres, running_conninfo
from gateway.cli.options import config_option, data_dir_option, load_settings, overrides_of

_file = click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@_file
@click.option("--force", is_flag=True, help="Overwrite FILE if it is there.")
@config_option
@data_dir_option
def backup(file: Path, force: bool, config: Path | None, data_dir: Path | None) -> None:
    """
    Write the embedded database into FILE, whether a node runs or not.

    Everything committed at that moment is in it; nobody has to wait. The secret of the data directory is not.
    """
    settings = _embedded_settings(config, data_dir)
    if file.exists() and not force:
        raise click.ClickException(f"{file} is there already; give --force to overwrite it")
    running = running_conninfo(settings.node.resolved_data_dir)
    if running is not None and _answers(running):
        size = store.dump(running, file)
    else:
        with _started(settings) as postgres:
            size = store.dump(postgres.conninfo, file)
    click.echo(f"{file}: {size} bytes")


@click.command()
@_file
@click.option("--replace", is_flag=True, help="Lose what the database has now.")
@config_option
@data_dir_option
def restore(file: Path, replace: bool, config: Path | None, data_dir: Path | None) -> None:
    """
    Put the database of a backup in place of the present one. No node may run meanwhile.

    Clients that return afterwards are told that they did not recover, and are shown the present state. If
    anything goes wrong the present database stays.
    """
    settings = _embedded_settings(config, data_dir)
    if not file.exists():
        raise click.ClickException(f"there is no file {file}")
    with _started(settings) as postgres:
        episodes = store.restore(postgres.conninfo, file.absolute(), replace=replace)
    click.echo(f"restored from {file}: {episodes} {'episode' if episodes == 1 else 'episodes'}")


def _embedded_settings(config: Path | None, data_dir: Path | None) -> Settings:
    settings = load_settings(config, overrides_of({"node.data_dir": data_dir}))
    if settings.database.url:
        raise click.ClickException(
            "database.url is set: back that PostgreSQL up by its own means (pg_dump, or its host's snapshots)"
        )
    if not (settings.node.resolved_data_dir / "postgres").exists() and data_dir is None:
        raise click.ClickException(
            f"there is no database in {settings.node.resolved_data_dir}; name a data directory by --data-dir"
        )
    return settings


@contextmanager
def _started(settings: Settings) -> Iterator[EmbeddedPostgres]:
    directory = DataDir.open(settings.node.resolved_data_dir)
    postgres = EmbeddedPostgres(directory.path, run_as=settings.database.embedded_run_as)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()
        directory.close()


def _answers(conninfo: str) -> bool:
    try:
        with psycopg.connect(make_conninfo(conninfo, connect_timeout=5)):
            return True
    except psycopg.OperationalError:
        return False
