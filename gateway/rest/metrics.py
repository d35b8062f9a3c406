"""Metrics for Prometheus: read from the node's parts when asked for, never counted twice."""

from collections.abc import Iterator

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from quart import Blueprint
from quart_schema import security_scheme, tag

from engine.assembly.overview import counted, together
from engine.node import Node
from engine.runtime.mailbox import MailboxStatistics
from engine.runtime.registry import RegistryStatistics
from gateway.http.traffic import Traffic
from gateway.rest.edge import Edge
from gateway.rest.job_metrics import JobCollector
from gateway.rest.messages import Response
from gateway.rest.metric_families import counter, counters, gauge, gauges, histograms
from gateway.rest.plugin_metrics import PluginCollector

# Of a poller's statistics, what is counted of messages.
MESSAGE_COUNTS = (
    "received",
    "redelivered",
    "applied",
    "unchanged",
    "refused",
    "dead_lettered",
    "deleted",
    "given_back",
)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@attrs.define(eq=False)
class NodeCollector(Collector):
    """
    The node's numbers as metrics. Whoever shows a number shows it from here: `numbers.py`, and `top` by that.
    """

    node: Node
    traffic: Traffic

    def collect(self) -> Iterator[Metric]:
        """
        All metrics, as they are now.
        """
        yield from self._screens()
        yield from self._wire()
        yield from self._actors()
        yield from self._mailboxes()
        yield from self._pools()
        yield from self._effects()
        yield from self._queue()

    def _screens(self) -> Iterator[Metric]:
        hub, meter = self.node.hub.statistics(), self.node.meter
        yield gauge("sessions", "Sessions that listen to a topic.", hub.sessions)
        yield gauge("subscriptions", "Subscriptions of all sessions.", hub.subscriptions)
        yield counter("messages_published", "Messages published to topics.", hub.published_total)
        yield counter("deliveries", "Writes to outlets.", hub.deliveries_total)
        yield counter("outlet_bytes", "Bytes of all those writes.", hub.bytes_total)
        yield gauge("frames_per_second", "Writes to outlets in the last second.", meter.frames_per_second)
        yield gauge("loop_lag_seconds", "The longest turn of the event loop in ten seconds.", meter.loop_lag)
        text = "From the commit of an event on this node until all who listen were pushed it."
        yield histograms("commit_to_frame_seconds", text, "", {"": meter.commit_to_frame})

    def _wire(self) -> Iterator[Metric]:
        traffic = self.traffic
        yield gauge("connections", "Open connections of all kinds.", traffic.connections)
        yield gauge("websockets", "Open WebSockets.", traffic.websockets)
        yield gauge("handshakes_waiting", "WebSockets that wait to begin.", traffic.handshakes)
        yield gauge("outlets_behind", "Clients that have not taken everything yet.", len(traffic.behind))
        yield gauge("outlet_backlog_bytes", "Bytes that wait for those clients.", traffic.backlog)
        closes = {str(code): count for code, count in traffic.closes.items()}
        yield counters("websocket_closes", "Ended WebSockets by close code; 4413: too slow.", "code", closes)
        answers = {str(status): count for status, count in traffic.answers.items()}
        yield counters("requests", "Answers over REST by status.", "status", answers)

    def _actors(self) -> Iterator[Metric]:
        episodes = self.node.episodes.statistics()
        yield gauge("episode_actors", "Running episode actors.", episodes.actors)
        yield gauge("episode_actors_parked", "Episode actors that are parked.", episodes.parked)
        children = GaugeMetricFamily(
            "greenroom_children", "Children in the supervision tree.", labels=["kind", "state"]
        )
        supervisors = self.node.supervisors.values()
        for (kind, state), count in counted(supervisors).items():
            children.add_metric([kind, state], count)
        yield children
        restarted = together(supervisor.restarted for supervisor in supervisors)
        yield counters("restarts", "Restarts of children.", "kind", restarted)
        crashed = together(supervisor.crashed for supervisor in supervisors)
        yield counters("crashes", "Crashes of children.", "kind", crashed)

    def _mailboxes(self) -> Iterator[Metric]:
        found: dict[str, MailboxStatistics | RegistryStatistics] = {
            "catalog": self.node.catalog.mailbox.statistics(),
            "episodes": self.node.episodes.statistics(),
            "users": self.node.users.statistics(),
            "jobs": self.node.jobs_topic.statistics(),
            **{f"plugin/{name}": actor.mailbox.statistics() for name, actor in self.node.effects.items()},
        }
        depths = {name: one.depth for name, one in found.items()}
        yield gauges("mailbox_depth", "Messages that wait for an actor.", "actor", depths)
        ages = {name: one.oldest_age for name, one in found.items()}
        yield gauges("mailbox_oldest_seconds", "How long the oldest of them has waited.", "actor", ages)

    def _pools(self) -> Iterator[Metric]:
        pools = {name: pool.statistics() for name, pool in self.node.store.pools().items()}
        for name, text in (
            ("size", "Connections to the database at most."),
            ("in_use", "Database connections in use."),
            ("waiting", "Tasks waiting for a connection."),
        ):
            values = {pool: getattr(statistics, name) for pool, statistics in pools.items()}
            yield gauges(f"pool_{name}", text, "pool", values)
        for name, text in (
            ("waits", "How often a connection was waited for."),
            ("wait_seconds", "Seconds that connections were waited for in all."),
            ("failures", "Connections not made or lost."),
        ):
            values = {pool: getattr(statistics, f"{name}_total") for pool, statistics in pools.items()}
            yield counters(f"pool_{name}", text, "pool", values)

    def _effects(self) -> Iterator[Metric]:
        effects, lag = self.node.effects, self.node.meter.lag
        handled = {name: actor.handled_total for name, actor in effects.items()}
        yield counters("effects", "Events handled by a plugin.", "plugin", handled)
        failed = {name: actor.failed_total for name, actor in effects.items()}
        yield counters("effect_failures", "Failed attempts of a plugin.", "plugin", failed)
        quarantined = {name: float(actor.quarantined_at is not None) for name, actor in effects.items()}
        tasks = self.node.plugin_tasks
        answers, notices = tasks.answers, tasks.notices.actors
        dropped = {name: actor.dropped_total for name, actor in notices.items()}
        yield counters("answers", "Answers that a plugin gave clients.", "plugin", answers.answered)
        yield counters("answer_failures", "Answers that a plugin failed to give.", "plugin", answers.failed)
        caught = self.node.watchdog.caught
        yield counters("loop_blocked", "Times that a plugin kept the event loop to itself.", "plugin", caught)
        yield counters("notices_dropped", "Notices that a plugin was too slow for.", "plugin", dropped)
        yield gauges("plugin_quarantined", "1 while a plugin is quarantined.", "plugin", quarantined)
        yield gauges("effect_lag_events", "Events that a plugin has still to handle.", "plugin", lag)

    def _queue(self) -> Iterator[Metric]:
        if (poller := self.node.workshop.poller) is None:
            return
        seen = poller.statistics()
        came = {name: getattr(seen, name) for name in MESSAGE_COUNTS}
        yield counters("sqs_messages", "Messages of SQS: what came of them.", "what", came)
        yield counter("sqs_failures", "Requests that SQS did not answer, or refused.", seen.failures)
        yield gauge("sqs_held", "Messages that this node holds.", seen.held)
        if seen.last_successful_poll_age is not None:
            age = seen.last_successful_poll_age
            yield gauge("sqs_poll_age_seconds", "How long ago SQS last answered a poll.", age)


def registry_of(at: Edge) -> CollectorRegistry:
    """
    Everything that is counted about this node.
    """
    registry = CollectorRegistry()
    registry.register(NodeCollector(at.node, at.traffic))
    registry.register(JobCollector(at.node))
    registry.register(PluginCollector(at.node.plugins))
    return registry


def blueprint(registry: CollectorRegistry) -> Blueprint:
    """
    The route that Prometheus scrapes.
    """
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    @security_scheme([])
    @tag(["health"])
    async def metrics() -> Response:
        """
        All metrics in the Prometheus text format.
        """
        return Response(generate_latest(registry), 200, {"Content-Type": CONTENT_TYPE})

    return routes
