"""Metrics of the plugins' own, as Prometheus wants them. Counts nothing itself."""

from collections.abc import Iterator
from itertools import accumulate

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.plugin_host.host import PluginHost
from engine.plugin_host.metrics import PluginCounter, PluginGauge, PluginHistogram, PluginMetric


@attrs.define(eq=False)
class PluginCollector(Collector):
    """
    What plugins count, under `greenroom_plugin_<plugin>_<name>`.
    """

    plugins: PluginHost

    def collect(self) -> Iterator[Metric]:
        """
        All plugins' metrics, as they are now.
        """
        for plugin, engine in self.plugins.engines.items():
            for metric in engine.metrics:
                yield _family(f"greenroom_plugin_{engine.metrics.prefix}_{metric.name}", plugin, metric)


def _family(name: str, plugin: str, metric: PluginMetric) -> Metric:
    help, labels = f"{metric.help} (plugin {plugin})", list(metric.labels)
    match metric:
        case PluginCounter():
            counter = CounterMetricFamily(name, help, labels=labels)
            for key, value in metric.values.copy().items():
                counter.add_metric(key, value)
            return counter
        case PluginGauge():
            gauge = GaugeMetricFamily(name, help, labels=labels)
            for key, value in metric.values.copy().items():
                gauge.add_metric(key, value)
            return gauge
        case PluginHistogram():
            histogram = HistogramMetricFamily(name, help, labels=labels)
            bounds = [*map(str, metric.buckets), "+Inf"]
            for key, counts in metric.counts.copy().items():
                buckets = list(zip(bounds, accumulate(counts), strict=True))
                # A thread may have counted it and not summed it up yet.
                histogram.add_metric(key, buckets, metric.sums.get(key, 0.0))
            return histogram
