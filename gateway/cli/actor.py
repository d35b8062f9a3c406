"""`greenroom actor`: restart, park and resume one child of a running node's supervision tree."""

from pathlib import Path

import click

from engine.domain.access import Role
from gateway.cli.ask import ask
from gateway.cli.live import Line, line_options, plain

ACTORS = "/api/v1/engine/actors"


@click.group()
def actor() -> None:
    """
    List, restart, park and resume the actors of a running node.

    A NAME is as `greenroom actor list` shows it, such as catalog, audit or episode/ID.
    """


@actor.command("list")
@line_options
def list_(url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Print every actor: name, kind, state, restarts, last error.
    """
    for child in ask(Line.of(url, token, data_dir, Role.OPERATOR), "GET", ACTORS)["data"]:
        fields = (child["name"], child["kind"], child["state"], child["restarts"], child["last_error"] or "")
        click.echo(plain("  ".join(map(str, fields))).rstrip())


@actor.command()
@click.argument("name", metavar="NAME")
@line_options
def restart(name: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    End an actor's life and start the next; it counts as no crash.

    A running job is given back, and begun anew.
    """
    _do("restart", name, Line.of(url, token, data_dir, Role.OPERATOR))


@actor.command()
@click.argument("name", metavar="NAME")
@line_options
def park(name: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    End an actor's life, and start no other until it is resumed.
    """
    _do("park", name, Line.of(url, token, data_dir, Role.OPERATOR))


@actor.command()
@click.argument("name", metavar="NAME")
@line_options
def resume(name: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Start an actor that is parked or backing off, now.
    """
    _do("resume", name, Line.of(url, token, data_dir, Role.OPERATOR))


def _do(what: str, name: str, line: Line) -> None:
    child = ask(line, "POST", f"{ACTORS}/{what}", {"name": name})
    click.echo(plain(f"{child['name']}: {child['state'].replace('_', ' ')}"))
