"""`greenroom jobs send`: it makes what a node reads; what no node would read is refused before it goes."""

import json

import pytest
from click.testing import CliRunner

from engine.domain.envelope import Envelope, Progressed, Report, Submit, decode
from gateway.cli.job_send import send

# As little as a submission may be.
SUBMIT = ("job.submit", "--data", '{"type": "test.job"}')
JOB = "0b7e8a52-0000-4000-8000-000000000001"


@pytest.fixture
def run(monkeypatch):
    """
    Run the command with nothing of Greenroom's in the environment.
    """
    monkeypatch.setenv("GREENROOM_CONFIG", "")
    monkeypatch.delenv("GREENROOM_CONFIG")
    return lambda *arguments: CliRunner().invoke(send, arguments)


def test_a_submission_is_made_of_a_type_and_its_data(run):
    """
    Id, time and sender are filled in.
    """
    data = {"type": "episode.import", "payload": {"path": "a.csv"}}
    result = run("job.submit", "--data", json.dumps(data), "--source", "bob", "--print")
    assert result.exit_code == 0, result.output
    message = decode(result.output)
    assert isinstance(message, Envelope)
    assert (message.source, message.body) == ("bob", Submit(data=data))
    assert message.id and run(*SUBMIT, "--print").output != result.output


def test_a_report_is_made_of_its_options(run, tmp_path):
    """
    Its data may come from a file.
    """
    file = tmp_path / "data.json"
    file.write_text('{"fraction": 0.4}')
    arguments = ("--job-id", JOB, "--fence", "3", "--seq", "7", "--data-file", str(file), "--print")
    message = decode(run("job.progress", *arguments).output)
    assert isinstance(message, Envelope)
    assert message.body == Report(job_id=JOB, fence=3, seq=7, outcome=Progressed(fraction=0.4))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("job.lunch",), "type: must be one of job.submit, job.started"),
        (("job.progress",), "job_id: is required\nfence: is required\nseq: is required\ndata.fraction: is"),
        (("job.submit", "--data", "{"), "--data: is no JSON"),
        (("job.submit", "--fence", "1"), "fence: is not known here"),
        (("job.submit",), "data.type: is required"),
        (("job.submit", "--data", '{"type": "a", "delay": -1}'), "data.delay: must be a number of seconds"),
        (SUBMIT, "there is no queue: set sqs.queue_url, or give --queue-url"),
    ],
)
def test_mistakes_are_named_before_anything_is_sent(run, arguments, says):
    """
    All of them, as a node would name them in its log.
    """
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_a_queue_that_does_not_answer_is_said_so(run, monkeypatch):
    """
    With its URL and what is wrong; the command ends with 1.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    queue = "http://127.0.0.1:9/1/jobs"
    result = run(*SUBMIT, "--queue-url", queue, "--endpoint", "http://127.0.0.1:9", "--region", "x-1")
    assert result.exit_code == 1
    assert queue in result.output and "EndpointConnectionError" in result.output


@pytest.mark.parametrize("fifo", [False, True])
def test_a_message_that_is_sent_is_in_the_queue(run, queue_service, fifo):
    """
    In a FIFO queue in the job's group, and the same id only once.
    """
    queue = queue_service.queue(fifo=fifo)
    arguments = (*SUBMIT, "--id", "m1", "--queue-url", queue.url, "--endpoint", queue_service.url)
    for _ in range(2):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    assert queue.counts() == ((1, 0) if fifo else (2, 0))
    found = queue.client.receive_message(QueueUrl=queue.url, MessageSystemAttributeNames=["All"])["Messages"]
    assert found[0]["MessageId"] in result.output or not fifo
    assert isinstance(decode(found[0]["Body"]), Envelope)
    assert not fifo or found[0]["Attributes"]["MessageGroupId"] == "m1"


@pytest.mark.parametrize("content", [b'{"a": "\xe9"}', b"[" * 100_000 + b"]" * 100_000])
def test_a_file_that_is_no_json_is_named(run, tmp_path, content):
    """
    In another encoding, or nested deeper than anybody reads: by the option that named it.
    """
    file = tmp_path / "data.json"
    file.write_bytes(content)
    result = run("job.submit", "--data-file", str(file), "--print")
    assert (result.exit_code, "--data-file: is no JSON" in result.output) == (2, True), result.output


def test_a_user_without_a_name_can_send(run, monkeypatch):
    """
    A container's user has none in many cases.
    """

    def nameless():
        raise KeyError("getpwuid(): uid not found: 1001")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert json.loads(run(*SUBMIT, "--print").output)["source"] == "nobody"
