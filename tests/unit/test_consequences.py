"""What follows from settings: told when an operator chose it, and only when it is true."""

import pytest

from conf.consequences import chosen_consequences
from conf.settings import load


def told(**environ):
    loaded = load(None, environ={f"GREENROOM_{name.upper()}": value for name, value in environ.items()})
    return list(chosen_consequences(loaded))


def test_the_defaults_are_meant_as_they_are():
    """
    Who has chosen nothing is told nothing.
    """
    assert told() == []


@pytest.mark.parametrize(
    ("chosen", "option", "words"),
    [
        ({"supervision_episode_within": "1s"}, "supervision.episode.within", "never be reached"),
        ({"supervision_feed_max_restarts": "100"}, "supervision.feed.max_restarts", "never be reached"),
        ({"supervision_plugin_grace": "1s"}, "supervision.plugin.grace", "longer than the 1s"),
        ({"supervision_episode_cool_down": "1s"}, "supervision.episode.cool_down", "tried sooner"),
        ({"supervision_feed_restart": "temporary"}, "supervision.feed.restart", "not started again"),
        ({"supervision_catalog_max_restarts": "0"}, "supervision.catalog.max_restarts", "ends the node"),
        ({"supervision_feed_grace": "1m"}, "node.shutdown_grace", "longer to stop"),
        ({"plugins_transaction_budget": "1m"}, "plugins.transaction_budget", "never counts"),
        ({"plugins_effect_budget": "1m"}, "plugins.effect_budget", "cut off"),
        ({"sqs_visibility_timeout": "6s"}, "sqs.visibility_timeout", "seen by others"),
        ({"jobs_lease": "1s"}, "jobs.lease", "taken from a node that lives"),
        ({"plugins_block_limit": "1m"}, "plugins.block_limit", "whole budget"),
        ({"presence_active_for": "10s"}, "presence.active_for", "not active"),
        ({"limits_sessions": "10"}, "limits.sessions", "all of the node's sessions"),
        ({"limits_max_message": "1MiB"}, "limits.max_message", "does not fit"),
        ({"database_statement_timeout": "1m"}, "database.statement_timeout", "given up"),
        ({"retention_events_per_topic": "10"}, "retention.events_per_topic", "snapshot"),
        ({"retention_events_age": "10s"}, "retention.interval", "longer than their age"),
        ({"retention_jobs_age": "1h"}, "retention.jobs_age", "the job is gone"),
    ],
)
def test_each_consequence_names_its_options_and_says_what_follows(chosen, option, words):
    """
    And each is told once.
    """
    assert len([one for one in told(**chosen) if option in one.options and words in str(one)]) == 1


def test_a_limit_that_jitter_lets_be_reached_is_not_called_unreachable():
    """
    The shortest waits count: 5 of them from 50 ms, each a fifth shorter by chance, are 1.24 s.
    """
    assert told(supervision_episode_within="1300ms") == []
    assert len(told(supervision_episode_within="1200ms")) == 1
