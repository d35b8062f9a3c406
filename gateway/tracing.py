"""Spans to an OpenTelemetry collector. The only file that knows OpenTelemetry, which is optional."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

import attrs

from conf.settings import Settings
from engine.errors import StartupError
from engine.traces import Attributes

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

# Milliseconds between two exports, and for the last one; they happen in a thread of the library's own.
EXPORT_MS = 1000
# Spans that wait for an export; more are dropped.
WAITING = 4096
_NS = 1_000_000_000


@attrs.frozen
class OpenSpan:
    """
    One span under way; fulfils engine.traces.Span.
    """

    span: "Span"

    @property
    def traceparent(self) -> str:
        """
        The span in the form of W3C Trace Context.
        """
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, attributes: Attributes, *, error: str | None = None) -> None:
        """
        It is over.
        """
        self.span.set_attributes(dict(attributes))
        _fail(self.span, error)
        self.span.end()


@attrs.frozen
class OpenTelemetry:
    """
    Fulfils engine.traces.Tracer.
    """

    tracer: "Tracer"

    def begin(self, name: str, parent: str | None) -> OpenSpan:
        """
        A span below a traceparent, if that is one.
        """
        return OpenSpan(self.tracer.start_span(name, context=_context(parent)))

    def record(
        self, name: str, parent: str, *, began: float, attributes: Attributes, error: str | None = None
    ) -> None:
        """
        A span that is over.
        """
        now = time.time_ns()
        span = self.tracer.start_span(
            name, context=_context(parent), start_time=min(now, int(began * _NS)), attributes=dict(attributes)
        )
        _fail(span, error)
        span.end(now)


@contextmanager
def tracing(settings: Settings) -> Iterator[OpenTelemetry | None]:
    """
    The configured collector's tracer, until the end of the block; None when none is configured.

    Raises StartupError when OpenTelemetry is not installed.
    """
    if not settings.tracing.endpoint:
        yield None
        return
    try:
        provider = _provider(settings)
    except ImportError as error:
        raise StartupError(
            "tracing.endpoint is set, but OpenTelemetry is not installed: pip install 'greenroom[tracing]'"
        ) from error
    try:
        yield OpenTelemetry(provider.get_tracer("greenroom"))
    finally:
        provider.shutdown()


def _provider(settings: Settings) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.name": "greenroom",
                "service.version": version("greenroom"),
                "service.instance.id": settings.node.resolved_name,
            }
        ),
        sampler=ParentBased(TraceIdRatioBased(settings.tracing.sample)),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=settings.tracing.endpoint, timeout=EXPORT_MS // 1000)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=WAITING,
            schedule_delay_millis=EXPORT_MS,
            export_timeout_millis=EXPORT_MS,
        )
    )
    return provider


def _context(parent: str | None) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # A context of its own: the thread's current one would make unrelated spans children of each other.
    return TraceContextTextMapPropagator().extract({"traceparent": parent} if parent else {}, Context())


def _fail(span: "Span", error: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error[:200]))
