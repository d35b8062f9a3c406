"""What the doctor says of a queue of SQS: against a real endpoint, and against what is none."""

import json
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.queue_service import CREDENTIALS, QueueService

Run = Callable[..., subprocess.CompletedProcess[str]]
Doctor = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def doctor(greenroom: Run, tmp_path: Path) -> Doctor:
    """
    The doctor's exit code, and what it says of the queue.
    """

    def run(queue_url: str, **more: str) -> tuple[int, list[str]]:
        named = {"GREENROOM_SQS_QUEUE_URL": queue_url, "GREENROOM_LIMITS_SESSIONS": "10"}
        done = greenroom("doctor", "--data-dir", tmp_path / "data", **{**named, **CREDENTIALS, **more})
        assert done.stderr == ""
        told = [line for line in done.stdout.splitlines() if "SQS" in line or "dead letters" in line]
        return done.returncode, told

    return run


@contextmanager
def endpoint(status: int, code: str, refused: Collection[str]) -> Iterator[str]:
    """
    What answers these requests with one error of AWS's, and the others as if every receipt were bad.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            failed = {"Id": "0", "Code": "ReceiptHandleIsInvalid", "SenderFault": True}
            said: dict[str, object] = {"Attributes": {}, "Successful": [], "Failed": [failed]}
            is_refused = self.headers["X-Amz-Target"].rpartition(".")[2] in refused
            if is_refused:
                said = {"__type": f"com.amazonaws.sqs#{code}", "message": "no"}
            body = json.dumps(said).encode()
            self.send_response(status if is_refused else 200)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_said_of_a_queue_that_is_not_configured(doctor: Doctor) -> None:
    """
    Most nodes have none.
    """
    assert doctor("") == (0, [])


def test_a_good_queue_is_good_and_loses_no_message(doctor: Doctor, queue_service: QueueService) -> None:
    """
    It answers, says where dead letters go, and everything in it can still be received.
    """
    queue = queue_service.queue(fifo=True, max_receives=5)
    queue.send("one", "two", group="g")
    code, told = doctor(queue.url, GREENROOM_SQS_ENDPOINT=queue_service.url)
    assert (code, told) == (
        0,
        [
            f"ok    SQS queue: {queue.url} answers; a FIFO queue",
            "ok    dead letters: a message goes there after 5 deliveries",
        ],
    )
    assert queue.counts() == (2, 0)


@pytest.mark.parametrize(
    ("max_receives", "said"),
    [
        (None, "note  dead letters: the queue has no dead-letter queue: what cannot be read comes again"),
        (2, "note  dead letters: a message goes there after 2 deliveries, which is early"),
    ],
)
def test_a_queue_that_keeps_or_gives_up_bad_messages_is_noted(
    doctor: Doctor, queue_service: QueueService, max_receives: int | None, said: str
) -> None:
    """
    With what to do about it; a node runs all the same.
    """
    queue = queue_service.queue(max_receives=max_receives)
    code, [first, second] = doctor(queue.url, GREENROOM_SQS_ENDPOINT=queue_service.url)
    assert (code, first) == (0, f"ok    SQS queue: {queue.url} answers; a standard queue")
    assert second.startswith(said)
    assert second.endswith("give the queue a redrive policy with a maxReceiveCount of 5 or more")


def test_a_queue_that_is_not_there_or_not_to_be_reached_is_wrong(
    doctor: Doctor, queue_service: QueueService
) -> None:
    """
    Which of both, and what to look at.
    """
    missing = f"{queue_service.url}/000000000000/no-such-queue"
    code, [told] = doctor(missing, GREENROOM_SQS_ENDPOINT=queue_service.url)
    assert (code, told.startswith(f"wrong SQS queue: there is no queue {missing} (")) == (1, True)
    nowhere = "http://127.0.0.1:1/000000000000/jobs"
    code, [told] = doctor(nowhere, GREENROOM_SQS_ENDPOINT="http://127.0.0.1:1")
    assert (code, told.startswith(f"wrong SQS queue: {nowhere} cannot be reached (")) == (1, True)
    assert "sqs.endpoint" in told


def test_credentials_that_are_missing_are_wrong(doctor: Doctor, queue_service: QueueService) -> None:
    """
    With where they are looked for.
    """
    queue = queue_service.queue()
    none = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
    code, [told] = doctor(queue.url, GREENROOM_SQS_ENDPOINT=queue_service.url, **none)
    assert (code, told.startswith(f"wrong SQS queue: there are no credentials for {queue.url} (")) == (
        1,
        True,
    )
    assert "the environment, a profile, or the machine's role" in told


@pytest.mark.parametrize(
    ("code", "grade", "said"),
    [
        ("InvalidClientTokenId", "wrong", "the credentials are not good for"),
        ("ExpiredToken", "wrong", "the credentials are not good for"),
        ("AccessDeniedException", "note ", "may not be asked how it is set up; allow sqs:GetQueueAttributes"),
        ("InternalError", "wrong", "does not answer as it should"),
    ],
)
def test_what_aws_refuses_is_told_in_plain_words(doctor: Doctor, code: str, grade: str, said: str) -> None:
    """
    A node that may not ask how its queue is set up can do its work; one without good credentials cannot.
    """
    refused = {"GetQueueAttributes"}
    with endpoint(500 if code == "InternalError" else 403, code, refused) as url:
        queue_url = f"{url}/000000000000/jobs"
        exit_code, [told] = doctor(queue_url, GREENROOM_SQS_ENDPOINT=url)
    assert told.startswith(f"{grade} SQS queue: ")
    assert said in told
    assert queue_url in told
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in told
    assert exit_code == (1 if grade == "wrong" else 0)


@pytest.mark.parametrize(
    ("refused", "names"),
    [
        ({"DeleteMessageBatch"}, "sqs:DeleteMessage"),
        ({"ChangeMessageVisibilityBatch"}, "sqs:ChangeMessageVisibility"),
        (
            {"DeleteMessageBatch", "ChangeMessageVisibilityBatch"},
            "sqs:DeleteMessage and sqs:ChangeMessageVisibility",
        ),
    ],
)
def test_what_a_node_may_not_do_with_messages_is_wrong(
    doctor: Doctor, refused: Collection[str], names: str
) -> None:
    """
    It would receive the same ones for ever; nothing else would tell before.
    """
    with endpoint(403, "AccessDeniedException", refused) as url:
        queue_url = f"{url}/000000000000/jobs"
        exit_code, told = doctor(queue_url, GREENROOM_SQS_ENDPOINT=url)
    assert exit_code == 1
    assert told[-1] == (
        f"wrong SQS queue: {names} on {queue_url} is refused: messages would come again and again;"
        f" allow {names} to the node"
    )
