"""`greenroom top`: the supervision tree of a running node, live. Every number is one of `/metrics`."""

import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click
import trio
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engine.domain.access import Role
from gateway.cli.ask import ask
from gateway.cli.live import Line, line_options, plain, run_until_stopped

TREE = "/api/v1/engine/tree"
# Children that do not run, and are shown by name.
SHOWN = 8
_LABEL = re.compile(r'(\w+)="([^"]*)"')
STATES = ("running", "starting", "backing_off", "parked")


@click.command()
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="How often to look.",
)
@click.option("--once", is_flag=True, help="Look once, and end; so it is when the output is no terminal.")
@line_options
def top(every: float, once: bool, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Show what a running node is doing, redrawn until Ctrl-C. For operators.

    Actors by kind, mailboxes, restarts, plugins and how far they are behind, jobs, the database's pool,
    sessions and frames. Each number is the one that /metrics and /api/v1/engine/tree show.
    """
    line = Line.of(url, token, data_dir, Role.OPERATOR)
    if once or not sys.stdout.isatty():
        Console().print(render(ask(line, "GET", TREE)))
    else:
        run_until_stopped(partial(_watch, line, every))


async def _watch(line: Line, every: float) -> None:
    shown: RenderableType = Text("…")
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            try:
                tree = await trio.to_thread.run_sync(ask, line, "GET", TREE, abandon_on_cancel=True)
                shown = render(tree)
                live.update(shown, refresh=True)
            except click.ClickException as error:
                live.update(Group(shown, Text(error.message, style="bold red")), refresh=True)
            await trio.sleep(every)


@attrs.frozen
class Numbers:
    """
    The numbers of a tree, by the names that `/metrics` gives them.
    """

    samples: Mapping[str, float]

    def __call__(self, name: str, **labels: str) -> str:
        """
        One number for people.
        """
        inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        return shown(self.samples.get(f"greenroom_{name}{{{inside}}}" if inside else f"greenroom_{name}", 0))

    def labels(self, name: str, label: str) -> list[str]:
        """
        The values of a label that a metric has.
        """
        found = (key for key in self.samples if key.startswith(f"greenroom_{name}{{"))
        return list(dict.fromkeys(dict(_LABEL.findall(key))[label] for key in found))

    def starting(self, prefix: str) -> Iterator[tuple[str, str]]:
        """
        Every sample whose name starts like that, without "greenroom_".
        """
        for key, value in self.samples.items():
            if key.startswith(f"greenroom_{prefix}"):
                yield key.removeprefix("greenroom_"), shown(value)


def shown(value: float) -> str:
    """
    A number as it is, without digits that say nothing.
    """
    return f"{value:.0f}" if value == round(value) else f"{value:.4g}"


def render(tree: Mapping[str, Any]) -> RenderableType:
    """
    The whole view of one answer.
    """
    numbers = Numbers(tree["numbers"])
    parts: list[RenderableType] = [
        _head(tree, numbers),
        Columns([_kinds(numbers), _mailboxes(numbers), _pools(numbers)], padding=(0, 2)),
        _plugins(tree, numbers),
    ]
    if jobs := list(numbers.starting("job")):
        parts.append(_rows("jobs", ("", "now"), jobs))
    if stopped := [child for child in _all(tree["children"]) if child["state"] != "running"]:
        parts.append(_stopped(stopped))
    return Group(*parts)


def _head(tree: Mapping[str, Any], numbers: Numbers) -> RenderableType:
    line = Text()
    for label, name in (
        ("sessions", "sessions"),
        ("subscriptions", "subscriptions"),
        ("connections", "connections"),
        ("frames/s", "frames_per_second"),
        ("loop lag s", "loop_lag_seconds"),
        ("clients behind", "outlets_behind"),
        ("bytes waiting", "outlet_backlog_bytes"),
    ):
        line.append(f"{label} ", style="dim").append(f"{numbers(name)}   ")
    return Panel(line, title=Text(plain(str(tree["node"]))), title_align="left")


def _kinds(numbers: Numbers) -> Table:
    kinds = numbers.labels("children", "kind")
    rows = [
        (
            kind,
            *(numbers("children", kind=kind, state=state) for state in STATES),
            numbers("restarts_total", kind=kind),
            numbers("crashes_total", kind=kind),
        )
        for kind in kinds
    ]
    return _rows(
        "actors", ("kind", "running", "starting", "backing off", "parked", "restarts", "crashes"), rows
    )


def _mailboxes(numbers: Numbers) -> Table:
    actors = numbers.labels("mailbox_depth", "actor")
    rows = [
        (actor, numbers("mailbox_depth", actor=actor), numbers("mailbox_oldest_seconds", actor=actor))
        for actor in actors
    ]
    return _rows("mailboxes", ("actor", "waiting", "oldest s"), rows)


def _pools(numbers: Numbers) -> Table:
    columns = ("size", "in_use", "waiting", "waits_total", "failures_total")
    rows = [
        (pool, *(numbers(f"pool_{column}", pool=pool) for column in columns))
        for pool in numbers.labels("pool_size", "pool")
    ]
    return _rows("database", ("pool", "size", "in use", "waiting", "waits", "failures"), rows)


def _plugins(tree: Mapping[str, Any], numbers: Numbers) -> Table:
    rows = [
        (
            plain(plugin["name"]),
            plugin["state"],
            numbers("effect_lag_events", plugin=plugin["name"]),
            numbers("effects_total", plugin=plugin["name"]),
            numbers("effect_failures_total", plugin=plugin["name"]),
            plain(plugin["last_error"] or "")[:60],
        )
        for plugin in tree["plugins"]
    ]
    return _rows("plugins", ("name", "state", "behind", "handled", "failed", "last error"), rows)


def _stopped(children: list[Mapping[str, Any]]) -> Table:
    rows = [
        (plain(child["name"]), child["state"], str(child["restarts"]), plain(child["last_error"] or "")[:80])
        for child in children[:SHOWN]
    ]
    if more := len(children) - len(rows):
        rows.append((f"and {more} more", "", "", ""))
    return _rows("not running", ("name", "state", "restarts", "last error"), rows)


def _rows(title: str, columns: tuple[str, ...], rows: Any) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), title_style="bold")
    for number, column in enumerate(columns):
        is_text = number == 0 or column in ("state", "last error")
        table.add_column(column, justify="left" if is_text else "right", header_style="dim")
    for row in rows:
        table.add_row(*(Text(cell, style="red" if cell in ("parked", "quarantined") else "") for cell in row))
    return table


def _all(children: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for child in children:
        yield child
        yield from _all(child.get("children", []))
