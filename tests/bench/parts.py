"""The measurements: what is run against what, how often, for how long. Knows nothing of their report."""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import attrs
from crowd import PING, SUBSCRIBED
from loads import Loads, Subscribers
from programs import HERE, SETTINGS, WITHOUT_EFFECTS, Program, node, publisher

CONCURRENCIES = (1, 16)
# Requests a second, connections that they may need at once; pairs of measurements in a round, and how long
# each of a pair is, as part of an ordinary measurement.
PACE, PACED_CONNECTIONS = 50, 64
PAIRS, PAIRED = 16, 0.2
VIEWERS = 50
SUBSCRIBERS = 1000
REAL_TIME = "/real-time"
# The peers' WebSockets: plain_loop.py. The better of the two is what Greenroom is compared with.
PEERS = {"one loop of await send": "/one-loop", "a loop and a queue each": "/loop-each"}
# Events published and not yet delivered to everybody: one after the other; and as many as pile up when a
# busy house commits faster than a turn of the catalog's actor.
WINDOWS = (1, 32)

Result = dict[str, Any]


@attrs.frozen(kw_only=True)
class Bench:
    """
    One run: where it may write, for how long each measurement takes, how often each is repeated.
    """

    loads: Loads
    directory: Path
    seconds: float
    rounds: int

    def creates(self) -> Result:
        """
        How many creates a second at most, with and without effects.
        """
        results: dict[str, list[Result]] = {}
        with self._both() as programs:
            for _ in range(self.rounds):
                for concurrency in CONCURRENCIES:
                    for name, program in programs.items():
                        results.setdefault(f"{name}, concurrency {concurrency}", []).append(
                            self.request(program, concurrency=concurrency)
                        )
        return {name: _medians(found) for name, found in results.items()}

    def paced(self) -> Result:
        """
        What effects cost a request at a moderate pace: the ratio of each pair's medians, and its median.

        Many short pairs, each in the other order than the one before: a machine is never quiet for long.
        """
        results: dict[str, list[Result]] = {}
        with self._both() as programs:
            order = list(programs.items())
            for _ in range(PAIRS * self.rounds):
                for name, program in order:
                    results.setdefault(name, []).append(
                        self.request(
                            program, concurrency=PACED_CONNECTIONS, rate=PACE, seconds=self.seconds * PAIRED
                        )
                    )
                order.reverse()
        pairs = zip(results["effects on"], results["all plugins off"], strict=True)
        ratios = [on["p50"] / off["p50"] for on, off in pairs]
        return {
            **{name: _medians(found) for name, found in results.items()},
            "ratios": ratios,
            "ratio": median(ratios),
        }

    def latency(self) -> Result:
        """
        From the commit, as the node learns of it, to the frame at each of 50 clients.
        """
        with node(self.directory / "latency", SETTINGS, publishing=True) as program:
            self.loads.requests(program.port, program.token, concurrency=1, seconds=1)
            clients = self._subscribers(program, REAL_TIME, VIEWERS, d=self.seconds)
            self.loads.requests(
                program.port,
                program.token,
                concurrency=PACED_CONNECTIONS,
                seconds=self.seconds - 0.5,
                rate=PACE,
            )
            return clients.result()

    def fan_out(self) -> Result:
        """
        Deliveries per second of the server's CPU, by the real serving path and by the plain loops.
        """
        measured: Result = {}
        plain_loop = [sys.executable, "-u", str(HERE / "plain_loop.py")]
        with publisher(self.directory / "plain", plain_loop) as program:
            for name, path in PEERS.items():
                measured[name] = self._publish(program, path, 1)
        with node(self.directory / "fanout", WITHOUT_EFFECTS, publishing=True) as program:
            for window in WINDOWS:
                measured[f"greenroom, {window} at a time"] = self._publish(program, REAL_TIME, window)
        best = max(measured[name]["per_cpu"] for name in PEERS)
        return {**measured, "ratio": measured["greenroom, 1 at a time"]["per_cpu"] / best}

    def _publish(self, program: Program, path: str, window: int) -> Result:
        published = {"q": program.publish, "W": window, "w": 1, "d": self.seconds, "i": program.pid}
        return self._subscribers(program, path, SUBSCRIBERS, **published).result()

    def _subscribers(self, program: Program, path: str, count: int, **options: Any) -> Subscribers:
        ours = {"P": f"bearer, {program.token}", "s": PING} if program.token else {}
        return self.loads.subscribers(program.port, count, u=path, k=SUBSCRIBED, **ours, **options)

    def request(
        self,
        program: Program,
        *,
        concurrency: int,
        path: str | None = None,
        rate: float = 0,
        seconds: float | None = None,
        settle: float = 0,
    ) -> Result:
        """
        Create episodes, or read what is at `path`, and what CPU each takes, up to `settle` seconds later.
        """
        before = program.cpu()
        result = self.loads.requests(
            program.port,
            program.token,
            concurrency=concurrency,
            path=path,
            rate=rate,
            seconds=seconds or self.seconds,
        )
        time.sleep(settle)
        return {**result, "cpu_ms": 1000 * (program.cpu() - before) / result["ok"]}

    def _both(self) -> "Both":
        return Both(self)


@attrs.define
class Both:
    """
    Two nodes side by side, with and without effects: what disturbs the machine disturbs both.
    """

    bench: Bench
    _stack: ExitStack = attrs.field(factory=ExitStack, init=False)

    def __enter__(self) -> Mapping[str, Program]:
        programs = {}
        for name, settings in (("effects on", SETTINGS), ("all plugins off", WITHOUT_EFFECTS)):
            directory = self.bench.directory / name.replace(" ", "-")
            programs[name] = self._stack.enter_context(node(directory, settings))
        for program in programs.values():
            # Prepared statements, caches, the first pages of the database.
            self.bench.loads.requests(program.port, program.token, concurrency=16, seconds=1)
        return programs

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()


def _medians(results: list[Result]) -> Result:
    return {name: median([result[name] for result in results]) for name in results[0]}
