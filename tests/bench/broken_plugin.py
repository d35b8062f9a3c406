"""What a plugin that crashes a hundred times a second costs requests and frames, to a node without it."""

import re
import urllib.request
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from programs import SETTINGS, Program, node
from report import table

if TYPE_CHECKING:
    from parts import Bench, Result

# It is never given up, and tried again so soon that it fails about a hundred times a second.
CRASHING = """
[plugins]
enabled = ["activity", "notifications", "audit", "crashing_plugin"]
discover = false
[plugins.crashing_plugin]
failures_to_quarantine = 1000000000
[supervision.plugin]
backoff_first = "8ms"
backoff_cap = "8ms"
"""
CALM = """
[plugins]
enabled = ["activity", "notifications", "audit"]
discover = false
"""
NAMES = ("without it", "with a plugin that crashes")
PAIRS = 6
PACE, CONNECTIONS, VIEWERS = 50, 8, 50
REAL_TIME = "/real-time"
# Of the medians of all pairs.
GOAL = 1.05
FAILURES = re.compile(r'^greenroom_effect_failures_total\{plugin="crashing_plugin"\} (\S+)$', re.MULTILINE)


def measure(bench: "Bench") -> "Result":
    """
    Creates at a moderate pace and the frames that follow from them, in pairs on two nodes side by side.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    with ExitStack() as stack:
        programs = {
            name: stack.enter_context(
                node(bench.directory / f"broken-{number}", SETTINGS + more, publishing=True)
            )
            for number, (name, more) in enumerate(zip(NAMES, (CALM, CRASHING), strict=True))
        }
        for program in programs.values():
            bench.loads.requests(program.port, program.token, concurrency=16, seconds=2)
        broken = programs[NAMES[1]]
        before, order = _failures(broken), list(programs.items())
        for _ in range(PAIRS * bench.rounds):
            for name, program in order:
                found[name].append(_one(bench, program))
            order.reverse()
        lasted = 2 * PAIRS * bench.rounds * bench.seconds
        crashes = (_failures(broken) - before) / lasted
    calm, crashing = (found[name] for name in NAMES)
    pairs = list(zip(calm, crashing, strict=True))
    return {
        "crashes_per_second": crashes,
        **{name: {what: median([one[what] for one in found[name]]) for what in calm[0]} for name in NAMES},
        "ratios": {what: median([bad[what] / good[what] for good, bad in pairs]) for what in calm[0]},
    }


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    return {
        f"{what} with a plugin that crashes at most {GOAL:g} times that without": ratio <= GOAL
        for what, ratio in result["ratios"].items()
        if what.endswith("p99")
    }


def report(result: "Result") -> list[str]:
    """
    The table.
    """
    rows = [
        (what, *(f"{result[name][what]:.2f} ms" for name in NAMES), f"{ratio:.2f}")
        for what, ratio in result["ratios"].items()
    ]
    crashes = f"{result['crashes_per_second']:.0f} times a second"
    title = f"A plugin that crashes {crashes}, at {PACE} creates a second"
    return [table(title, ("", *NAMES, "ratio, median of pairs"), rows)]


def _one(bench: "Bench", program: Program) -> dict[str, float]:
    viewers = bench._subscribers(program, REAL_TIME, VIEWERS, d=bench.seconds)
    requests = bench.loads.requests(
        program.port, program.token, concurrency=CONNECTIONS, seconds=bench.seconds - 0.5, rate=PACE
    )
    frames = viewers.result()
    return {
        "REST p50": requests["p50"],
        "REST p99": requests["p99"],
        "frame p50": frames["p50"],
        "frame p99": frames["p99"],
    }


def _failures(program: Program) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{program.port}/metrics", timeout=10) as answer:
        [number] = FAILURES.findall(answer.read().decode())
    return float(number)
