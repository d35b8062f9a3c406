"""Small storms against the real program: nobody misses anything, hears anything twice, or out of order."""

import pytest

from tests.storm.world import Options, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("seed", "wrongs"),
    [
        pytest.param(1, ("crash", "crash", "crash", "crash"), id="actors crash"),
        pytest.param(2, ("postgres", "crash"), id="PostgreSQL is killed"),
        pytest.param(3, ("kill", "crash"), id="the node is killed"),
        pytest.param(4, ("restart",), id="the node is restarted"),
    ],
)
def test_whoever_comes_back_has_heard_everything_once_and_in_order(
    seed: int, wrongs: tuple[str, ...]
) -> None:
    """
    Clients are cut off and return with their positions, while others write and parts of the house fail.
    """
    storm = run(Options(seed=seed, wrongs=wrongs, seconds=5))
    report = storm.report()
    assert storm.truth.wrong == []
    assert report["connections"] > 2 * storm.options.clients
    assert report["events"] > 100
    # Nothing was ever cut, so nobody had to be shown a snapshot in its stead.
    assert report["gaps"] == 0


def test_what_cannot_be_brought_is_said_to_be_missing() -> None:
    """
    A replay of few events only: whoever missed more is told so, with a snapshot, and hears on from there.
    """
    settings = {"GREENROOM_REALTIME_REPLAY_LIMIT": "3", "GREENROOM_REALTIME_REPLAY_RING": "2"}
    storm = run(Options(seed=5, wrongs=("crash",), seconds=4, settings=settings))
    assert storm.truth.wrong == []
    assert storm.report()["gaps"] > 0
