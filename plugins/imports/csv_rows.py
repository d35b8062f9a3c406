"""The rows of a CSV file of episodes: a header with the fields' names, then an episode in each line."""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from engine.domain.episode import FIELDS
from plugins.imports.rows import MAX_FIELDS, Mistake, Row, UnreadableError, told

SEPARATOR = ";"
_KNOWN = f"some of {', '.join(FIELDS)}"
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def csv_rows(text: str) -> Iterator[Row]:
    """
    The rows, blank lines left out. Raises UnreadableError.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UnreadableError(Mistake(line, "", f"is no CSV: {error}")) from None
        if cells is None:
            break
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(line, cells)
        else:
            yield _row(line, header, cells)
    if header is None:
        raise UnreadableError(Mistake(1, "", f"must be a header that names the columns, {_KNOWN}"))


def _header(line: int, cells: Sequence[str]) -> list[str]:
    if len(cells) > MAX_FIELDS:
        raise UnreadableError(Mistake(line, "", f"has {len(cells)} columns; name {_KNOWN}"))
    names = [cell.strip().lower() for cell in cells]
    mistakes = [
        Mistake(line, "", f"column {place} is {told(name)}, which is none of {', '.join(FIELDS)}")
        for place, name in enumerate(names, 1)
        if name not in FIELDS
    ]
    mistakes += [
        Mistake(line, name, "stands twice in the header") for name in FIELDS if names.count(name) > 1
    ]
    if "title" not in names:
        mistakes.append(Mistake(line, "title", "is required as a column; columns are separated by commas"))
    if mistakes:
        raise UnreadableError(*mistakes)
    return names


def _row(line: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(header):
        wrong = f"has {len(cells)} cells, and the header {len(header)}; quote a cell that has a comma in it"
        return Row(line, {}, (Mistake(line, "", wrong),))
    # An empty cell is a field that was left out.
    filled = zip(header, (cell.strip() for cell in cells), strict=True)
    return Row(line, {name: _value(name, cell) for name, cell in filled if cell})


def _value(name: str, cell: str) -> object:
    if name == "episode_number" and _NUMBER.fullmatch(cell):
        return int(cell)
    if name == "categories":
        return [one for part in cell.split(SEPARATOR) if (one := part.strip())]
    return cell
