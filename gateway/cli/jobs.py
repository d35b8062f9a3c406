"""`greenroom jobs`: submit, see and steer jobs of a running node."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click

from conf.units import read_duration
from engine.domain.access import Role
from engine.domain.job import FINISHED, JobState
from gateway.cli.ask import ask
from gateway.cli.job_send import send
from gateway.cli.job_wait import submit_and_wait
from gateway.cli.live import Line, line_options, plain
from gateway.cli.options import json_of

JOBS = "/api/v1/jobs"
ENGINE = "/api/v1/engine/jobs"

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def jobs() -> None:
    """
    Submit, see and steer the jobs of a running node.
    """


@jobs.command("list")
@click.option("--state", type=click.Choice([state.value for state in JobState]), help="Only these.")
@click.option("--type", "kind", metavar="TYPE", help="Only these, such as episode.import.")
@click.option("--episode", metavar="ID", help="Only those of this episode.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One job a line, whole.")
@line_options
def list_(
    state: str | None,
    kind: str | None,
    episode: str | None,
    limit: int,
    as_json: bool,
    url: str,
    token: str | None,
    data_dir: Path | None,
) -> None:
    """
    List jobs, newest first: id, state, progress, attempts, type, error.
    """
    wanted = {"state": state, "type": kind, "episode": episode, "limit": limit}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    for job in ask(Line.of(url, token, data_dir), "GET", f"{JOBS}?{query}")["data"]:
        click.echo(json.dumps(job) if as_json else line_of_job(job))


@jobs.command()
@click.argument("id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As the node answers it.")
@line_options
def show(id: str, as_json: bool, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Show a job, and what happened to it.
    """
    job = ask(Line.of(url, token, data_dir), "GET", _path(id))
    if as_json:
        click.echo(json.dumps(job, indent=2))
        return
    for name in SHOWN:
        if job[name] not in (None, "", {}):
            value = json.dumps(job[name], ensure_ascii=False) if name in ("payload", "result") else job[name]
            click.echo(plain(f"{name:<13} {value}"))
    for frame in job["history"]:
        data = frame["data"]
        progress = f"{data['job']['progress']:.0%}" if frame["event"] == "job_progress" else ""
        more = (progress, data.get("message"), data.get("error"), data.get("nextRunAt"))
        click.echo(plain("  ".join([data["timestamp"], frame["event"], *filter(None, more)])))


@jobs.command()
@click.argument("type", metavar="TYPE")
@click.option("--payload", metavar="JSON", default="{}", help="What the handler needs, a JSON object.")
@click.option("--payload-file", type=click.File("rb"), help="The same, from a file; - is stdin.")
@click.option("--episode", metavar="ID", help="The episode that it belongs to.")
@click.option("--priority", type=click.IntRange(0, 9), default=0, show_default=True, help="9 goes first.")
@click.option("--delay", metavar="D", default="0s", help='Not before that long from now, such as "5m".')
@click.option("--unique-key", metavar="KEY", help="Only if no unfinished job of the type has this key.")
@click.option("--max-attempts", type=click.IntRange(1, 100), help="How often it is tried.")
@click.option("--timeout", metavar="D", help="How long one attempt may take.")
@click.option(
    "--wait",
    is_flag=True,
    help="Show how it gets on until it ends; exit with 1 if it fails, with 130 if Ctrl-C ends the waiting.",
)
@line_options
def submit(
    type: str,
    payload: str,
    payload_file: Any,
    episode: str | None,
    priority: int,
    delay: str,
    unique_key: str | None,
    max_attempts: int | None,
    timeout: str | None,
    wait: bool,
    url: str,
    token: str | None,
    data_dir: Path | None,
) -> None:
    """
    Submit a job of a TYPE that the node runs, and print its id; with --wait, its result.
    """
    wanted = {
        "type": type,
        "payload": json_of(payload, payload_file, "--payload"),
        "episode_id": episode,
        "priority": priority,
        "delay": _seconds(delay, "--delay"),
        "unique_key": unique_key,
        "max_attempts": max_attempts,
        "timeout": None if timeout is None else _seconds(timeout, "--timeout"),
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    line = Line.of(url, token, data_dir, Role.EDITOR)
    if wait:
        submit_and_wait(line, wanted)
    else:
        click.echo(ask(line, "POST", JOBS, wanted)["id"])


@jobs.command()
@click.argument("id", metavar="ID")
@line_options
def retry(id: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Let a failed or cancelled job begin anew, with all its attempts.
    """
    click.echo(line_of_job(ask(Line.of(url, token, data_dir, Role.EDITOR), "POST", _path(id, "/retry"))))


@jobs.command()
@click.argument("id", metavar="ID")
@line_options
def cancel(id: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Cancel a job: one that waits at once, one that runs as soon as its handler has stopped.
    """
    job = ask(Line.of(url, token, data_dir, Role.EDITOR), "POST", _path(id, "/cancel"))
    click.echo(line_of_job(job) + ("  is told to stop" if job["cancel_requested"] else ""))


@jobs.command()
@click.option("--older-than", metavar="D", required=True, help='How long ago they ended, such as "12h".')
@click.option("--state", type=click.Choice([state.value for state in FINISHED]), help="Only these.")
@line_options
def purge(older_than: str, state: str | None, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Delete jobs that ended long ago. What they did, and their events, stay.
    """
    query: dict[str, object] = {"older_than": math.ceil(_seconds(older_than, "--older-than"))}
    if state is not None:
        query["state"] = state
    line, deleted = Line.of(url, token, data_dir, Role.OPERATOR), 0
    # The node deletes a bounded number at a time.
    while now := ask(line, "DELETE", f"{JOBS}?{urlencode(query)}")["deleted"]:
        deleted += now
    click.echo(f"{deleted} deleted")


@jobs.command()
@click.argument("kind", type=click.Choice(["type", "source"]))
@click.argument("name", metavar="NAME")
@line_options
def pause(kind: str, name: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Let no node begin jobs of a type, or take any from a source; those that run go on.
    """
    _steer(kind, name, "pause", Line.of(url, token, data_dir, Role.OPERATOR))


@jobs.command()
@click.argument("kind", type=click.Choice(["type", "source"]))
@click.argument("name", metavar="NAME")
@line_options
def resume(kind: str, name: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    End a pause.
    """
    _steer(kind, name, "resume", Line.of(url, token, data_dir, Role.OPERATOR))


@jobs.command()
@line_options
def stats(url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Show what waits and runs by type, what came of it on this node, and every source.
    """
    found = ask(Line.of(url, token, data_dir, Role.OPERATOR), "GET", ENGINE)
    for name, of in found["types"].items():
        here = " ".join(f"{what} {of['here'][what]}" for what in HERE if of["here"][what])
        paused = f"paused by {of['paused']['by']}" if of["paused"] else ""
        waiting = f"queued {of['queued']} running {of['running']} retry {of['retry']}"
        click.echo(plain("  ".join(part for part in (name, waiting, here and f"({here})", paused) if part)))
    for name, of in found["sources"].items():
        pause = of.pop("paused")
        told = "  ".join(f"{what}={value}" for what, value in of.items() if value is not None)
        paused = f"paused by {pause['by']}" if pause else ""
        click.echo(plain(f"source {name}  {told}  {paused}".rstrip()))


jobs.add_command(send)

SHOWN = (
    "id", "type", "state", "attempt", "max_attempts", "priority", "progress", "message", "error", "result",
    "payload", "episode_id", "unique_key", "source", "submitted_by", "created_at", "next_run_at",
    "started_at", "finished_at",
)  # fmt: skip
HERE = ("started", "completed", "retried", "failed", "cancelled", "released", "lost")


def line_of_job(job: dict[str, Any]) -> str:
    """
    A job in a line for people.
    """
    progress = "" if job["progress"] is None else f"{job['progress']:.0%}"
    attempts = f"{job['attempt']}/{job['max_attempts']}"
    parts = (
        job["id"],
        f"{job['state']:<9}",
        f"{progress:>4}",
        f"{attempts:>5}",
        job["type"],
        job["error"] or "",
    )
    return plain("  ".join(parts).rstrip())


def _path(id: str, more: str = "") -> str:
    return f"{JOBS}/{quote(id, safe='')}{more}"


def _steer(kind: str, name: str, what: str, line: Line) -> None:
    ask(line, "POST", f"{ENGINE}/{kind}s/{quote(name, safe='')}/{what}")
    click.echo(plain(f"{kind} {name} is {what.removesuffix('e')}ed"))


def _seconds(text: str, option: str) -> float:
    try:
        return read_duration(text)
    except ValueError:
        raise click.BadParameter(
            f'must be a duration such as "30s" or "12h", not {text!r}', param_hint=option
        ) from None
