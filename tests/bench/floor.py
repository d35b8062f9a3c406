"""Fan-out against its floor and its peers: deliveries per second of the server's CPU, memory per session."""

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import crowd
from report import table

if TYPE_CHECKING:
    from parts import Bench, Result

COUNTS = (1000, 5000)
OURS, FLOOR, NODE, PYTHON = "greenroom", "C send() loop", "Socket.IO on Node", "python-socketio"
# Ours to theirs, at least.
FLOOR_RATIOS = {1000: 0.65, 5000: 0.6}
NODE_RATIO, PYTHON_RATIO = 1.5, 10.0
# KiB per idle session at the larger count, at most.
MEMORY = 20.0
# Seconds after which sessions are idle.
SETTLE = 1.0


def measure(bench: "Bench") -> "Result":
    """
    One event of about 200 bytes after the other, each to everybody.
    """
    houses = {
        FLOOR: crowd.send_loop(bench.loads),
        OURS: crowd.greenroom(),
        NODE: crowd.socketio_on_node(),
        PYTHON: crowd.socketio_on_python(),
    }
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for turn in range(bench.rounds):
        for count in COUNTS:
            for number, (name, house) in enumerate(houses.items()):
                directory = bench.directory / f"{turn}-{count}-{number}"
                found.setdefault(count, {}).setdefault(name, []).append(
                    _fan_out(bench, house, directory, count)
                )
    return {str(count): _compared(programs) for count, programs in found.items()}


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    kept = {}
    for count, ratio in FLOOR_RATIOS.items():
        ratios = result[str(count)]["ratios"]
        for name, least in ((FLOOR, ratio), (NODE, NODE_RATIO), (PYTHON, PYTHON_RATIO)):
            kept[f"deliveries per CPU second to {count} at least {least:g} times {name}'s"] = (
                ratios[name] >= least
            )
    most = max(COUNTS)
    kept[f"at most {MEMORY:g} KiB per idle session at {most}"] = (
        result[str(most)]["programs"][OURS]["kib"] <= MEMORY
    )
    return kept


def report(result: "Result") -> list[str]:
    """
    A table for each number of subscribers.
    """
    return [
        table(
            f"Deliveries to {count} subscribers, one event at a time",
            ("", "per CPU second", "per second", "bytes each", "p99 ms", "KiB per session", "ours to it"),
            (
                (
                    name,
                    f"{found['per_cpu']:.0f}",
                    f"{found['per_second']:.0f}",
                    f"{found['size']:.0f}",
                    f"{found['p99']:.2f}",
                    f"{found['kib']:.1f}",
                    f"{compared['ratios'].get(name, 1):.2f}",
                )
                for name, found in compared["programs"].items()
            ),
        )
        for count, compared in result.items()
    ]


def _fan_out(bench: "Bench", house: crowd.House, directory: Any, count: int) -> dict[str, Any]:
    with house.start(directory) as program:
        alone = program.memory()
        idle = crowd.come(bench.loads, house, program, count, d=SETTLE)
        time.sleep(SETTLE / 2)
        memory = (program.memory() - alone) / count
        idle.counted()
        published = {"q": program.publish, "W": 1, "w": 1, "d": bench.seconds, "i": program.pid}
        result = crowd.come(bench.loads, house, program, count, **published).result()
        return {**result, "kib": memory}


def _compared(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
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
                [our["per_cpu"] / their["per_cpu"] for our, their in zip(found[OURS], results, strict=True)]
            )
            for name, results in found.items()
            if name != OURS
        },
    }
