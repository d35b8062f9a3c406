"""`greenroom watch`: who is looking at an episode, and what happens to it."""

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click
import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.cli.live import Line, line_of, line_options, plain, run_until_stopped, tell_states
from gateway.client import Client, Event, Gap, Item, Presence, State, Subscription, Viewer

# Events that the redrawn view shows.
SHOWN = 15


@click.command()
@click.argument("episode", metavar="EPISODE")
@line_options
def watch(episode: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Show who is looking at an episode, and what happens to it, until Ctrl-C.

    EPISODE is its id. The others see you there, too. On a terminal the view is redrawn as it changes;
    otherwise each change is a line.
    """
    line = Line.of(url, token, data_dir)
    run_until_stopped(partial(_watch, line, episode.removeprefix("episode:")))


async def _watch(line: Line, episode: str) -> None:
    async with line.connect() as client:
        presence = await client.join(episode)
        subscription = await client.subscribe(f"episode:{episode}", snapshot=True)
        snapshot = subscription.snapshot
        title = _title(snapshot) if isinstance(snapshot, Mapping) else None
        if sys.stdout.isatty():
            await _draw(client, presence, subscription, View(title=title))
        else:
            click.echo(plain(f"watching {title or 'an episode that was deleted'}"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell_states, client)
                nursery.start_soon(_print_viewers, presence)
                async for item in subscription:
                    click.echo(line_of(item) if isinstance(item, Event) else MISSED)


MISSED = "-- what happened meanwhile was too much, or is no longer known --"


async def _print_viewers(presence: Presence) -> None:
    before: Sequence[Viewer] = ()
    seen = presence.version
    while True:
        for change in changes(before, presence.viewers):
            click.echo(change)
        before = presence.viewers
        seen = await presence.wait_change(seen)


def changes(before: Sequence[Viewer], after: Sequence[Viewer]) -> list[str]:
    """
    Who came, changed and went, one line each.
    """
    old, new = ({viewer.user: viewer for viewer in viewers} for viewers in (before, after))
    lines = []
    for user, viewer in new.items():
        if user not in old:
            lines.append(f"{viewer.name} is here ({viewer.state})")
        elif old[user].state != viewer.state:
            lines.append(f"{viewer.name} is {viewer.state} now")
    lines += [f"{viewer.name} left" for user, viewer in old.items() if user not in new]
    return [plain(line) for line in lines]


@attrs.define(eq=False, kw_only=True)
class View:
    """
    What the redrawn view shows besides who is there.
    """

    title: str | None
    lines: deque[str] = attrs.field(factory=lambda: deque(maxlen=SHOWN))

    def note(self, item: Item) -> None:
        """
        Something happened.
        """
        if isinstance(item, Gap):
            self.lines.append(MISSED)
            self.title = _title(item.snapshot or {})
        else:
            self.lines.append(line_of(item))
            if item.name == "episode_deleted":
                self.title = None
            elif isinstance(episode := item.data.get("episode"), Mapping):
                self.title = episode.get("title", self.title)

    def render(self, state: State, trouble: str, presence: Presence) -> RenderableType:
        """
        The view as it stands.
        """
        people = Table.grid(padding=(0, 2))
        for viewer in presence.viewers:
            people.add_row(
                Text(plain(viewer.name)), Text(viewer.state, style="bold" if _is_busy(viewer) else "dim")
            )
        if (more := presence.total - len(presence.viewers)) > 0:
            people.add_row(Text(f"and {more} more", style="dim"), "")
        happened = Text("\n".join(self.lines) or "nothing has happened yet")
        status = Text("live", style="green")
        if state is not State.LIVE:
            status = Text(f"{state.value}: {plain(trouble)}", style="yellow")
        return Group(
            Panel(people, title=Text(f"{presence.total} here"), title_align="left"),
            Panel(happened, title=Text(plain(self.title or "deleted")), title_align="left"),
            status,
        )


async def _draw(client: Client, presence: Presence, subscription: Subscription, view: View) -> None:
    with Live(console=Console(), auto_refresh=False) as live:

        def draw() -> None:
            live.update(view.render(client.state, client.trouble, presence), refresh=True)

        draw()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_redraw_for_viewers, presence, draw)
            nursery.start_soon(_redraw_for_states, client, draw)
            async for item in subscription:
                view.note(item)
                draw()


async def _redraw_for_viewers(presence: Presence, draw: Callable[[], None]) -> None:
    seen = presence.version
    while True:
        seen = await presence.wait_change(seen)
        draw()


async def _redraw_for_states(client: Client, draw: Callable[[], None]) -> None:
    while True:
        others = [state for state in State if state not in (client.state, State.CLOSED)]
        await client.wait_state(*others)
        draw()


def _is_busy(viewer: Viewer) -> bool:
    return viewer.state == "editing"


def _title(snapshot: Mapping[str, Any]) -> str | None:
    episode = snapshot.get("episode")
    return None if episode is None else str(episode["title"])
