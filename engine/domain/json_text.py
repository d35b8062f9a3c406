"""JSON that comes from strangers: read strictly, so that what was read can be stored and shown as it is."""

import json
import math
from collections.abc import Iterable

# How deep it may be nested; Python's own limit depends on who called.
DEEPEST = 64


def parse(text: str) -> object:
    """
    The value in this text. Raises ValueError that says why it cannot be kept, and shows nothing of it.

    Refused besides what is no JSON (RFC 8259): names that stand twice in one object, numbers of more than 64
    bits, and text with NUL or half a surrogate pair, which PostgreSQL's jsonb does not store.
    """
    try:
        value: object = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError(f"is nested deeper than {DEEPEST} levels") from None
    _check(value, DEEPEST)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("has a name twice in one object")
    return found


def _constant(name: str) -> object:
    raise ValueError(f"has {name}, which is not JSON")


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"is nested deeper than {DEEPEST} levels")
    inside: Iterable[object] = ()
    match value:
        case str():
            if "\x00" in value:
                raise ValueError("has a text with the NUL character")
            if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
                raise ValueError("has a text with half a surrogate pair")
        case float():
            if not math.isfinite(value):
                raise ValueError("has a number that is too large")
        case int():
            if not -(2**63) <= value < 2**64:
                raise ValueError("has an integer of more than 64 bits")
        case dict():
            inside = (part for pair in value.items() for part in pair)
        case list():
            inside = value
    for each in inside:
        _check(each, depth - 1)


def storable(text: str) -> str:
    """
    A text without what PostgreSQL's cannot hold: NUL, and halves of surrogate pairs, as in names of files.
    """
    return text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
