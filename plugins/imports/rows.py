"""Rows and mistakes: what the readers of CSV and of JSON have in common."""

import attrs

# Longer names in a file are cut in what is told of them.
TOLD = 60
# Whoever has more columns, or more names in one object, is not told of each of them.
MAX_FIELDS = 50


@attrs.frozen
class Mistake:
    """
    What is wrong in one line of the file, and what would be right; `field` is empty for the line as a whole.
    """

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return (
            f"line {self.line}: {self.field} {self.message}"
            if self.field
            else (f"line {self.line}: {self.message}")
        )


@attrs.frozen
class Row:
    """
    What stands in the file for one episode, unchecked, and the line that it begins in, counted from 1.
    """

    line: int
    value: object
    mistakes: tuple[Mistake, ...] = ()


class UnreadableError(Exception):
    """
    The file cannot be read on from here; `mistakes` tell why. Refuse the file.
    """

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = mistakes


def told(name: object) -> str:
    """
    A name from the file, as a message shows it.
    """
    text = repr(name)
    return text if len(text) <= TOLD else f"{text[:TOLD]}…"
