"""One queue of Amazon SQS: boto3 in worker threads, its errors translated. Knows nothing of jobs."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NewType

import attrs
import structlog
import trio

from conf.settings import Sqs
from engine.domain.event import traceparent_of
from engine.errors import SourceUnavailableError

MessageId = NewType("MessageId", str)

log = structlog.get_logger(__name__)

# The attribute of a message that names its place in a trace.
TRACEPARENT = "traceparent"
# What SQS takes in one request, at most.
BATCH = 10
# A poll, a deletion, an extension and a clean-up may be under way at once.
THREADS = 4
# Seconds after which a call is given up that has outlived boto3's own timeouts, which each byte starts anew.
SLACK = 1.0
# Deliveries that a queue should allow before it gives a message up: one counts although its answer was lost.
FEW_RECEIVES = 5
# How SQS refuses single messages that no other try helps: the receipt is too old, or the message is gone.
_LAPSED = frozenset(
    {"ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight", "InvalidReceiptHandle"}
)
# What no message was ever handed out with.
NO_RECEIPT = "greenroom-doctor-asks-whether-it-may"
_REGION = re.compile(r"https?://(?:sqs|queue)\.([a-z0-9-]+)\.")


@attrs.frozen(kw_only=True)
class Delivery:
    """
    One message as SQS handed it out; `count` is how often it did, this time included.
    """

    id: MessageId
    # Whoever has it can delete the message: none of it in logs.
    receipt: str = attrs.field(repr=False)
    body: str = attrs.field(repr=False)
    # FIFO queues only: what is in one group is handed out in order.
    group: str | None = None
    count: int = 1
    # Of W3C Trace Context, as tracing libraries attach it; None when it is none.
    traceparent: str | None = None


@attrs.frozen(kw_only=True)
class QueueFacts:
    """
    How the queue is set up. After `max_receives` deliveries SQS moves a message to the dead-letter queue.
    """

    fifo: bool
    max_receives: int | None


@attrs.define(eq=False, kw_only=True)
class SqsQueue:
    """
    Own the connections to one queue. Every method raises SourceUnavailableError, and can be asked again.
    """

    settings: Sqs
    client: Any
    limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(THREADS), init=False)

    @classmethod
    async def open(cls, settings: Sqs) -> "SqsQueue":
        """
        A queue that was not asked anything yet. boto3 is imported here, in a thread: it takes its time.
        """
        return cls(settings=settings, client=await trio.to_thread.run_sync(_client, settings))

    @property
    def visibility(self) -> int:
        """
        Seconds that a message is hidden from others once it was received.
        """
        return _whole(self.settings.visibility_timeout)

    async def facts(self) -> QueueFacts:
        """
        Ask how the queue is set up.
        """
        answer = await self._call(
            self.client.get_queue_attributes, AttributeNames=["All"], QueueUrl=self.settings.queue_url
        )
        found: Mapping[str, str] = answer.get("Attributes", {})
        try:
            redrive = json.loads(found.get("RedrivePolicy", "{}"))
            most = redrive.get("maxReceiveCount")
            return QueueFacts(
                fifo=found.get("FifoQueue") == "true", max_receives=None if most is None else int(most)
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise SourceUnavailableError(
                f"SQS answered with attributes that make no sense: {error}"
            ) from error

    async def receive(self, most: int) -> list[Delivery]:
        """
        Wait for messages and take at most so many of them, ten or fewer.

        A call that is cancelled ends all the same, and returns what it got: what it took would otherwise
        stay hidden from everybody.
        """
        # Bounded by boto3's timeouts; if an answer trickles, by this scope, and then it is lost anyway.
        bound = self.settings.wait + 1 + 2 * self.settings.request_timeout + SLACK
        with trio.CancelScope(shield=True, deadline=trio.current_time() + bound):
            answer = await self._call(
                self.client.receive_message,
                QueueUrl=self.settings.queue_url,
                MaxNumberOfMessages=min(most, BATCH),
                WaitTimeSeconds=_whole(self.settings.wait),
                VisibilityTimeout=self.visibility,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "MessageGroupId"],
                MessageAttributeNames=[TRACEPARENT],
            )
            return [_delivery(given) for given in answer.get("Messages", ())]
        raise SourceUnavailableError(f"SQS did not finish its answer within {bound:g} s")

    async def delete(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """
        Delete messages, ten or fewer. Returns those that are to be deleted again; the rest is gone.
        """
        return await self._each(self.client.delete_message_batch, deliveries, {})

    async def hide(self, deliveries: Iterable[Delivery], seconds: int) -> list[Delivery]:
        """
        Let messages, ten or fewer, be seen by others in so many seconds; 0 gives them back.

        Returns those that are to be hidden again.
        """
        return await self._each(
            self.client.change_message_visibility_batch, deliveries, {"VisibilityTimeout": seconds}
        )

    async def try_delete(self) -> None:
        """
        Ask whether messages may be deleted, by a receipt that is none: nothing happens to any message.
        """
        await self._try(self.client.delete_message_batch, {})

    async def try_hide(self) -> None:
        """
        The same for `hide`.
        """
        await self._try(self.client.change_message_visibility_batch, {"VisibilityTimeout": 0})

    async def _try(self, operation: Callable[..., Any], told: Mapping[str, object]) -> None:
        entries = [{"Id": "0", "ReceiptHandle": NO_RECEIPT, **told}]
        await self._call(operation, QueueUrl=self.settings.queue_url, Entries=entries)

    async def send(
        self, body: str, *, group: str | None = None, deduplication: str | None = None
    ) -> MessageId:
        """
        Put a message into the queue; group and deduplication id are for FIFO queues.
        """
        fifo = {"MessageGroupId": group, "MessageDeduplicationId": deduplication}
        answer = await self._call(
            self.client.send_message,
            QueueUrl=self.settings.queue_url,
            MessageBody=body,
            **{name: value for name, value in fifo.items() if value is not None},
        )
        return MessageId(str(answer.get("MessageId", "")))

    async def _each(
        self, operation: Callable[..., Any], deliveries: Iterable[Delivery], told: Mapping[str, object]
    ) -> list[Delivery]:
        numbered = {str(number): delivery for number, delivery in enumerate(deliveries)}
        entries = [
            {"Id": number, "ReceiptHandle": delivery.receipt, **told} for number, delivery in numbered.items()
        ]
        answer = await self._call(operation, QueueUrl=self.settings.queue_url, Entries=entries)
        settled = {each.get("Id") for each in answer.get("Successful", ())}
        for failure in answer.get("Failed", ()):
            code = str(failure.get("Code", "")).rpartition(".")[2]
            log.warning("SQS refused a message of a batch", code=code)
            if code in _LAPSED:
                settled.add(failure.get("Id"))
        # What the answer does not mention was not done either.
        return [delivery for number, delivery in numbered.items() if number not in settled]

    async def _call(self, operation: Callable[..., Any], **arguments: object) -> Mapping[str, Any]:
        # Abandoned if cancelled: harmless but for polls, which shield themselves.
        answer: object = await trio.to_thread.run_sync(
            lambda: _translated(operation, arguments), abandon_on_cancel=True, limiter=self.limiter
        )
        if not isinstance(answer, Mapping):
            raise SourceUnavailableError(f"SQS answered {type(answer).__name__} instead of an object")
        return answer


def _client(settings: Sqs) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=settings.request_timeout,
        # SQS answers a poll that found nothing only after its wait, in whole seconds.
        read_timeout=_whole(settings.wait) + settings.request_timeout,
        # Whoever calls knows better how long to wait, and when to give up.
        retries={"total_max_attempts": 1},
        max_pool_connections=THREADS,
        tcp_keepalive=True,
    )

    def make() -> Any:
        session = boto3.Session()
        named = _REGION.match(settings.queue_url)
        region = settings.region or session.region_name or (named[1] if named is not None else None)
        if region is None and settings.endpoint:
            region = "us-east-1"  # an endpoint that is not Amazon's does not ask
        if region is None:
            raise SourceUnavailableError("no region is known: set sqs.region, or AWS_REGION")
        return session.client(
            "sqs", region_name=region, endpoint_url=settings.endpoint or None, config=config
        )

    return _translated(make, {})


def _translated(operation: Callable[..., Any], arguments: Mapping[str, object]) -> Any:
    try:
        return operation(**arguments)
    except SourceUnavailableError:
        raise
    except Exception as error:
        # Not only boto3's own classes: answers that are no answers make its parsers raise anything.
        raise SourceUnavailableError(f"{type(error).__name__}: {error}") from error


def _delivery(given: object) -> Delivery:
    try:
        assert isinstance(given, Mapping)
        known = given.get("Attributes", {})
        return Delivery(
            id=MessageId(given["MessageId"]),
            receipt=given["ReceiptHandle"],
            body=given["Body"],
            group=known.get("MessageGroupId"),
            count=int(known.get("ApproximateReceiveCount", 1)),
            traceparent=traceparent_of(
                given.get("MessageAttributes", {}).get(TRACEPARENT, {}).get("StringValue")
            ),
        )
    except (AssertionError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise SourceUnavailableError("SQS answered with a message that is none") from error


def in_tens(deliveries: Sequence[Delivery]) -> list[Sequence[Delivery]]:
    """
    The same in as few requests as SQS allows.
    """
    return [deliveries[start : start + BATCH] for start in range(0, len(deliveries), BATCH)]


def _whole(seconds: float) -> int:
    return math.ceil(seconds)
