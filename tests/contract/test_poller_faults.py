"""The poller when SQS is away, broken, slow, or repeats itself: nothing is lost, nothing has effect twice."""

import json
import time
from collections import deque

import attrs
import pytest
import trio

from conf.settings import load
from engine.errors import SourceUnavailableError
from engine.sources.sqs import Delivery, MessageId, SqsQueue
from tests.contract.post_office import message, post_office

BROKEN = (500, b'{"__type": "InternalError", "message": "we encountered an error"}')
EVERY = ("ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "GetQueueAttributes")


@pytest.mark.parametrize(
    "answer",
    [
        BROKEN,
        (503, b"<html>Service Unavailable</html>"),
        (400, b'{"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "no"}'),
        (200, b"<html>a proxy's login page</html>"),
        (200, b"[1, 2]"),
        (200, b'{"Messages": [{"Body": "no id"}]}'),
        (200, b'{"Messages": "many"}'),
        (200, b"\xff\xfe"),
        (200, b""),
    ],
)
async def test_answers_that_are_errors_or_no_answers_are_borne(queue_service, answer):
    """
    Whatever comes instead of an answer, for whatever was asked: the poller is there when it is over.
    """
    async with post_office(queue_service) as office:
        for operation in EVERY:
            office.proxy.once[operation] = deque([answer] * 3)
        await office.send(*(message(f"m{number}") for number in range(5)))
        await office.start()
        await office.until_empty()
        assert sorted(office.clerk.applied) == [f"m{number}" for number in range(5)]
        assert office.proxy.once["ReceiveMessage"] == deque()
        assert len(office.clerk.seen) == 5


async def test_sqs_away_for_many_polls_loses_nothing(queue_service):
    """
    What was held is committed meanwhile, and deleted afterwards; the rest comes when SQS is back.
    """
    async with post_office(queue_service, in_flight=3) as office:
        office.clerk.open = trio.Event()
        await office.send(*(message(f"m{number}") for number in range(9)))
        await office.start()
        await office.until(lambda: office.poller.statistics().held == 3)
        await office.proxy.go_away()
        office.clerk.open.set()
        await office.until(lambda: len(office.clerk.applied) == 3)
        await office.until(lambda: office.poller.statistics().failures >= 12)
        assert office.poller.statistics().last_error is not None
        office.proxy.away = False
        await office.until_empty()
        assert sorted(office.clerk.applied) == [f"m{number}" for number in range(9)]
        # The first three were never given up, so they did not come twice.
        assert len(office.clerk.seen) == 9
        assert office.poller.statistics().last_error is None


async def test_polls_go_on_within_the_backoff_of_the_return(queue_service):
    """
    The wait between two attempts never grows beyond its cap.
    """
    async with post_office(queue_service) as office:
        await office.proxy.go_away()
        await office.start()
        await office.until(lambda: office.poller.statistics().failures >= 10)
        office.proxy.away = False
        back_at = trio.current_time()
        await office.until(lambda: office.poller.statistics().last_successful_poll_age is not None)
        # 0.4 s of backoff and 1 s that the poll itself waits; the rest is for a busy machine.
        assert trio.current_time() - back_at < 10


async def test_an_answer_that_comes_too_late_costs_a_delivery_and_nothing_else(queue_service):
    """
    The message was handed out to nobody: it is seen again after its visibility timeout.
    """
    async with post_office(queue_service, visibility_timeout=2.0, request_timeout=1.0) as office:
        office.proxy.slow["ReceiveMessage"] = 3.0
        await office.send(message("m1"))
        await office.start()
        await office.until(lambda: "Timeout" in str(office.poller.statistics().last_error))
        office.proxy.slow.clear()
        await office.until_empty()
        assert office.clerk.applied == ["m1"]
        assert office.poller.statistics().redelivered == 1


async def test_answers_that_are_slow_but_in_time_are_used(queue_service):
    """
    Slow deletions hold up nothing else.
    """
    async with post_office(queue_service) as office:
        office.proxy.slow = {"ReceiveMessage": 0.4, "DeleteMessageBatch": 0.8}
        await office.send(*(message(f"m{number}") for number in range(30)))
        await office.start()
        await office.until(lambda: len(office.clerk.applied) == 30)
        await office.until_empty()
        assert len(office.clerk.seen) == 30
        assert office.poller.statistics().failures == 0


async def test_a_deletion_that_never_arrived_brings_the_message_again_to_no_effect(queue_service):
    """
    SQS delivers at least once: the second time changes nothing, and deletes it for good.
    """
    async with post_office(queue_service, visibility_timeout=1.0) as office:
        lie = json.dumps({"Successful": [{"Id": "0"}], "Failed": []}).encode()
        office.proxy.once["DeleteMessageBatch"] = deque([(200, lie)])
        await office.send(message("m1"))
        await office.start()
        await office.until(lambda: office.poller.statistics().unchanged == 1)
        await office.until_empty()
        assert office.clerk.applied == ["m1"]
        assert office.clerk.seen == ["m1", "m1"]


async def test_the_same_message_twice_in_one_answer_is_held_once(queue_service):
    """
    Whatever SQS makes of its promise, nobody is asked twice at the same time.
    """
    async with post_office(queue_service) as office:
        office.proxy.rewrite["ReceiveMessage"] = lambda answer: {
            "Messages": list(reversed(answer.get("Messages", []) * 2))
        }
        await office.send(message("m1"), message("m2"))
        await office.start()
        await office.until_empty()
        assert sorted(office.clerk.seen) == ["m1", "m2"]


async def test_a_batch_of_deletions_that_fails_in_part_is_repeated_in_part(queue_service):
    """
    What SQS did not delete is deleted again; what it says is gone is not asked for any more.
    """
    async with post_office(queue_service) as office:
        failures = [
            {"Id": "0", "SenderFault": False, "Code": "InternalError"},
            {"Id": "1", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"},
        ]
        successes = [{"Id": str(number)} for number in range(2, 10)]
        office.proxy.once["DeleteMessageBatch"] = deque(
            [(200, json.dumps({"Successful": successes, "Failed": failures}).encode())]
        )
        await office.send(*(message(f"m{number}") for number in range(10)))
        await office.start()
        await office.until(lambda: office.poller.statistics().deleted == 10)
        assert office.proxy.count("DeleteMessageBatch") == 2
        assert office.poller.statistics().held == 0


async def test_a_deletion_without_answer_does_not_hold_up_the_end(queue_service):
    """
    The poller stops in bounded time although SQS answers nothing any more.
    """
    async with post_office(queue_service, request_timeout=30.0) as office:
        office.proxy.slow = {"DeleteMessageBatch": 60, "ChangeMessageVisibilityBatch": 60}
        await office.send(message("m1"))
        await office.start()
        await office.until(lambda: office.clerk.applied)
        before = time.monotonic()
        await office.stop()
        # A poll's wait of a second, five to give back; the rest is for a busy machine.
        assert time.monotonic() - before < 20


async def test_a_queue_that_is_not_there_is_said_so(queue_service):
    """
    In SQS's own words, which name what is wrong.
    """
    async with post_office(queue_service) as office:
        queue = await SqsQueue.open(attrs.evolve(office.settings, queue_url=f"{office.queue.url}x"))
        with pytest.raises(SourceUnavailableError, match="does not exist"):
            await queue.receive(1)


async def test_a_region_is_found_or_asked_for(queue_service, monkeypatch):
    """
    In the settings, where boto3 looks, or in the queue's URL; else the error says what is missing.
    """
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    def settings(**told):
        overrides = {f"sqs.{name}": value for name, value in told.items()}
        return load(None, environ={}, overrides=overrides).settings.sqs

    amazon = "https://sqs.ap-south-1.amazonaws.com/1/jobs"
    assert (await SqsQueue.open(settings(queue_url=amazon))).client.meta.region_name == "ap-south-1"
    named = await SqsQueue.open(settings(queue_url=amazon, region="us-west-2"))
    assert named.client.meta.region_name == "us-west-2"
    with pytest.raises(SourceUnavailableError, match=r"region.*sqs\.region"):
        await SqsQueue.open(settings(queue_url="https://queues.example/jobs"))


def test_what_gives_power_over_a_message_is_not_shown():
    """
    Neither its receipt nor its body, which may be anybody's secret.
    """
    shown = repr(Delivery(id=MessageId("1"), receipt="handle", body="secret"))
    assert "handle" not in shown
    assert "secret" not in shown
