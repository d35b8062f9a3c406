"""`greenroom jobs send`: put a message into the queue of SQS, checked before it goes."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import trio

from conf.settings import Sqs
from engine.domain import job_request
from engine.domain.envelope import VERSION, Envelope, Submit, decode
from engine.domain.event import iso, utc_now
from engine.domain.fields import FieldError, Invalid
from engine.errors import SourceUnavailableError
from engine.sources.sqs import MessageId, SqsQueue
from gateway.cli.options import config_option, json_of, load_settings, overrides_of, own_name

# A sender's own name space, for the deduplication of FIFO queues.
_NAMESPACE = uuid.UUID("0c1d8f0e-2d7b-5b0a-8a86-6a6b0c4e5d11")


@click.command()
@click.argument("type", metavar="TYPE")
@click.option("--data", metavar="JSON", default="{}", help="What the type says, a JSON object.")
@click.option(
    "--data-file", type=click.File("r", encoding="utf-8"), help="The same, from a file; - is stdin."
)
@click.option("--job-id", metavar="ID", help="The job; a submission may choose its id.")
@click.option("--fence", type=int, help="Of a report: the number that the worker claimed the job with.")
@click.option("--seq", type=int, help="Of a report: grows with each under one fence.")
@click.option("--attempt", type=int, help="Of a report: which attempt it is of.")
@click.option("--subject", metavar="TOPIC", help="The episode that it is about, episode:ID.")
@click.option("--traceparent", metavar="TEXT", help="Of W3C Trace Context.")
@click.option("--id", metavar="ID", help="The message's own id; the same id is the same message.")
@click.option("--source", metavar="NAME", help="Who sends it, and submits. Default: your user name.")
@click.option("--group", metavar="ID", help="Of a FIFO queue: the group. Default: the job, or the message.")
@click.option("--queue-url", metavar="URL", help="The queue, if not sqs.queue_url.")
@click.option("--endpoint", metavar="URL", help="The endpoint, if not sqs.endpoint.")
@click.option("--region", metavar="NAME", help="The region, if not sqs.region.")
@click.option("--print", "only_print", is_flag=True, help="Print the message instead of sending it.")
@config_option
def send(
    type: str,
    data: str,
    data_file: Any,
    group: str | None,
    queue_url: str | None,
    endpoint: str | None,
    region: str | None,
    only_print: bool,
    config: Path | None,
    **header: str | int | None,
) -> None:
    """
    Send a message of a TYPE to the queue of SQS, and print SQS's id of it.

    \b
    greenroom jobs send job.submit --data '{"type": "episode.import", "payload": {"path": "a.csv"}}'
    greenroom jobs send job.started --job-id ID --fence 1 --seq 0
    greenroom jobs send job.progress --job-id ID --fence 1 --seq 1 --data '{"fraction": 0.4}'
    greenroom jobs send job.completed --job-id ID --fence 1 --seq 2 --data '{"result": 42}'

    The types and their data: docs/sqs.md. Credentials come from where boto3 looks for them.
    """
    body = message(type, json_of(data, data_file, "--data"), header)
    if only_print:
        click.echo(body)
        return
    overrides = overrides_of({"sqs.queue_url": queue_url, "sqs.endpoint": endpoint, "sqs.region": region})
    settings = load_settings(config, overrides).sqs
    if not settings.queue_url:
        raise click.UsageError("there is no queue: set sqs.queue_url, or give --queue-url")
    try:
        click.echo(trio.run(_send, settings, body, group))
    except SourceUnavailableError as error:
        raise click.ClickException(f"{settings.queue_url}: {error}") from None


def message(type: str, data: object, header: dict[str, str | int | None]) -> str:
    """
    The text of a message, as a node will read it. Raises UsageError that names every mistake.
    """
    known = {name: value for name, value in header.items() if value is not None}
    known.setdefault("id", str(uuid.uuid4()))
    known.setdefault("source", own_name())
    fields = {"v": VERSION, "type": type, "time": iso(utc_now()), **known, "data": data}
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    errors = _mistakes(decode(body))
    if errors:
        raise click.UsageError("\n".join(f"{error.field}: {error.message}" for error in errors))
    return body


def _mistakes(read: Envelope | Invalid) -> Sequence[FieldError]:
    if isinstance(read, Invalid):
        return read.errors
    # Which types there are, and what their payloads hold, only a node knows.
    found = job_request.parse(read.body.data) if isinstance(read.body, Submit) else None
    if not isinstance(found, Invalid):
        return ()
    return [FieldError(f"data.{error.field}", error.message) for error in found.errors]


async def _send(settings: Sqs, body: str, group: str | None) -> MessageId:
    queue = await SqsQueue.open(settings)
    if not settings.queue_url.endswith(".fifo"):
        return await queue.send(body)
    fields = json.loads(body)
    deduplication = str(uuid.uuid5(_NAMESPACE, f"{fields['source']}\n{fields['id']}"))
    return await queue.send(
        body, group=group or fields.get("job_id") or fields["id"], deduplication=deduplication
    )
