"""Metrics of a plugin's own: counted here, shown by whoever asks. Knows no exporter."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TypeVar

import attrs

from engine.errors import PluginError

# Label combinations that one metric keeps; beyond, measurements are left out and counted.
SERIES = 200
METRICS = 100
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")

Labels = tuple[str, ...]


@attrs.define(eq=False, kw_only=True)
class _Metric:
    """
    One metric of one plugin. Plain functions of plugins run in threads: hence the lock.
    """

    name: str
    help: str
    labels: Labels
    # Measurements that were left out because there were too many label combinations.
    left_out: int = attrs.field(default=0, init=False)
    _lock: Lock = attrs.field(factory=Lock, init=False)

    def _key(self, given: dict[str, str], known: object) -> Labels | None:
        if given.keys() != set(self.labels):
            raise PluginError(f"metric {self.name} has the labels {self.labels}, not {tuple(given)}")
        key = tuple(str(given[name])[:100] for name in self.labels)
        if isinstance(known, dict) and key not in known and len(known) >= SERIES:
            self.left_out += 1
            return None
        return key


@attrs.define(eq=False, kw_only=True)
class PluginCounter(_Metric):
    """
    A number that only grows, by labels.
    """

    values: dict[Labels, float] = attrs.field(factory=dict, init=False)

    def add(self, amount: float = 1, **labels: str) -> None:
        """
        Count. Raises PluginError for a negative amount.
        """
        if amount < 0:
            raise PluginError(f"counter {self.name} only grows; {amount} would shrink it")
        with self._lock:
            if (key := self._key(labels, self.values)) is not None:
                self.values[key] = self.values.get(key, 0.0) + amount


@attrs.define(eq=False, kw_only=True)
class PluginGauge(_Metric):
    """
    A number that goes up and down, by labels.
    """

    values: dict[Labels, float] = attrs.field(factory=dict, init=False)

    def set(self, value: float, **labels: str) -> None:
        """
        Say what it is now.
        """
        with self._lock:
            if (key := self._key(labels, self.values)) is not None:
                self.values[key] = value


@attrs.define(eq=False, kw_only=True)
class PluginHistogram(_Metric):
    """
    Counts of measurements by bucket, and their sum, by labels.
    """

    buckets: tuple[float, ...]
    # One count more than there are buckets: what is beyond the last.
    counts: dict[Labels, list[int]] = attrs.field(factory=dict, init=False)
    sums: dict[Labels, float] = attrs.field(factory=dict, init=False)

    def observe(self, value: float, **labels: str) -> None:
        """
        Take note of one measurement.
        """
        with self._lock:
            if (key := self._key(labels, self.counts)) is not None:
                counts = self.counts.setdefault(key, [0] * (len(self.buckets) + 1))
                counts[bisect_left(self.buckets, value)] += 1
                self.sums[key] = self.sums.get(key, 0.0) + value


PluginMetric = PluginCounter | PluginGauge | PluginHistogram
M = TypeVar("M", PluginCounter, PluginGauge, PluginHistogram)


def metric_prefix(plugin: str) -> str:
    """
    A plugin's name with nothing in it that a metric's name may not have.
    """
    return re.sub(r"\W", "_", plugin, flags=re.ASCII)


@attrs.define(eq=False)
class PluginMetrics:
    """
    Own one plugin's metrics; fulfils hookspecs.Metrics.
    """

    plugin: str
    _metrics: dict[str, PluginMetric] = attrs.field(factory=dict, init=False)

    @property
    def prefix(self) -> str:
        """
        The plugin's name as a part of a metric's name.
        """
        return metric_prefix(self.plugin)

    def __iter__(self) -> Iterator[PluginMetric]:
        return iter(list(self._metrics.values()))

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> PluginCounter:
        """
        A counter.
        """
        return self._put(PluginCounter(name=name, help=help, labels=tuple(labels)))

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> PluginGauge:
        """
        A gauge.
        """
        return self._put(PluginGauge(name=name, help=help, labels=tuple(labels)))

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> PluginHistogram:
        """
        A histogram.
        """
        bounds = tuple(sorted(buckets)) or SECONDS
        return self._put(PluginHistogram(name=name, help=help, labels=tuple(labels), buckets=bounds))

    def _put(self, metric: M) -> M:
        for name in (metric.name, *metric.labels):
            if not _NAME.fullmatch(name):
                raise PluginError(
                    f"plugin {self.plugin}: {name!r} is no name of a metric or label; they are like jobs_done"
                )
        known = self._metrics.setdefault(metric.name, metric)
        if len(self._metrics) > METRICS:
            del self._metrics[metric.name]
            raise PluginError(f"plugin {self.plugin}: more than {METRICS} metrics; use labels")
        if not isinstance(known, type(metric)) or known.labels != metric.labels:
            raise PluginError(f"plugin {self.plugin}: there is another metric {metric.name}")
        return known
