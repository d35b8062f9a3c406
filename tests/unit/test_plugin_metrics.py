"""Metrics of a plugin's own: bounded, checked, and shown under its name."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from engine.errors import PluginError
from engine.plugin_host.host import PluginHost
from engine.plugin_host.metrics import SERIES, PluginMetrics
from gateway.rest.plugin_metrics import PluginCollector


def test_all_three_kinds_are_shown_under_the_plugin_s_name():
    """
    Prometheus reads what the plugin has counted.
    """
    host = PluginHost(decision_budget=1)
    host.register(object(), "edit-lease")
    metrics = host.engines["edit-lease"].metrics
    metrics.counter("leases", "Leases given.", ["outcome"]).add(outcome="given")
    metrics.counter("leases", "Leases given.", ["outcome"]).add(2, outcome="given")
    metrics.gauge("open", "Leases open.").set(3)
    metrics.histogram("held_seconds", "How long.", buckets=[1, 10]).observe(5)
    registry = CollectorRegistry()
    registry.register(PluginCollector(host))
    lines = generate_latest(registry).decode().splitlines()
    assert 'greenroom_plugin_edit_lease_leases_total{outcome="given"} 3.0' in lines
    assert "greenroom_plugin_edit_lease_open 3.0" in lines
    assert 'greenroom_plugin_edit_lease_held_seconds_bucket{le="1"} 0.0' in lines
    assert 'greenroom_plugin_edit_lease_held_seconds_bucket{le="+Inf"} 1.0' in lines
    assert "greenroom_plugin_edit_lease_held_seconds_sum 5.0" in lines


def test_label_combinations_are_bounded_and_what_is_left_out_is_counted():
    """
    A label that holds ids must not fill the memory.
    """
    counter = PluginMetrics("p").counter("seen", "Seen.", ["episode"])
    for number in range(SERIES + 5):
        counter.add(episode=str(number))
    counter.add(episode="0")
    assert len(counter.values) == SERIES
    assert counter.values["0",] == 2
    assert counter.left_out == 5


def test_mistakes_are_refused_with_what_would_be_right():
    """
    Names, labels and kinds are checked where the plugin gives them.
    """
    metrics = PluginMetrics("p")
    with pytest.raises(PluginError, match="'Jobs-Done' is no name"):
        metrics.counter("Jobs-Done", "Jobs.")
    jobs = metrics.counter("jobs", "Jobs.", ["kind"])
    with pytest.raises(PluginError, match="another metric jobs"):
        metrics.gauge("jobs", "Jobs.")
    with pytest.raises(PluginError, match=r"has the labels \('kind',\), not \('knid',\)"):
        jobs.add(knid="x")
    with pytest.raises(PluginError, match="only grows"):
        jobs.add(-1, kind="x")
