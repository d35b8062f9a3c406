"""Jobs: how many a second go through the Postgres queue, how soon one begins; against bare loops of SQL."""

import json
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING, Any

from loads import BenchError
from programs import HERE, ROOT
from report import table

if TYPE_CHECKING:
    from parts import Bench, Result

# Jobs a second to the bare loop's, at least; the wake-up's median to the bare one's, at most.
RATE_RATIO, WAKE_RATIO = 0.4, 2.0
ALL_PLUGINS = "activity,notifications,audit"
# Jobs in a measurement for each of its seconds; wake-ups.
JOBS, WAKES = 600, 100
PATIENCE = 600


def measure(bench: "Bench") -> "Result":
    """
    With all plugins off, which is what the bare loop does; and with them, which nobody leaves out.
    """
    return {"plugins off": _measure(bench, "off", ""), "plugins on": _measure(bench, "on", ALL_PLUGINS)}


def _measure(bench: "Bench", name: str, plugins: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "job_loops.py"), str(bench.directory / f"jobs-{name}")]
    sizes = {
        "jobs": max(500, round(bench.seconds * JOBS / 500) * 500),
        "wakes": WAKES,
        "rounds": bench.rounds,
    }
    for option, value in sizes.items():
        command += [f"--{option}", str(value)]
    command += ["--plugins", plugins]
    done = subprocess.run(
        command, cwd=ROOT, env=None, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise BenchError(f"jobs could not be measured: {done.stderr[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        **{key: median(values) for key, values in found.items()},
        "rate_ratio": median(_ratios(found["ours"], found["bare"])),
        "wake_ratio": median(_ratios(found["our_wake"], found["bare_wake"])),
    }


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    found = result["plugins off"]
    return {
        f"jobs a second at least {RATE_RATIO:g} times the bare loop's": found["rate_ratio"] >= RATE_RATIO,
        f"wake-up p50 at most {WAKE_RATIO:g} times the bare one's": found["wake_ratio"] <= WAKE_RATIO,
    }


def report(result: "Result") -> list[str]:
    """
    One table.
    """
    rows = [
        (
            name,
            f"{found['ours']:.0f}",
            f"{found['bare']:.0f}",
            f"{found['rate_ratio']:.2f}",
            f"{1000 * found['our_wake']:.2f}",
            f"{1000 * found['bare_wake']:.2f}",
            f"{found['wake_ratio']:.2f}",
        )
        for name, found in result.items()
    ]
    head = ("", "jobs/s", "bare loop", "ratio", "wake-up p50 ms", "bare INSERT+NOTIFY", "ratio")
    return [
        table("No-op jobs from the Postgres queue, claimed, run and completed, with their events", head, rows)
    ]
