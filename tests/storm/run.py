"""The storm by hand: python tests/storm/run.py --clients 300 --rate 200 --seconds 60 --seed 1."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.storm.drain import run as drain
from tests.storm.world import Options, run


def main() -> int:
    """
    Run one storm, or one after the other; answers with 1 if anything was wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rate", type=float, default=200, help="writes a second")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument(
        "--wrongs",
        default="crash,crash,postgres,crash,kill,crash,postgres,restart,crash,kill",
        help="what happens, evenly spread: crash (episode actors), postgres, kill (the node), restart",
    )
    parser.add_argument("--drain", type=int, default=0, help="then stop a node under so many sessions")
    given = parser.parse_args()
    wrong = 0
    for seed in range(given.seed, given.seed + given.seeds):
        began = time.monotonic()
        storm = run(
            Options(
                seed=seed,
                clients=given.clients,
                rate=given.rate,
                episodes=given.episodes,
                seconds=given.seconds,
                catalog_every=30,
                wrongs=tuple(filter(None, given.wrongs.split(","))),
            )
        )
        print(f"seed {seed}: {time.monotonic() - began:.1f} s, {storm.report()}")
        for line in storm.truth.wrong[:20]:
            print("  wrong:", line)
        wrong += len(storm.truth.wrong)
    if given.drain:
        drained = drain(given.drain, window=10)
        away = [each for each in drained.leavers if each.bye and each.code == 1001]
        beyond = [each for each in away if each.bye["positions"][each.topic]["offset"] > each.heard]
        peak = drained.peak(10, 2)
        print(
            f"drain: {len(away)} of {given.drain} sent away in {drained.seconds:.1f} s, "
            f"exit code {drained.code}, peak {peak:.2f} of even, {len(beyond)} positions too far"
        )
        wrong += len(drained.leavers) - len(away) + len(beyond) + drained.code + (peak > 1.2)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
