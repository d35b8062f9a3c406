"""What became of writes: how many frames each event was, and spans for whoever collects them. No exporter."""

import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
import trio

from engine.actors.messages import Message, event_in
from engine.domain.envelope import Envelope
from engine.domain.event import Event, EventId, Topic
from engine.domain.job import Job
from engine.sources.reduction import Reducer, Verdict

# Events whose frames are remembered.
REMEMBERED = 10_000

Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """
    One step of a trace, under way.
    """

    @property
    def traceparent(self) -> str:
        """
        What its own steps name as their parent.
        """
        ...

    def end(self, attributes: Attributes, *, error: str | None = None) -> None:
        """
        It is over.
        """
        ...


class Tracer(Protocol):
    """
    Whoever collects spans. Nothing of it blocks.
    """

    def begin(self, name: str, parent: str | None) -> Span:
        """
        A step begins, below the parent that a traceparent names, if it names one.
        """
        ...

    def record(
        self, name: str, parent: str, *, began: float, attributes: Attributes, error: str | None = None
    ) -> None:
        """
        A step is over that began at this Unix time.
        """
        ...


@attrs.define(eq=False)
class Traces:
    """
    Own how many frames the latest events were on this node. A restart forgets it.
    """

    # None: nobody collects spans.
    tracer: Tracer | None = None
    _frames: OrderedDict[EventId, Counter[Topic]] = attrs.field(factory=OrderedDict, init=False)

    def frames(self, event: EventId) -> Mapping[Topic, int] | None:
        """
        To how many clients an event went, by topic; None when that is not known any more.
        """
        return self._frames.get(event)

    def committed(self, event: Event) -> None:
        """
        A writer on this node has committed an event.
        """
        self._of(event.id)
        if self.tracer is not None and event.request.traceparent is not None:
            began = event.at.timestamp()
            attributes = {**_about(event), "greenroom.offset": event.offset}
            self.tracer.record("commit", event.request.traceparent, began=began, attributes=attributes)

    def published(self, topic: Topic, messages: Sequence[Message], delivered: int) -> None:
        """
        The hub has pushed messages of a topic to so many outlets.
        """
        if not delivered:
            return
        for message in messages:
            if (event := event_in(message)) is None:
                continue
            self._of(event.id)[topic] += delivered
            if self.tracer is not None and event.request.traceparent is not None:
                attributes = {**_about(event), "greenroom.clients": delivered, "greenroom.topic": topic}
                began = event.at.timestamp()
                self.tracer.record("frames", event.request.traceparent, began=began, attributes=attributes)

    def handled(self, plugin: str, events: Sequence[Event], began: float, error: str | None) -> None:
        """
        A plugin has handled events, or failed at them; it began at this time of Trio's clock.
        """
        if self.tracer is None:
            return
        at = _unix(began)
        for event in events:
            if event.request.traceparent is not None:
                attributes = {**_about(event), "greenroom.plugin": plugin, "greenroom.batch": len(events)}
                self.tracer.record(
                    f"effect {plugin}",
                    event.request.traceparent,
                    began=at,
                    attributes=attributes,
                    error=error,
                )

    def ran(self, job: Job, began: float, end: Event | None) -> None:
        """
        An attempt at a job is over that began at this time of Trio's clock; without an event it was lost.
        """
        parent = job.request.traceparent
        if self.tracer is None or parent is None:
            return
        attributes: dict[str, str | int] = {
            "greenroom.job": job.id,
            "greenroom.attempt": job.attempt,
            "greenroom.mutation": job.request.mutation_id,
            "greenroom.outcome": "lost" if end is None else end.type,
        }
        error = "lost" if end is None else end.data.get("error")
        error = None if error is None else str(error)
        self.tracer.record(f"job {job.type}", parent, began=_unix(began), attributes=attributes, error=error)

    def reducing(self, reduce: Reducer) -> Reducer:
        """
        The same reducer, for which each message is a step of its sender's trace.
        """

        async def traced(messages: Sequence[Envelope]) -> Sequence[Verdict]:
            if (tracer := self.tracer) is None:
                return await reduce(messages)
            spans = [tracer.begin(f"message {message.type}", message.traceparent) for message in messages]
            verdicts: Sequence[Verdict | None] = [None] * len(messages)
            try:
                verdicts = told = await reduce(
                    [
                        attrs.evolve(message, traceparent=span.traceparent)
                        for message, span in zip(messages, spans, strict=True)
                    ]
                )
            finally:
                for message, span, verdict in zip(messages, spans, verdicts, strict=True):
                    _end(span, message, verdict)
            return told

        return traced

    def _of(self, event: EventId) -> Counter[Topic]:
        found = self._frames.get(event)
        if found is None:
            found = self._frames[event] = Counter()
            if len(self._frames) > REMEMBERED:
                self._frames.popitem(last=False)
        return found


def _unix(at: float) -> float:
    """
    A time of Trio's clock as a Unix time.
    """
    return time.time() - (trio.current_time() - at)


def _end(span: Span, message: Envelope, verdict: Verdict | None) -> None:
    outcome = "failed" if verdict is None else verdict.outcome
    error = outcome if verdict is None else verdict.reason
    span.end({"greenroom.mutation": message.id, "greenroom.verdict": outcome}, error=error)


def _about(event: Event) -> dict[str, str | int]:
    return {
        "greenroom.event": event.id,
        "greenroom.type": event.type,
        "greenroom.mutation": event.request.mutation_id,
    }
