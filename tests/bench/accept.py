"""Accepting sessions: how many a second one core takes, and what REST notices when a crowd comes at once."""

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import crowd
from loads import EPISODES
from programs import Program, alone
from report import table

if TYPE_CHECKING:
    from parts import Bench, Result

COUNT = 5000
OURS, NODE = "greenroom", "Socket.IO on Node"
# Where the server runs, alone.
CORE = 0
# Ours to Node's, at least; REST's p99 with the crowd to that without, at most.
RATIO, REST_RATIO = 1.0, 3.0
# REST requests a second meanwhile, and connections that they may need at once.
PACE, CONNECTIONS = 100, 64
# Seconds that REST's clients have to connect, before the crowd stands in the same queue.
HEAD_START = 0.3
# What the kernel holds until it is accepted, whatever server.backlog says. Who comes beyond is not let in
# before it tries again, a second later; that is the kernel's pace, so no more are sent on their way at once.
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def measure(bench: "Bench") -> "Result":
    """
    Each session is authenticated by a token of its own, and subscribed.
    """
    houses = {OURS: crowd.greenroom(core=CORE), NODE: crowd.socketio_on_node(core=CORE)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in houses}
    for turn in range(bench.rounds):
        for number, (name, house) in enumerate(houses.items()):
            with house.start(bench.directory / f"{turn}-{number}") as program:
                come = crowd.come(bench.loads, house, program, COUNT, i=program.pid, d=0.1).counted()
            found[name].append(
                {
                    "per_second": COUNT / come["connect_seconds"],
                    "per_cpu": COUNT / come["connect_cpu"],
                }
            )
    ratios = [our["per_second"] / their["per_second"] for our, their in zip(*found.values(), strict=True)]
    medians = {
        name: {key: median([result[key] for result in results]) for key in results[0]}
        for name, results in found.items()
    }
    seconds = HEAD_START + max(1.0, COUNT / medians[OURS]["per_second"])
    return {"programs": medians, "ratio": median(ratios), "rest": _rest(bench, seconds)}


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    return {
        f"sessions a second at least {RATIO:g} times {NODE}'s": result["ratio"] >= RATIO,
        f"REST p99 while {COUNT} come at once at most {REST_RATIO:g} times that without": (
            result["rest"]["ratio"] <= REST_RATIO
        ),
    }


def report(result: "Result") -> list[str]:
    """
    A table, and what REST noticed.
    """
    rest = result["rest"]
    return [
        table(
            f"{COUNT} sessions, authenticated and subscribed, on one core",
            ("", "per second", "per CPU second"),
            (
                (name, f"{found['per_second']:.0f}", f"{found['per_cpu']:.0f}")
                for name, found in result["programs"].items()
            ),
        ),
        f"ours to Node's: {result['ratio']:.2f}",
        f"GET p99 at {PACE} a second: {rest['calm']:.2f} ms; while {COUNT} come, {rest['at_once']} at once: "
        f"{rest['crowded']:.2f} ms; ratios {' '.join(f'{ratio:.1f}' for ratio in rest['ratios'])}",
    ]


def _rest(bench: "Bench", seconds: float) -> dict[str, float]:
    """
    Read an episode at a moderate pace for as long as the crowd takes, without it and with it.

    The node has a core for itself. The crowd's program yields to the one that measures: what it does to
    come at once must not be taken for what the node does.
    """
    house = crowd.greenroom()
    pairs = []
    at_once = min(COUNT, int(SOMAXCONN.read_text()))
    for turn in range(bench.rounds):
        with (
            house.start(bench.directory / f"rest-{turn}") as program,
            alone(program, CORE),
            ThreadPoolExecutor() as pool,
        ):
            read: dict[str, Any] = {
                "concurrency": CONNECTIONS,
                "path": f"{EPISODES}/{create(program)}",
                "rate": PACE,
                "seconds": seconds,
            }
            bench.request(program, **read | {"seconds": 1})
            calm = bench.request(program, **read)["p99"]
            reading = pool.submit(bench.request, program, **read)
            time.sleep(HEAD_START)
            come = crowd.come(bench.loads, house, program, COUNT, gently=True, a=at_once, d=2 * seconds)
            # The crowd stays until then: that it goes at once is another matter.
            pairs.append((calm, reading.result()["p99"]))
            come.counted()
    ratios = [crowded / calm for calm, crowded in pairs]
    return {
        "at_once": at_once,
        "calm": median([calm for calm, _ in pairs]),
        "crowded": median([crowded for _, crowded in pairs]),
        "ratios": ratios,
        "ratio": median(ratios),
    }


def create(program: Program) -> str:
    """
    Create an episode; its id.
    """
    request = urllib.request.Request(
        f"http://127.0.0.1:{program.port}{EPISODES}",
        data=json.dumps({"title": "Pilot", "status": "draft", "categories": ["Drama"]}).encode(),
        headers={"Authorization": f"Bearer {program.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["id"])
