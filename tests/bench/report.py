"""The report for people: one table for each measurement, and whether the goals are met."""

from collections.abc import Iterable, Mapping
from typing import Any

# Ratio of the POST's median with effects to without, at most; deliveries per CPU second to the plain loops',
# at least.
PACED_RATIO, FAN_OUT_RATIO = 1.10, 10.0


def goals(results: Mapping[str, Any]) -> dict[str, bool]:
    """
    What was promised of the measurements that were made, and whether it is kept.
    """
    kept = {}
    if "paced" in results:
        kept[f"POST p50 with effects at most {PACED_RATIO:g} times without"] = (
            results["paced"]["ratio"] <= PACED_RATIO
        )
    if "fan_out" in results:
        kept[f"deliveries per CPU second at least {FAN_OUT_RATIO:g} times the plain loops'"] = (
            results["fan_out"]["ratio"] >= FAN_OUT_RATIO
        )
    return kept


def report(results: Mapping[str, Any]) -> list[str]:
    """
    All of it as text, part by part.
    """
    parts: list[str] = []
    if "creates" in results:
        parts.append(
            table(
                "Creates, as many as it can",
                ("", "per second", "p50 ms", "p99 ms", "CPU ms each"),
                (
                    (name, f"{found['rps']:.0f}", *_times(found), f"{found['cpu_ms']:.2f}")
                    for name, found in results["creates"].items()
                ),
            )
        )
    if "paced" in results:
        paced = dict(results["paced"])
        ratios, ratio = paced.pop("ratios"), paced.pop("ratio")
        parts.append(
            table(
                "Creates, paced at 50 a second",
                ("", "p50 ms", "p99 ms", "CPU ms each"),
                ((name, *_times(found), f"{found['cpu_ms']:.2f}") for name, found in paced.items()),
            )
        )
        spread = f"{len(ratios)} pairs, from {min(ratios):.2f} to {max(ratios):.2f}"
        parts.append(f"p50 with effects to p50 without: {ratio:.3f} (median of {spread})")
    if "latency" in results:
        parts.append(
            table(
                "From commit to frame, 50 clients, 50 creates a second",
                ("deliveries", "p50 ms", "p99 ms"),
                [(f"{results['latency']['deliveries']}", *_times(results["latency"]))],
            )
        )
    if "fan_out" in results:
        fan_out = dict(results["fan_out"])
        ratio = fan_out.pop("ratio")
        parts.append(
            table(
                "Deliveries to 1,000 subscribers",
                ("", "per CPU second", "per second", "bytes each", "p50 ms", "p99 ms"),
                (
                    (
                        name,
                        f"{found['per_cpu']:.0f}",
                        f"{found['per_second']:.0f}",
                        f"{found['size']:.0f}",
                        *_times(found),
                    )
                    for name, found in fan_out.items()
                ),
            )
        )
        parts.append(f"Greenroom, one event at a time, to the better plain loop: {ratio:.1f}")
    return parts


def _times(found: Mapping[str, Any]) -> tuple[str, str]:
    return f"{found['p50']:.2f}", f"{found['p99']:.2f}"


def table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """
    Rows of text under a title, the columns aligned.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        [
            title,
            *(
                "  ".join(
                    cell.ljust(width) if column == 0 else cell.rjust(width)
                    for column, (cell, width) in enumerate(zip(line, widths, strict=True))
                ).rstrip()
                for line in lines
            ),
        ]
    )
