"""Metrics for Prometheus: read from the node's parts when asked for, never counted twice."""

from collections.abc import Iterator

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from quart import Blueprint
from quart_schema import security_scheme, tag

from engine.node import Node
from gateway.rest.edge import Edge
from gateway.rest.messages import Response
from gateway.rest.plugin_metrics import PluginCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@attrs.define(eq=False)
class NodeCollector(Collector):
    """
    The node's numbers as metrics.
    """

    node: Node

    def collect(self) -> Iterator[Metric]:
        """
        All metrics, as they are now.
        """
        hub, episodes = self.node.hub.statistics(), self.node.episodes.statistics()
        yield _gauge("sessions", "Sessions that listen to a topic.", hub.sessions)
        yield _gauge("subscriptions", "Subscriptions of all sessions.", hub.subscriptions)
        yield _counter("messages_published", "Messages published to topics.", hub.published_total)
        yield _counter("deliveries", "Writes to outlets.", hub.deliveries_total)
        yield _gauge("episode_actors", "Running episode actors.", episodes.actors)
        yield _gauge("episode_actors_parked", "Episode actors that crashed too often.", episodes.parked)
        yield self._restarts()
        yield from self._pools()
        yield from self._effects()

    def _restarts(self) -> Metric:
        restarts = CounterMetricFamily(
            "greenroom_restarts", "Restarts of the children that are there.", labels=["kind"]
        )
        totals: dict[str, int] = {}
        for supervisor in (self.node.root, self.node.episode_supervisor, self.node.plugin_supervisor):
            for child in supervisor.children():
                totals[child.kind] = totals.get(child.kind, 0) + child.restarts
        for kind, total in totals.items():
            restarts.add_metric([kind], total)
        return restarts

    def _pools(self) -> Iterator[Metric]:
        in_use = GaugeMetricFamily("greenroom_pool_in_use", "Database connections in use.", labels=["pool"])
        waiting = GaugeMetricFamily(
            "greenroom_pool_waiting", "Tasks waiting for a connection.", labels=["pool"]
        )
        for name, pool in (
            ("requests", self.node.store.requests),
            ("background", self.node.store.background),
        ):
            statistics = pool.statistics()
            in_use.add_metric([name], statistics.in_use)
            waiting.add_metric([name], statistics.waiting)
        yield in_use
        yield waiting

    def _effects(self) -> Iterator[Metric]:
        handled = CounterMetricFamily("greenroom_effects", "Events handled by a plugin.", labels=["plugin"])
        failed = CounterMetricFamily(
            "greenroom_effect_failures", "Failed attempts of a plugin.", labels=["plugin"]
        )
        quarantined = GaugeMetricFamily(
            "greenroom_plugin_quarantined", "1 while a plugin is quarantined.", labels=["plugin"]
        )
        for name, actor in self.node.effects.items():
            handled.add_metric([name], actor.handled_total)
            failed.add_metric([name], actor.failed_total)
            quarantined.add_metric([name], actor.quarantined_at is not None)
        yield handled
        yield failed
        yield quarantined


def blueprint(at: Edge) -> Blueprint:
    """
    The route that Prometheus scrapes.
    """
    routes = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(NodeCollector(at.node))
    registry.register(PluginCollector(at.node.plugins))

    @routes.get("/metrics")
    @security_scheme([])
    @tag(["health"])
    async def metrics() -> Response:
        """
        All metrics in the Prometheus text format.
        """
        return Response(generate_latest(registry), 200, {"Content-Type": CONTENT_TYPE})

    return routes


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"greenroom_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"greenroom_{name}", text, value=value)
