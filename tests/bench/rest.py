"""REST: requests per second of the server's CPU, ours against stock Hypercorn's and against Express."""

from collections.abc import Mapping
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

import peers
from accept import create
from loads import EPISODES
from programs import SETTINGS, node
from report import table

if TYPE_CHECKING:
    from parts import Bench, Result

CONCURRENCY = 16
# Seconds in which what follows from the last creates is written: its CPU counts.
SETTLE = 0.4
WARM_UP = 3
WHAT = ("GET", "POST")
OURS, STOCK, EXPRESS = "greenroom", "greenroom on stock Hypercorn", "Express"
# Not the same application: it lets everybody in. Shown, because a token costs Express more than the rest.
OPEN = "Express that asks for no token"
# Requests per CPU second, ours to theirs.
STOCK_RATIO, EXPRESS_RATIO = 1.8, 1.0


def measure(bench: "Bench") -> "Result":
    """
    Read one episode, and create episodes, with everything that follows from that.

    All run side by side and are measured in turn, so that what disturbs the machine disturbs all.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {method: {} for method in WHAT}
    with ExitStack() as stack:
        programs = {
            OURS: stack.enter_context(node(bench.directory / "ours", SETTINGS)),
            STOCK: stack.enter_context(node(bench.directory / "stock", SETTINGS, stock=True)),
            EXPRESS: stack.enter_context(peers.express(bench.directory / "express", tokens=True)),
            OPEN: stack.enter_context(peers.express(bench.directory / "open", tokens=False)),
        }
        paths = {name: f"{EPISODES}/{create(program)}" for name, program in programs.items()}
        for program in programs.values():
            # Prepared statements, caches, and what Node compiles of its hot code.
            bench.request(program, concurrency=CONCURRENCY, seconds=WARM_UP)
        for _ in range(2 * bench.rounds):
            for name, program in programs.items():
                for method, path in (("GET", paths[name]), ("POST", None)):
                    result = bench.request(program, concurrency=CONCURRENCY, path=path, settle=SETTLE)
                    found[method].setdefault(name, []).append(result)
    return {method: _compared(results) for method, results in found.items()}


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    kept = {
        f"{method} per CPU second at least {STOCK_RATIO:g} times stock Hypercorn's": (
            result[method]["ratios"][STOCK] >= STOCK_RATIO
        )
        for method in WHAT
    }
    return kept | {
        "POST per CPU second not below Express": result["POST"]["ratios"][EXPRESS] >= EXPRESS_RATIO
    }


def report(result: "Result") -> list[str]:
    """
    A table for each method.
    """
    return [
        table(
            f"{method} episodes, concurrency {CONCURRENCY}",
            ("", "per CPU second", "per second", "p50 ms", "p99 ms", "ours to it"),
            (
                (
                    name,
                    f"{1000 / found['cpu_ms']:.0f}",
                    f"{found['rps']:.0f}",
                    f"{found['p50']:.2f}",
                    f"{found['p99']:.2f}",
                    f"{result[method]['ratios'].get(name, 1):.2f}",
                )
                for name, found in result[method]["programs"].items()
            ),
        )
        for method in WHAT
    ]


def _compared(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """
    The medians, and the median of the ratios of what was measured one after the other.
    """
    return {
        "programs": {
            name: {key: median([result[key] for result in results]) for key in results[0]}
            for name, results in found.items()
        },
        "ratios": {
            name: median(
                [their["cpu_ms"] / our["cpu_ms"] for our, their in zip(found[OURS], results, strict=True)]
            )
            for name, results in found.items()
            if name != OURS
        },
    }
