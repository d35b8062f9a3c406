"""Spans of the real program at a collector that speaks OTLP."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.acceptance.outside import Listener, Program, eventually

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
