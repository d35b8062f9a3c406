"""Spans of the real program at a collector that speaks OTLP."""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.acceptance.outside import Listener, Program, eventually
from tests.queue_service import CREDENTIALS, QueueService

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[tuple[str, list]]:
    """
    A collector's URL, and the spans that it was sent.
    """
    spans: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = trace_service.ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    thread.join()
    server.server_close()


async def test_one_trace_leads_from_the_request_to_effects_and_frames(
    serve: Callable[..., Awaitable[Program]],
    listen: Callable[..., Awaitable[Listener]],
    collector: tuple[str, list],
) -> None:
    """
    All spans have the client's trace id; what follows the request is below its span.
    """
    url, spans = collector
    program = await serve(GREENROOM_TRACING_ENDPOINT=url)
    await listen(program)
    body = {"title": "Pilot"}
    answer = await program.ask("POST", "/api/v1/episodes", body, headers={"traceparent": PARENT})
    assert answer.status == 201
    wanted = {"POST request", "commit", "frames", "effect activity", "effect notifications", "effect audit"}

    def ours() -> dict:
        return {span.name: span for span in spans if span.trace_id.hex() == PARENT[3:35]}

    await eventually(lambda: wanted <= set(ours()))
    request = ours()["POST request"]
    assert request.parent_span_id.hex() == PARENT[36:52]
    for name in wanted - {"POST request"}:
        assert ours()[name].parent_span_id == request.span_id, name
        assert ours()[name].end_time_unix_nano >= ours()[name].start_time_unix_nano
    assert await program.stop() == 0


async def test_one_trace_leads_from_a_message_of_sqs_to_its_job_and_what_follows(
    serve: Callable[..., Awaitable[Program]],
    listen: Callable[..., Awaitable[Listener]],
    collector: tuple[str, list],
    queue_service: QueueService,
) -> None:
    """
    The message is below its sender's span; what was committed for it, the attempts at its job, effects and
    frames are below the message.
    """
    url, spans = collector
    queue = queue_service.queue(max_receives=5)
    program = await serve(
        GREENROOM_TRACING_ENDPOINT=url,
        GREENROOM_SQS_QUEUE_URL=queue.url,
        GREENROOM_SQS_ENDPOINT=queue_service.url,
        GREENROOM_SQS_WAIT="1s",
        **CREDENTIALS,
    )
    await listen(program)
    (program.data_dir / "imports").mkdir()
    (program.data_dir / "imports" / "one.csv").write_text("title\nPilot\n", "utf-8")
    message = {
        "v": 1,
        "id": "traced-1",
        "type": "job.submit",
        "source": "alice@example.com",
        "time": "2026-01-07T12:00:00Z",
        "traceparent": PARENT,
        "data": {"type": "episode.import", "payload": {"path": "one.csv"}},
    }
    queue.client.send_message(QueueUrl=queue.url, MessageBody=json.dumps(message))

    def ours() -> list:
        return [span for span in spans if span.trace_id.hex() == PARENT[3:35]]

    def of(event: str) -> set[str]:
        return {span.name for span in ours() if shown(span).get("greenroom.type") == event}

    await eventually(lambda: {"message job.submit", "job episode.import"} <= {span.name for span in ours()})
    [received] = [span for span in ours() if span.name == "message job.submit"]
    assert received.parent_span_id.hex() == PARENT[36:52]
    assert shown(received)["greenroom.verdict"] == "applied"
    [ran] = [span for span in ours() if span.name == "job episode.import"]
    assert shown(ran)["greenroom.outcome"] == "job_completed"
    for event in ("job_queued", "job_processor_started", "job_completed"):
        await eventually(lambda event=event: {"commit", "effect activity", "effect audit"} <= of(event))
    # The episode that the job has created, in the job's own transaction.
    await eventually(lambda: {"effect activity", "effect notifications", "frames"} <= of("episode_created"))
    for span in ours():
        assert span is received or span.parent_span_id == received.span_id, span.name
    trace = (await program.ask("GET", "/api/v1/trace/traced-1")).json
    assert {event["type"] for event in trace["events"]} >= {"job_queued", "job_completed", "episode_created"}
    assert {event["traceparent"][3:35] for event in trace["events"]} == {PARENT[3:35]}
    assert await program.stop() == 0


def shown(span: object) -> dict[str, object]:
    """
    A span's attributes that are texts.
    """
    return {one.key: one.value.string_value for one in span.attributes}
