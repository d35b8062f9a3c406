"""Messages of SQS received, committed and deleted, against a bare boto3 loop that receives and deletes."""

import http.client
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from loads import BenchError
from programs import SETTINGS, Program, node
from report import table

sys.path.append(str(Path(__file__).parents[2]))
from tests.queue_service import CREDENTIALS, QueueService, TestQueue, serving

if TYPE_CHECKING:
    from parts import Bench, Result

OURS, BARE = "greenroom", "bare boto3 loop"
# Ours to the bare loop's, at least.
RATIO = 0.5
MESSAGES = 3000
# Seconds after which a node that was told of a pause has no poll under way any more.
SETTLE = 4.0
# Seconds that the slowest of them may take.
PATIENCE = 120.0


def measure(bench: "Bench") -> "Result":
    """
    Each in turn, with the same messages, from the same endpoint: how many a second.
    """
    directory = bench.directory / "sqs"
    directory.mkdir()
    os.environ |= CREDENTIALS
    found: dict[str, list[float]] = {BARE: [], OURS: []}
    with serving(directory) as service:
        queue = service.queue(max_receives=5)
        # What runs first would pay for what is imported and connected only once.
        _bare(_filled(queue, 200))
        with node(bench.directory / "node", _settings(service, queue)) as program:
            _ask(program, "POST", "sources/sqs/pause")
            time.sleep(SETTLE)
            for _ in range(bench.rounds):
                found[BARE].append(_bare(_filled(queue, MESSAGES)))
                found[OURS].append(_ours(program, _filled(queue, MESSAGES)))
    ratios = [our / their for our, their in zip(found[OURS], found[BARE], strict=True)]
    return {
        "per_second": {name: median(rates) for name, rates in found.items()},
        "ratios": ratios,
        "ratio": median(ratios),
    }


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    return {f"messages of SQS per second at least {RATIO:g} times the {BARE}'s": result["ratio"] >= RATIO}


def report(result: "Result") -> list[str]:
    """
    Both rates, and the ratio of what was measured one after the other.
    """
    ratios = result["ratios"]
    return [
        table(
            f"{MESSAGES:,} messages of SQS, received, committed as jobs, deleted",
            ("", "per second"),
            ((name, f"{rate:.0f}") for name, rate in result["per_second"].items()),
        ),
        f"ours to the bare loop's: {result['ratio']:.2f}"
        f" (median of {len(ratios)}, from {min(ratios):.2f} to {max(ratios):.2f})",
    ]


def _settings(service: QueueService, queue: TestQueue) -> str:
    return (
        f'{SETTINGS}[sqs]\nqueue_url = "{queue.url}"\nendpoint = "{service.url}"\nwait = "1s"\n'
        '[jobs]\nexternal_types = ["bench.elsewhere"]\n'
    )


def _filled(queue: TestQueue, count: int) -> TestQueue:
    for start in range(0, count, 10):
        entries = [{"Id": str(number), "MessageBody": _body(start + number)} for number in range(10)]
        queue.client.send_message_batch(QueueUrl=queue.url, Entries=entries)
    return queue


def _body(number: int) -> str:
    return json.dumps(
        {
            "v": 1,
            "id": f"{time.monotonic_ns()}-{number}",
            "type": "job.submit",
            "source": "bench",
            "time": "2026-01-07T12:00:00Z",
            "data": {"type": "bench.elsewhere", "payload": {"number": number}},
        }
    )


def _bare(queue: TestQueue) -> float:
    """
    Messages a second of a loop that receives ten and deletes ten.
    """
    began, count = time.perf_counter(), 0
    while True:
        answer = queue.client.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
        if not (messages := answer.get("Messages")):
            return count / (time.perf_counter() - began)
        queue.client.delete_message_batch(
            QueueUrl=queue.url,
            Entries=[
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
            ],
        )
        count += len(messages)


def _ours(program: Program, queue: TestQueue) -> float:
    """
    Messages a second from the first tenth to the last message that a node deleted, after its commit.
    """
    before = _deleted(program)
    _ask(program, "POST", "sources/sqs/resume")
    first: tuple[float, int] | None = None
    deadline = time.perf_counter() + PATIENCE
    while (count := _deleted(program) - before) < MESSAGES:
        if first is None and count >= MESSAGES / 10:
            first = time.perf_counter(), count
        if time.perf_counter() > deadline:
            raise BenchError(f"only {count} of {MESSAGES} messages of SQS were deleted in {PATIENCE:g} s")
        time.sleep(0.1)  # being asked costs the node, too
    if first is None:
        raise BenchError("all messages of SQS were gone before the first look")
    rate = (MESSAGES - first[1]) / (time.perf_counter() - first[0])
    _ask(program, "POST", "sources/sqs/pause")
    time.sleep(SETTLE)
    return rate


def _deleted(program: Program) -> int:
    return int(_ask(program, "GET", "")["sources"]["sqs"]["deleted"])


def _ask(program: Program, method: str, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=30)
    try:
        headers = {"Authorization": f"Bearer {program.token}"}
        connection.request(method, f"/api/v1/engine/jobs/{path}".rstrip("/"), headers=headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise BenchError(f"{method} {path}: {response.status} {body!r}")
    return json.loads(body)
