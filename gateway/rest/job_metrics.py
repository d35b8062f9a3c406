"""Metrics of jobs and their sources: read from who runs them, never counted twice."""

from collections.abc import Iterator

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.node import Node
from gateway.rest.metric_families import counter, counters, gauge, gauges, histograms

OUTCOMES = ("completed", "retried", "failed", "cancelled", "released", "lost")


@attrs.define(eq=False)
class JobCollector(Collector):
    """
    What this node does with jobs, and what waits in the queue.
    """

    node: Node

    def collect(self) -> Iterator[Metric]:
        """
        All metrics of jobs, as they are now.
        """
        workshop = self.node.workshop
        types = workshop.statistics.types
        running = {kind: workshop.dispatcher.running(kind) for kind in workshop.dispatcher.runnable}
        yield gauges("jobs_running", "Jobs that this node runs.", "type", running)
        yield self._unfinished()
        started = {kind: counts.started for kind, counts in types.items()}
        yield counters("jobs_started", "Attempts that this node began.", "type", started)
        ended = CounterMetricFamily(
            "greenroom_jobs_ended", "What became of those attempts.", labels=["type", "outcome"]
        )
        for kind, counts in types.items():
            for outcome in OUTCOMES:
                ended.add_metric([kind, outcome], getattr(counts, outcome))
        yield ended
        durations = workshop.statistics.durations
        yield histograms("job_seconds", "How long attempts ran.", "type", durations)
        waits = workshop.statistics.waits
        yield histograms("job_wait_seconds", "How long jobs had been due when attempts began.", "type", waits)
        rescued = workshop.rescuer.rescued_total
        yield counter("jobs_rescued", "Jobs taken from nodes and workers that died.", rescued)
        if (age := workshop.dispatcher.source.statistics().last_successful_poll_age) is not None:
            yield gauge("job_poll_age_seconds", "How long ago the queue was last looked at.", age)

    def _unfinished(self) -> Metric:
        family = GaugeMetricFamily(
            "greenroom_jobs_unfinished", "Jobs of all nodes that have not ended.", labels=["type", "state"]
        )
        for (kind, state), count in self.node.meter.jobs.items():
            family.add_metric([kind, state], count)
        return family
