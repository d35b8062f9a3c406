"""The kinds of value an option may hold: how each is read, refused and shown. Knows no option by name."""

import json
import math
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated, TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen
class Taken:
    """
    Marks an option that a running node takes up on a reload, into what it has and what comes after.
    """


LIVE = Taken()
# Wraps the type of such an option; every other one needs a restart, and default.toml says so.
Live = Annotated[T, LIVE]


def toml(value: object) -> str:
    """
    Write one value as TOML would, so that what is shown can be pasted into a file.
    """
    match value:
        case str():
            # An environment variable may hold bytes that are no UTF-8; printing them must not fail.
            return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{', '.join(toml(item) for item in value)}]"
        case dict():
            return "{…}"
        case _:
            return str(value)


@attrs.frozen(kw_only=True)
class Kind:
    """
    One kind of value; it stands in the `Annotated` type of every option that holds it.

    `read` takes what TOML gave, or a value that was read before, and raises ValueError for anything
    else; `parse` turns the text of an environment variable into what TOML would have given.
    """

    # Completes the sentence "must be …".
    wanted: str
    read: Callable[[object], object]
    parse: Callable[[str], object] = str
    show: Callable[[object], str] = toml
    # `show` masks, and takes what `read` refuses: a value that is wrong may still be somebody's password.
    secret: bool = False


def read_int(value: object, *, least: int, most: float = math.inf) -> int:
    """
    Return `value` if it is a whole number within the limits; ValueError otherwise.
    """
    # A bool is an int to Python, but never a number to an operator.
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(value)
    return value


def read_float(value: object, *, least: float, most: float = math.inf) -> float:
    """
    Return `value` as a float if it is a finite number within the limits; ValueError otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(value) from error
    if not math.isfinite(number) or not least <= number <= most:
        raise ValueError(value)
    return number


def read_text(value: object, *, least: int = 0) -> str:
    """
    Return `value` if it is a text of at least `least` characters; ValueError otherwise.
    """
    if not isinstance(value, str) or len(value) < least:
        raise ValueError(value)
    return value


def _read_http_url(value: object) -> str:
    url = read_text(value)
    if url and re.fullmatch(r"https?://[^/@\s]+(/\S*)?", url) is None:
        raise ValueError(value)
    return url


def number_or_text(text: str) -> int | float | str:
    """
    Turn a number's text into the number, and leave other text as it is: "30", but also "30s".
    """
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def whole(least: int, most: int | None = None) -> Kind:
    """
    Whole numbers from `least` to `most`.
    """
    return Kind(
        wanted="a whole number " + (f"from {least} to {most}" if most is not None else f"of {least} or more"),
        read=lambda value: read_int(value, least=least, most=math.inf if most is None else most),
        parse=number_or_text,
    )


def choice(*words: str) -> Kind:
    """
    One of a few words.
    """

    def read(value: object) -> str:
        if value not in words:
            raise ValueError(value)
        return str(value)

    return Kind(wanted="one of " + ", ".join(toml(word) for word in words), read=read)


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


_FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _read_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(value)
    names = tuple(read_text(name, least=1) for name in value)
    if len(set(names)) < len(names):
        raise ValueError(value)
    return names


def some_of(*words: str) -> Kind:
    """
    A list of some of a few words, at least one.
    """

    def read(value: object) -> tuple[str, ...]:
        names = _read_names(value)
        if not names or not set(names) <= set(words):
            raise ValueError(value)
        return names

    return Kind(wanted=f"a list of some of {', '.join(map(toml, words))}", read=read, parse=_split_names)


def is_job_type(name: str) -> bool:
    """
    Whether it can be a job's type: lower case words joined by dots, at most a hundred characters.
    """
    return len(name) <= 100 and _JOB_TYPE.fullmatch(name) is not None


def _read_job_types(value: object) -> tuple[str, ...]:
    names = _read_names(value)
    if not all(map(is_job_type, names)):
        raise ValueError(value)
    return names


_JOB_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


def _read_origins(value: object) -> tuple[str, ...]:
    origins = _read_names(value)
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError(value)
    return origins


# As browsers name them (RFC 6454, section 7): nothing behind the port, no letters in upper case.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@A-Z\s]+")


def _split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")] if text.strip() else []


Flag = Annotated[
    bool, Kind(wanted="true or false", read=_read_flag, parse=lambda text: _FLAGS.get(text.lower(), text))
]
Text = Annotated[str, Kind(wanted="a text", read=read_text)]
SomeText = Annotated[
    str, Kind(wanted="a text that is not empty", read=lambda value: read_text(value, least=1))
]
HttpUrl = Annotated[
    str,
    Kind(wanted="a URL with http:// or https:// and without a user's name, or empty", read=_read_http_url),
]
Names = Annotated[
    tuple[str, ...],
    Kind(
        wanted='a list of different names such as ["activity", "audit"]', read=_read_names, parse=_split_names
    ),
]
JobTypes = Annotated[
    tuple[str, ...],
    Kind(
        wanted='a list of different job types, lower case words joined by dots, such as ["video.transcode"]',
        read=_read_job_types,
        parse=_split_names,
    ),
]
Origins = Annotated[
    tuple[str, ...],
    Kind(
        wanted='a list of origins such as ["https://studio.example.com"], or ["*"] for any',
        read=_read_origins,
        parse=_split_names,
    ),
]


def _read_networks(value: object) -> tuple[str, ...]:
    names = _read_names(value)
    for name in names:
        ip_network(name, strict=False)  # raises ValueError
    return names


Networks = Annotated[
    tuple[str, ...],
    Kind(
        wanted='a list of addresses or networks such as ["127.0.0.1", "10.0.0.0/8"]',
        read=_read_networks,
        parse=_split_names,
    ),
]
Count = Annotated[int, whole(1)]
CountOrZero = Annotated[int, whole(0)]
Fraction = Annotated[
    float,
    Kind(
        wanted="a number from 0 to 1",
        read=lambda value: read_float(value, least=0, most=1),
        parse=number_or_text,
    ),
]
