"""A real SQS endpoint on loopback, in a process of its own: ministack."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import boto3
from botocore.config import Config

# What ministack is shown for credentials; boto3's own chain finds them in the environment.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAOFTHETESTS000000",
    "AWS_SECRET_ACCESS_KEY": "secret-key-of-the-tests-0123456789",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_numbers = count(1)


@attrs.define(eq=False)
class QueueService:
    """
    The endpoint, and a client of the tests' own to see what is in it.
    """

    port: int
    client: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = boto3.client(
            "sqs",
            endpoint_url=self.url,
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 5}),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def queue(self, *, fifo: bool = False, max_receives: int | None = None) -> "TestQueue":
        """
        A new queue, with a dead-letter queue if messages are given up after so many receives.
        """
        name, suffix = f"jobs-{next(_numbers)}", ".fifo" if fifo else ""
        attributes = {"FifoQueue": "true"} if fifo else {}
        dead = None
        if max_receives is not None:
            dead = self._create(f"{name}-dead{suffix}", attributes)
            found = self.client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
            policy = {"deadLetterTargetArn": found["Attributes"]["QueueArn"], "maxReceiveCount": max_receives}
            attributes = {**attributes, "RedrivePolicy": json.dumps(policy)}
        return TestQueue(self.client, self._create(f"{name}{suffix}", attributes), dead)

    def _create(self, name: str, attributes: dict[str, str]) -> str:
        return str(self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


@attrs.frozen
class TestQueue:
    """
    One queue as the world sees it.
    """

    # Not a class of tests.
    __test__ = False

    client: Any
    url: str
    dead: str | None

    def send(self, *bodies: str, group: str | None = None) -> None:
        for number, body in enumerate(bodies):
            fifo = {"MessageGroupId": group, "MessageDeduplicationId": f"{time.monotonic_ns()}-{number}"}
            self.client.send_message(QueueUrl=self.url, MessageBody=body, **(fifo if group else {}))

    def counts(self, url: str | None = None) -> tuple[int, int]:
        """
        How many messages can be received, and how many are hidden.
        """
        found = self.client.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=["All"])[
            "Attributes"
        ]
        return (
            int(found["ApproximateNumberOfMessages"]),
            int(found["ApproximateNumberOfMessagesNotVisible"]),
        )

    def dead_letters(self) -> int:
        assert self.dead is not None
        return sum(self.counts(self.dead))


@contextmanager
def serving(directory: Path) -> Iterator[QueueService]:
    """
    Run ministack until the block ends; its output is in the directory.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "sqs",
        # It would listen on every interface.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": str(directory),
        "LOG_LEVEL": "WARNING",
    }
    with (directory / "ministack.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None, (directory / "ministack.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield QueueService(port)
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
