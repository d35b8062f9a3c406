"""What a node needs of its queue of SQS: that it answers, credentials, and a place for dead letters."""

from collections.abc import Iterator

import trio

from conf.settings import Settings, Sqs
from engine.errors import SourceUnavailableError
from engine.sources.sqs import FEW_RECEIVES, QueueFacts, SqsQueue
from engine.sources.sqs_trouble import Trouble, trouble_of
from gateway.cli.checks.finding import Finding, Grade

# Seconds in which the queue must have told how it is set up: boto3's own timeouts each begin anew.
PATIENCE = 15.0

_WHAT = "SQS queue"
_SAID = {
    Trouble.UNREACHABLE: (
        "{url} cannot be reached",
        "see whether sqs.queue_url, sqs.region and sqs.endpoint are right, and the network lets you there",
    ),
    Trouble.NO_CREDENTIALS: (
        "there are no credentials for {url}",
        "give them where boto3 looks for them: the environment, a profile, or the machine's role",
    ),
    Trouble.BAD_CREDENTIALS: (
        "the credentials are not good for {url}: wrong, expired, or of another region",
        "renew them, or set sqs.region; see to this machine's clock",
    ),
    Trouble.NO_QUEUE: (
        "there is no queue {url}",
        "create it, or set sqs.queue_url, and sqs.region, to one that there is",
    ),
    Trouble.OTHER: ("{url} does not answer as it should", ""),
}


def of_queue(settings: Settings) -> Iterator[Finding]:
    """
    All of it, if a queue is named. No message is received: that would hide it from who needs it, and count.
    """
    if not settings.sqs.queue_url:
        return
    found = list(_set_up(settings.sqs))
    yield from found
    if max(one.grade for one in found) < Grade.WRONG:
        yield from _permissions(settings.sqs)


def _set_up(sqs: Sqs) -> Iterator[Finding]:
    try:
        facts = trio.run(_facts, sqs)
    except trio.TooSlowError:
        yield _slow(sqs)
    except SourceUnavailableError as error:
        yield _trouble(sqs, error)
    else:
        kind = "FIFO" if facts.fifo else "standard"
        yield Finding(Grade.OK, _WHAT, f"{sqs.queue_url} answers; a {kind} queue")
        yield _dead_letters(facts)


def _permissions(sqs: Sqs) -> Iterator[Finding]:
    """
    What a node does with every message. Whether it may receive one, only receiving would show.
    """
    try:
        forbidden = trio.run(_forbidden, sqs)
    except trio.TooSlowError:
        yield _slow(sqs)
        return
    if forbidden:
        names = " and ".join(forbidden)
        text = f"{names} on {sqs.queue_url} is refused: messages would come again and again"
        yield Finding(Grade.WRONG, _WHAT, text, f"allow {names} to the node")


async def _forbidden(settings: Sqs) -> list[str]:
    found = []
    with trio.fail_after(PATIENCE):
        queue = await SqsQueue.open(settings)
        tries = {"sqs:DeleteMessage": queue.try_delete, "sqs:ChangeMessageVisibility": queue.try_hide}
        for name, attempt in tries.items():
            try:
                await attempt()
            except SourceUnavailableError as error:
                # What else may be wrong was told before; of the receipt nobody expects that it is good.
                if trouble_of(error) is Trouble.FORBIDDEN:
                    found.append(name)
    return found


async def _facts(settings: Sqs) -> QueueFacts:
    with trio.fail_after(PATIENCE):
        return await (await SqsQueue.open(settings)).facts()


def _slow(settings: Sqs) -> Finding:
    return Finding(Grade.WRONG, _WHAT, f"{settings.queue_url} did not answer within {PATIENCE:g} s")


def _trouble(settings: Sqs, error: SourceUnavailableError) -> Finding:
    trouble = trouble_of(error)
    if trouble is Trouble.FORBIDDEN:
        # It is not what a node needs to do its work.
        return Finding(
            Grade.NOTE,
            _WHAT,
            f"{settings.queue_url} may not be asked how it is set up",
            "allow sqs:GetQueueAttributes, and see that ReceiveMessage is allowed",
        )
    text, remedy = _SAID[trouble]
    return Finding(Grade.WRONG, _WHAT, f"{text.format(url=settings.queue_url)} ({error})", remedy)


def _dead_letters(facts: QueueFacts) -> Finding:
    what = "dead letters"
    remedy = f"give the queue a redrive policy with a maxReceiveCount of {FEW_RECEIVES} or more"
    if facts.max_receives is None:
        text = "the queue has no dead-letter queue: what cannot be read comes again and again"
        return Finding(Grade.NOTE, what, text, remedy)
    after = f"a message goes there after {facts.max_receives} deliveries"
    if facts.max_receives < FEW_RECEIVES:
        text = f"{after}, which is early: a delivery counts although its answer was lost"
        return Finding(Grade.NOTE, what, text, remedy)
    return Finding(Grade.OK, what, after)
