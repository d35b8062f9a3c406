"""Spans of time and amounts of memory, as operators write them. Knows no option by name."""

import math
import re
from typing import Annotated

from conf.kinds import Kind, number_or_text, read_float, read_int, toml

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h)")
_BYTES = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
_SIZE = re.compile(r"([0-9]+) ?(GiB|MiB|KiB|B)")


def read_duration(value: object, *, least: float = 0, most: float = math.inf) -> float:
    """
    Return the seconds in "250ms", "30s", "5m", "12h" or a number of seconds.

    Raises ValueError for anything else, and for what is not from `least` to `most` seconds long.
    """
    if isinstance(value, str):
        if (parts := _DURATION.fullmatch(value)) is None:
            raise ValueError(value)
        value = float(parts[1]) * _SECONDS[parts[2]]
    return read_float(value, least=least, most=most)


def show_duration(seconds: float) -> str:
    """
    Write seconds in the largest unit that leaves a whole number: 43200.0 is "12h".
    """
    for unit, length in _SECONDS.items():
        count = round(seconds / length)
        if count and math.isclose(count * length, seconds, rel_tol=1e-12):
            return f"{count}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def read_size(value: object) -> int:
    """
    Return the bytes in "512B", "64KiB", "1MiB", "2GiB" or a number of bytes; ValueError otherwise.
    """
    if isinstance(value, str):
        if (parts := _SIZE.fullmatch(value)) is None:
            raise ValueError(value)
        value = int(parts[1]) * _BYTES[parts[2]]
    return read_int(value, least=1)


def show_size(size: int) -> str:
    """
    Write bytes in the largest unit that leaves a whole number: 262144 is "256KiB".
    """
    unit = next(unit for unit, length in _BYTES.items() if size % length == 0)
    return f"{size // _BYTES[unit]}{unit}"


def duration(*, or_zero: bool = False, least: float = 0.0, most: float = math.inf) -> Kind:
    """
    Durations longer than zero, or zero too, of at least `least` and at most `most` seconds.
    """
    wanted = 'a duration such as "500ms", "30s", "12h"'
    if least:
        wanted += f", at least {show_duration(least)}"
    elif not or_zero:
        wanted += ", longer than zero"
        least = math.ulp(0)
    wanted += "" if math.isinf(most) else f", at most {show_duration(most)}"
    return Kind(
        wanted=wanted,
        read=lambda value: read_duration(value, least=least, most=most),
        parse=number_or_text,
        show=lambda value: toml(show_duration(read_duration(value))),
    )


Duration = Annotated[float, duration()]
DurationOrZero = Annotated[float, duration(or_zero=True)]
Size = Annotated[
    int,
    Kind(
        wanted='a size such as "64KiB" or "1MiB", more than zero',
        read=read_size,
        parse=number_or_text,
        show=lambda value: toml(show_size(read_size(value))),
    ),
]
