"""Checks of single fields, and the errors that name every bad one. Knows nothing of HTTP."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs


@attrs.frozen
class FieldError:
    """
    One bad field: a dotted name, and what would be right.
    """

    field: str
    message: str


@attrs.frozen
class Invalid:
    """
    A refusal: the input breaks these rules, all of them at once.
    """

    errors: tuple[FieldError, ...]


def said(errors: Iterable[FieldError]) -> str:
    """
    The mistakes in one line.
    """
    return "; ".join(f"{error.field} {error.message}".strip() for error in errors)


# A check returns the value to keep, or raises ValueError with what would be right.
Check = Callable[[object], object]


def text(*, least: int, most: int, optional: bool = False) -> Check:
    """
    A string of `least` to `most` characters, blank ones not counted at its ends.
    """
    rule = f"must be a string of {least} to {most} characters" + (" or null" if optional else "")

    def check(value: object) -> object:
        if value is None and optional:
            return None
        if not isinstance(value, str):
            raise ValueError(rule)
        if "\x00" in value:
            raise ValueError("must not contain the NUL character")
        value = value.strip()
        if not least <= len(value) <= most:
            raise ValueError(f"{rule}, not {len(value)}")
        return value

    return check


def whole_number(*, least: int, most: int, optional: bool = False) -> Check:
    """
    An integer in the range.
    """
    rule = f"must be an integer from {least} to {most}" + (", or null" if optional else "")

    def check(value: object) -> object:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(rule)
        return value

    return check


def one_of(values: Iterable[str]) -> Check:
    """
    One of the given words.
    """
    allowed = tuple(values)
    rule = f"must be one of {', '.join(allowed)}"

    def check(value: object) -> object:
        if value not in allowed:
            raise ValueError(rule)
        return value

    return check


def uuid_text(*, optional: bool = False) -> Check:
    """
    A UUID, kept in its one spelling.
    """
    rule = "must be a UUID" + (" or null" if optional else "")

    def check(value: object) -> object:
        if value is None and optional:
            return None
        if not isinstance(value, str):
            raise ValueError(rule)
        try:
            return str(uuid.UUID(value))
        except ValueError:
            raise ValueError(rule) from None

    return check


def list_of(item: Check, *, most: int, unique: bool = False) -> Check:
    """
    A list of at most `most` items, each passing `item`.
    """
    rule = f"must be a list of at most {most} items"

    def check(value: object) -> object:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(rule)
        kept = []
        for index, one in enumerate(value):
            try:
                kept.append(item(one))
            except ValueError as error:
                raise ValueError(f"item {index} {error}") from None
        if unique and len(set(kept)) != len(kept):
            raise ValueError("must not name anything twice")
        return kept

    return check


def check_fields(
    given: object, checks: Mapping[str, Check], *, required: Iterable[str] = ()
) -> dict[str, Any] | Invalid:
    """
    The checked values of the fields that were given, or every mistake: unknown, missing and bad fields.
    """
    if not isinstance(given, Mapping):
        return Invalid((FieldError("", "must be a JSON object"),))
    errors = [FieldError(name, "is required") for name in required if name not in given]
    values: dict[str, Any] = {}
    for name, value in given.items():
        check = checks.get(name)
        if check is None:
            errors.append(FieldError(str(name), f"is not known here; known are {', '.join(checks)}"))
            continue
        try:
            values[name] = check(value)
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
    return Invalid(tuple(errors)) if errors else values
