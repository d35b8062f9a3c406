"""Families of metrics as Prometheus wants them, by Greenroom's names."""

from collections.abc import Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from engine.runtime.gauges import Histogram


def gauge(name: str, text: str, value: float) -> Metric:
    """
    A number that goes up and down.
    """
    return GaugeMetricFamily(f"greenroom_{name}", text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """
    A number that only grows.
    """
    return CounterMetricFamily(f"greenroom_{name}", text, value=value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """
    Numbers that go up and down, by a label.
    """
    family = GaugeMetricFamily(f"greenroom_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """
    Numbers that only grow, by a label.
    """
    family = CounterMetricFamily(f"greenroom_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def histograms(name: str, text: str, label: str, values: Mapping[str, Histogram]) -> Metric:
    """
    Seconds by upper bounds, by a label; an empty label has none.
    """
    family = HistogramMetricFamily(f"greenroom_{name}", text, labels=[label] if label else [])
    for key, found in values.items():
        bounds = [*map(str, found.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(found.counts), strict=True))
        family.add_metric([key] if label else [], buckets, found.total)
    return family
