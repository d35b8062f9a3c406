"""The benchmark: ratios against named peers in the same run. `python tests/bench/run.py --help`."""

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import accept
import broken_plugin
import floor
import jobs
import peers
import report
import rest
import slow_clients
import socket_clients
import sqs
from loads import BenchError, Loads
from parts import Bench

# Parts with a module of their own: measure, goals, report.
MODULES = {
    "floor": floor,
    "accept": accept,
    "slow_clients": slow_clients,
    "broken_plugin": broken_plugin,
    "rest": rest,
    "jobs": jobs,
    "sqs": sqs,
    "socket_clients": socket_clients,
}
PARTS = ("creates", "paced", "latency", "fan_out", *MODULES)
# Parts whose peers run on Node.
ON_NODE = {"floor", "accept", "rest", "socket_clients"}
# Sockets of 5,000 subscribers, and all that else is open.
OPEN_FILES = 8192


def main() -> int:
    """
    Measure, report; 1 when a goal was missed and `--check` given, 2 when it could not be measured.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON, too")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement (default: 5)")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions; the median counts (default: 2)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    directory = Path(tempfile.mkdtemp(prefix="greenroom-bench-"))
    # The embedded PostgreSQL of root runs as somebody else, who must get to its data.
    directory.chmod(0o755)
    results: dict[str, Any] = {}
    failure: BenchError | None = None
    try:
        if ON_NODE.intersection(given.parts or PARTS):
            peers.check()
        _raise_open_files()
        bench = Bench(
            loads=Loads.compile(directory), directory=directory, seconds=given.seconds, rounds=given.rounds
        )
        for part in given.parts or PARTS:
            print(f"measuring {part} …", file=sys.stderr)
            module = MODULES.get(part)
            results[part] = getattr(bench, part)() if module is None else module.measure(bench)
            # The next part's nodes begin with empty databases, too.
            for leftover in directory.iterdir():
                if leftover.is_dir():
                    shutil.rmtree(leftover)
    except BenchError as error:
        failure = error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    texts, kept = report.report(results), report.goals(results)
    for part, module in MODULES.items():
        if part in results:
            texts += module.report(results[part])
            kept |= module.goals(results[part])
    if results:
        print(
            "\n\n".join(
                [*texts, "\n".join(f"{'met   ' if met else 'MISSED'}  {goal}" for goal, met in kept.items())]
            )
        )
    if given.json is not None:
        machine = {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}
        given.json.write_text(json.dumps({"machine": machine, **results, "goals": kept}, indent=2) + "\n")
    if failure is not None:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    return 1 if given.check and not all(kept.values()) else 0


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        raise BenchError(f"at most {hard} files may be open here; {OPEN_FILES} are needed: ulimit -Hn")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, OPEN_FILES), hard))


if __name__ == "__main__":
    sys.exit(main())
