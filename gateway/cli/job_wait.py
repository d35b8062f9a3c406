"""`greenroom jobs submit --wait`: submits a job and shows how it gets on, until it has ended."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import click
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gateway.cli.ask import ask
from gateway.cli.live import Line, plain, plain_json, run_until_stopped, tell_states
from gateway.client import Client, Event, Subscription

ENDED = ("completed", "failed", "cancelled")
# As of a shell's command that Ctrl-C ended.
INTERRUPTED = 130


@attrs.define(eq=False)
class Waited:
    """
    The job as it was seen last.
    """

    job: dict[str, Any] = attrs.field(factory=dict)


def submit_and_wait(line: Line, wanted: Mapping[str, Any]) -> None:
    """
    Submit the job, follow it, print its result; exits with 1 if it does not complete.

    Ctrl-C ends the waiting, not the job, and the command with 130: nobody knows yet what becomes of it.
    """
    waited = Waited()
    run_until_stopped(partial(_wait, line, wanted, waited))
    job = waited.job
    if job.get("state") == "completed":
        click.echo(plain_json(job["result"]))
    elif job.get("state") in ENDED:
        reason = f": {job['error']}" if job["error"] else ""
        raise click.ClickException(plain(f"job {job['id']} {job['state']}{reason}"))
    else:
        if job:
            click.echo(f"job {job['id']} is still {job['state']}; greenroom jobs show {job['id']}", err=True)
        raise click.exceptions.Exit(INTERRUPTED)


async def _wait(line: Line, wanted: Mapping[str, Any], waited: Waited) -> None:
    episode = wanted.get("episode_id")
    topic = "jobs" if episode is None else f"episode:{episode}"
    async with line.connect() as client:
        # Before the job is there: nothing of it is missed.
        subscription = await client.subscribe(topic)
        waited.job = await trio.to_thread.run_sync(ask, line, "POST", "/api/v1/jobs", dict(wanted))
        topic = "jobs" if waited.job["episode_id"] is None else f"episode:{waited.job['episode_id']}"
        click.echo(f"job {waited.job['id']}", err=True)
        if topic != subscription.topic:
            # Another's job stands for this one: it has the unique key.
            subscription = await client.subscribe(topic)
        if sys.stderr.isatty():
            await _draw(line, client, subscription, waited)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell_states, client)
                await _follow(line, subscription, waited, None)
                nursery.cancel_scope.cancel()


async def _draw(line: Line, client: Client, subscription: Subscription, waited: Waited) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(waited.job["type"], total=1.0)
        await _follow(line, subscription, waited, partial(_redraw, progress, task))


def _redraw(progress: Progress, task: TaskID, job: Mapping[str, Any], message: str) -> None:
    text = f"{job['type']}  {job['state']}" + (f"  {message}" if message else "")
    # Square brackets are markup to rich.
    progress.update(task, completed=job["progress"] or 0.0, description=plain(text).replace("[", "\\["))


async def _follow(line: Line, subscription: Subscription, waited: Waited, redraw: Any) -> None:
    await _look(line, waited)
    async for item in subscription:
        if waited.job["state"] in ENDED:
            return
        if not isinstance(item, Event):
            await _look(line, waited)
            continue
        told = item.data.get("job")
        if not isinstance(told, Mapping) or told.get("id") != waited.job["id"]:
            continue
        message = str(item.data.get("message") or item.data.get("error") or "")
        if redraw is None:
            percent = f"  {told['progress']:.0%}" if told["progress"] is not None else ""
            click.echo(plain(f"{told['state']}{percent}  {message}".rstrip()), err=True)
        else:
            redraw(told, message)
        if told["state"] in ENDED:
            await _look(line, waited)
            return


async def _look(line: Line, waited: Waited) -> None:
    waited.job = await trio.to_thread.run_sync(ask, line, "GET", f"/api/v1/jobs/{waited.job['id']}")
