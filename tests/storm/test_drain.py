"""A node that stops: a thousand sessions are told when to come back and where they stand."""

import pytest

from tests.storm.drain import run

pytestmark = pytest.mark.slow

SESSIONS = 1000
WINDOW = 10
AFTER = 2


def test_a_thousand_sessions_are_sent_away_in_good_order() -> None:
    """
    Everybody gets `bye` within the grace, evenly spread times to come back, and a position from which
    nothing is missed – in the middle of somebody's writing.
    """
    drained = run(SESSIONS, window=WINDOW)
    assert drained.code == 0
    assert drained.seconds < 10
    assert len(drained.leavers) == SESSIONS
    for leaver in drained.leavers:
        assert leaver.bye is not None
        assert (leaver.code, leaver.bye["code"], leaver.bye["resume"]) == (1001, 1001, True)
        assert AFTER <= leaver.bye["reconnect_after"] <= AFTER + WINDOW
        assert leaver.offsets == list(range(leaver.began + 1, leaver.heard + 1))
        # Never beyond what was heard: whoever comes back with it would miss the rest.
        assert leaver.bye["positions"][leaver.topic]["offset"] <= leaver.heard
    assert drained.peak(WINDOW, AFTER) <= 1.2
    assert drained.returned
    latest = max([leaver.heard for leaver in drained.leavers] + [o[-1] for _, o in drained.returned if o])
    for leaver, offsets in drained.returned:
        since = leaver.bye["positions"][leaver.topic]["offset"]
        assert offsets == list(range(since + 1, latest + 1))
