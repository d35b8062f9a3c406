"""Makes checked episodes of a file's bytes, or tells every mistake in it. Pure: does no I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from engine.domain.episode import FIELDS, parse_new
from engine.domain.fields import Invalid
from plugins.imports.csv_rows import csv_rows
from plugins.imports.json_rows import json_rows
from plugins.imports.rows import MAX_FIELDS, Mistake, UnreadableError, told

READERS = {".csv": csv_rows, ".json": json_rows}
MAX_BYTES = 8 * 1024 * 1024
MAX_EPISODES = 5_000
# As many mistakes are told; of more, only how many they are.
MAX_TOLD = 50
# And as many characters of them: a job's error has 4,000.
MAX_TEXT = 3000
# After so many episodes it is told how far it has got.
STEP = 100


@attrs.frozen
class Refused:
    """
    The file is wrong in `count` places, the first of which are told; nothing of it is imported.
    """

    mistakes: tuple[Mistake, ...]
    count: int

    def __str__(self) -> str:
        lines = [f"{self.count} mistake{'s' if self.count > 1 else ''}, nothing was imported"]
        room = MAX_TEXT
        for mistake in self.mistakes[:MAX_TOLD]:
            line = str(mistake)
            if (room := room - len(line) - 1) < 0:
                break
            lines.append(line)
        if more := self.count - len(lines) + 1:
            lines.append(f"and {more} more")
        return "\n".join(lines)

    @classmethod
    def of(cls, mistakes: Sequence[Mistake]) -> "Refused":
        """
        The refusal for these.
        """
        return cls(tuple(mistakes), len(mistakes))


@attrs.frozen
class Checked:
    """
    The fields of one right episode, and the line in which it begins.
    """

    line: int
    fields: Mapping[str, Any]


def suffix_of(path: str) -> str | None:
    """
    Which of READERS reads the file, by how its name ends; None when none does.
    """
    return next((suffix for suffix in READERS if path.lower().endswith(suffix)), None)


def parse(suffix: str, data: bytes, progressed: Callable[[float], None]) -> list[Checked] | Refused:
    """
    The fields of the file's episodes, each as `engine.domain.episode.parse_new` wants them.

    `progressed` is told, every STEP episodes, which part of them was checked; it may raise to end this.
    """
    try:
        rows = []
        for row in READERS[suffix](_text(data)):
            rows.append(row)
            if len(rows) > MAX_EPISODES:
                wrong = f"is beyond the {MAX_EPISODES:,} episodes that one file may have; split it"
                raise UnreadableError(Mistake(row.line, "", wrong))
    except UnreadableError as error:
        return Refused.of(error.mistakes)
    episodes: list[Checked] = []
    mistakes: list[Mistake] = []
    count_wrong = 0
    for count, row in enumerate(rows):
        if count % STEP == 0:
            progressed(count / len(rows))
        # Something is wrong with the whole of it: what its fields are is not known.
        fields = row.mistakes or _checked(row.line, row.value)
        if isinstance(fields, tuple):
            count_wrong += len(fields)
            mistakes += fields[: MAX_TOLD - len(mistakes)]
        else:
            episodes.append(Checked(row.line, fields))
    if not rows:
        return Refused.of([Mistake(1, "", "there is no episode in this file")])
    return Refused(tuple(mistakes), count_wrong) if mistakes else episodes


def _checked(line: int, value: object) -> dict[str, Any] | tuple[Mistake, ...]:
    if isinstance(value, Mapping) and len(value) > MAX_FIELDS:
        return (Mistake(line, "", f"has {len(value)} fields; known are {', '.join(FIELDS)}"),)
    fields = parse_new(value)
    if isinstance(fields, Invalid):
        return tuple(Mistake(line, _name(error.field), error.message) for error in fields.errors)
    return fields


def _name(field: str) -> str:
    return field if (field.isidentifier() and len(field) < 40) or not field else told(field)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = f"byte {error.start + 1} of the file is no UTF-8; save the file as UTF-8"
        raise UnreadableError(Mistake(line, "", wrong)) from None
