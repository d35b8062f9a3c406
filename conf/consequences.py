"""What follows from settings that are right one by one, for the operator who may not have meant it."""

from collections.abc import Iterator
from itertools import islice

import attrs

from conf.options import OPTIONS
from conf.settings import Loaded
from conf.tree import Child, Settings
from conf.units import show_duration

# Children of which there is one, and nobody else does its work.
_SINGLETONS = ("catalog", "feed", "gateway", "presence", "database")
# More restarts than anybody waits for; bounds a sum.
_COUNTED = 10_000


@attrs.frozen(kw_only=True)
class Consequence:
    """
    The options that bring it about, and what it is.
    """

    options: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{', '.join(self.options)}: {self.text}"


def chosen_consequences(loaded: Loaded) -> Iterator[Consequence]:
    """
    What follows from the operator's own choices; the defaults are meant as they are.
    """
    for consequence in consequences(loaded.settings):
        if any(loaded.sources[option] != "default" for option in consequence.options):
            yield consequence


def consequences(settings: Settings) -> Iterator[Consequence]:
    """
    All that follows and may not have been meant.
    """
    for field in attrs.fields(type(settings.supervision)):
        yield from _of_child(settings, field.name, getattr(settings.supervision, field.name))
    yield from _of_budgets(settings)
    yield from _of_queues(settings)
    yield from _of_clients(settings)
    yield from _of_retention(settings)


def _of_child(settings: Settings, kind: str, child: Child) -> Iterator[Consequence]:
    def told(text: str, *names: str) -> Consequence:
        return Consequence(options=tuple(f"supervision.{kind}.{name}" for name in names), text=text)

    if kind in _SINGLETONS and child.restart != "permanent":
        yield told(
            f"a {kind} that ends is not started again, and nobody does its work until a restart", "restart"
        )
    if child.restart == "temporary":
        return
    if (least := _shortest_series(child)) > child.within:
        yield told(
            f"this limit can never be reached: {child.max_restarts + 1} crashes take at least"
            f" {_shown(least)}, because of the waits in between. What only crashes is restarted for ever",
            "max_restarts",
            "within",
            "backoff_first",
            "backoff_cap",
            "backoff_jitter",
        )
    if child.max_restarts == 0 and kind in _SINGLETONS:
        yield told("its first crash ends the node", "max_restarts")
    if child.backoff_cap > child.grace:
        yield told(
            f"a restart is waited for up to {_shown(child.backoff_cap)}, longer than the"
            f" {_shown(child.grace)} that a child has to finish when it is stopped: one that waits when the"
            " node stops is not started again, and leaves what it had still to read",
            "backoff_cap",
            "grace",
        )
    if child.backoff_cap > child.cool_down and kind not in _SINGLETONS:
        yield told(
            "a parked child is tried sooner than one that waits for its restart", "backoff_cap", "cool_down"
        )
    if kind != "gateway" and child.grace > settings.node.shutdown_grace:
        yield Consequence(
            options=(f"supervision.{kind}.grace", "node.shutdown_grace"),
            text="the node may take longer to stop than node.shutdown_grace says; whoever stops it must wait",
        )


def _shortest_series(child: Child) -> float:
    """
    The least seconds from a first crash to the one that is too many.
    """

    def waits() -> Iterator[float]:
        wait = child.backoff_first
        while True:
            yield min(wait, child.backoff_cap) * (1 - child.backoff_jitter)
            wait = min(2 * wait, child.backoff_cap)

    return sum(islice(waits(), min(child.max_restarts, _COUNTED)))


def _of_budgets(settings: Settings) -> Iterator[Consequence]:
    plugins = settings.plugins
    yield from _when(
        plugins.transaction_budget > plugins.effect_budget,
        "an effect is over before its transaction's budget is: that budget never counts",
        "plugins.transaction_budget",
        "plugins.effect_budget",
    )
    yield from _when(
        plugins.effect_budget > settings.supervision.plugin.grace,
        "an effect that takes its whole budget is cut off when the node stops, and made again after it",
        "plugins.effect_budget",
        "supervision.plugin.grace",
    )
    yield from _when(
        plugins.block_limit > plugins.effect_budget,
        "a hook that blocks the node is interrupted only after its whole budget",
        "plugins.block_limit",
        "plugins.effect_budget",
    )


def _of_queues(settings: Settings) -> Iterator[Consequence]:
    sqs = settings.sqs
    yield from _when(
        sqs.visibility_timeout <= sqs.wait + sqs.request_timeout,
        "a message may be seen by others before the answer of the poll that took it has arrived",
        "sqs.visibility_timeout",
        "sqs.wait",
        "sqs.request_timeout",
    )
    yield from _when(
        settings.jobs.lease <= settings.database.statement_timeout,
        "a lease ends before one slow statement that would renew it: jobs are taken from a node that lives",
        "jobs.lease",
        "database.statement_timeout",
    )


def _of_clients(settings: Settings) -> Iterator[Consequence]:
    limits, realtime, server = settings.limits, settings.realtime, settings.server
    yield from _when(
        limits.sessions_per_user > limits.sessions,
        "one user may take all of the node's sessions",
        "limits.sessions_per_user",
        "limits.sessions",
    )
    yield from _when(
        limits.max_message > realtime.outlet_backlog,
        "an answer as long as the longest question does not fit into a slow client's backlog",
        "limits.max_message",
        "realtime.outlet_backlog",
    )
    yield from _when(
        settings.presence.active_for < realtime.ping_interval,
        "clients that ping as often as the node does are shown as not active in between",
        "presence.active_for",
        "realtime.ping_interval",
    )
    yield from _when(
        settings.database.statement_timeout > server.write_timeout,
        "a client may be given up before the database is",
        "database.statement_timeout",
        "server.write_timeout",
    )


def _of_retention(settings: Settings) -> Iterator[Consequence]:
    retention, realtime = settings.retention, settings.realtime
    yield from _when(
        realtime.replay_limit > retention.events_per_topic,
        "a topic keeps fewer events than a returning client may be replayed: who missed more gets a snapshot",
        "realtime.replay_limit",
        "retention.events_per_topic",
    )
    yield from _when(
        retention.interval > retention.removed_plugin_age,
        "a plugin that runs counts as removed between two rounds: what it has still to handle may be cut",
        "retention.interval",
        "retention.removed_plugin_age",
    )
    yield from _when(
        retention.interval > retention.events_age,
        "events are kept up to the interval longer than their age",
        "retention.interval",
        "retention.events_age",
    )
    yield from _when(
        0 < retention.jobs_age < retention.idempotency_age,
        "who repeats a submission with its Idempotency-Key may be told that the job is gone",
        "retention.jobs_age",
        "retention.idempotency_age",
    )


def _when(follows: bool, text: str, *options: str) -> Iterator[Consequence]:
    if follows:
        assert all(option in OPTIONS for option in options)
        yield Consequence(options=options, text=text)


def _shown(seconds: float) -> str:
    return show_duration(round(seconds, 3))
