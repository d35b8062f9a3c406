"""The digest's own part: what a payload must be, and who is told what. The job's part is the engine's."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import greenroom_digest as digest
import pytest
import trio

from engine.hookspecs import Discard
from engine.plugin_host.host import PluginHost


class Context:
    """
    What a handler is given, with these counts in the database.
    """

    def __init__(self, payload, rows):
        self.job = SimpleNamespace(payload=payload)
        self.rows = rows
        self.told = []

    @asynccontextmanager
    async def transaction(self):
        yield self

    async def fetch(self, query, params):
        return self.rows

    async def tell_user(self, user, type, data):
        self.told.append((user, type, data["hours"], data["counts"]))


def test_everybody_on_the_list_is_told_the_same():
    """
    And the job's result says how many.
    """
    rows = [{"resource_type": "episode", "action": "CREATE", "count": 3}]
    context = Context({"people": ["ann", "bob"], "hours": 12}, rows)
    assert trio.run(digest.digest, context)["told"] == 2
    assert context.told == [("ann", "digest", 12, rows), ("bob", "digest", 12, rows)]


def test_nothing_to_tell_is_told_nobody():
    """
    To try again would be of no use.
    """
    context = Context({"people": ["ann"]}, [])
    with pytest.raises(Discard, match="24 hours"):
        trio.run(digest.digest, context)
    assert context.told == []


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ({}, ["people"]),
        ({"people": []}, ["people"]),
        ({"people": ["ann", 5]}, ["people"]),
        ({"people": ["ann"], "hours": 0}, ["hours"]),
        ({"people": "ann", "hours": "24"}, ["people", "hours"]),
        ({"people": ["ann"]}, []),
    ],
)
def test_a_wrong_payload_is_refused_when_it_is_submitted(payload, fields):
    """
    With one entry for each bad field.
    """
    assert [error.field for error in digest.check(payload)] == fields


def test_the_contract_takes_it():
    """
    One type of job, one at a time.
    """
    host = PluginHost()
    host.register(digest, "digest")
    assert list(host.jobs.by_type()) == ["digest.daily"]
