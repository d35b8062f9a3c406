"""Fan-out to Socket.IO clients, Greenroom's and Node's: deliveries per second of the server's CPU."""

from statistics import median
from typing import TYPE_CHECKING, Any

import crowd
from report import table

if TYPE_CHECKING:
    from parts import Bench, Result

SUBSCRIBERS = 1000
OURS, NODE = "Socket.IO on Greenroom", "Socket.IO on Node"
# Ours to theirs, at least.
RATIO = 1.5


def measure(bench: "Bench") -> "Result":
    """
    One event after the other, each to everybody, over WebSocket: the same bytes; the two in turn.
    """
    houses = {OURS: crowd.socketio_on_greenroom(), NODE: crowd.socketio_on_node(data_only=True)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in houses}
    for turn in range(bench.rounds):
        for number, (name, house) in enumerate(houses.items()):
            with house.start(bench.directory / f"socketio-{turn}-{number}") as program:
                published = {"q": program.publish, "W": 1, "w": 1, "d": bench.seconds, "i": program.pid}
                crowded = crowd.come(bench.loads, house, program, SUBSCRIBERS, **published)
                found[name].append(crowded.result())
    pairs = zip(found[OURS], found[NODE], strict=True)
    return {
        "programs": {
            name: {key: median([result[key] for result in results]) for key in results[0]}
            for name, results in found.items()
        },
        "ratio": median([our["per_cpu"] / their["per_cpu"] for our, their in pairs]),
    }


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    goal = f"deliveries per CPU second to {SUBSCRIBERS} Socket.IO clients at least {RATIO:g} times {NODE}'s"
    return {goal: result["ratio"] >= RATIO}


def report(result: "Result") -> list[str]:
    """
    One table.
    """
    rows = [
        (name, f"{it['per_cpu']:.0f}", f"{it['per_second']:.0f}", f"{it['size']:.0f}", f"{it['p99']:.2f}")
        for name, it in result["programs"].items()
    ]
    title = f"Deliveries to {SUBSCRIBERS} Socket.IO clients; ours to Node's: {result['ratio']:.2f}"
    return [table(title, ("", "per CPU second", "per second", "bytes each", "p99 ms"), rows)]
