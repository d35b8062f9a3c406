"""`greenroom tail`: what happens, as it happens."""

import uuid
from functools import partial
from pathlib import Path

import click
import msgspec
import trio

from gateway.cli.live import Line, line_of, line_options, run_until_stopped, tell_states
from gateway.client import Event, Item, Position


@click.command()
@click.argument("topics", nargs=-1, metavar="[TOPIC]...")
@click.option("--json", "as_json", is_flag=True, help="One frame a line, as it came.")
@click.option(
    "--since", metavar="POSITION", help="From there on, such as 7@3f0a…; tail says at its end where it stood."
)
@line_options
def tail(
    topics: tuple[str, ...],
    as_json: bool,
    since: str | None,
    url: str,
    token: str | None,
    data_dir: Path | None,
) -> None:
    """
    Print what happens, one line an event, until Ctrl-C.

    A TOPIC is catalog (every episode; so it is without any), episode:ID or user:ID. A lost connection comes
    back by itself, and nothing is missed.
    """
    chosen = list(dict.fromkeys(_topic(topic) for topic in topics)) or ["catalog"]
    start = None
    if since is not None:
        if len(chosen) > 1:
            raise click.UsageError("--since is a place in one topic: name that topic alone")
        try:
            start = Position.parse(since)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--since") from None
    line = Line.of(url, token, data_dir)
    run_until_stopped(partial(_tail, line, chosen, start, as_json))


async def _tail(line: Line, topics: list[str], since: Position | None, as_json: bool) -> None:
    async with line.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(tell_states, client)
        subscriptions = [await client.subscribe(topic, since=since) for topic in topics]
        try:
            async for item in client.events():
                click.echo(_json_of(item) if as_json else _shown(item))
        finally:
            [position, *others] = [subscription.position for subscription in subscriptions]
            if position is not None and not others:
                click.echo(f"to go on from here: --since {position}", err=True)


def _shown(item: Item) -> str:
    if isinstance(item, Event):
        return line_of(item)
    return f"-- what happened meanwhile to {item.topic} was too much, or is no longer known --"


def _json_of(item: Item) -> str:
    if isinstance(item, Event):
        return msgspec.json.encode(item.frame).decode()
    position = None if item.position is None else item.position.to_json()
    gap = {"type": "gap", "topic": item.topic, "position": position, "snapshot": item.snapshot}
    return msgspec.json.encode(gap).decode()


def _topic(text: str) -> str:
    try:
        return f"episode:{uuid.UUID(text)}"  # an episode's id is its topic's, too
    except ValueError:
        return text
