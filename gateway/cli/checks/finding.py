"""One thing that the doctor found, and how bad it is."""

import enum

import attrs


class Grade(enum.IntEnum):
    """
    Fine; worth knowing; wrong, so that a node does not do what it should.
    """

    OK = 0
    NOTE = 1
    WRONG = 2


@attrs.frozen
class Finding:
    """
    What was looked at, what was found, and what to do about it.
    """

    grade: Grade
    what: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        words = {Grade.OK: "ok", Grade.NOTE: "note", Grade.WRONG: "wrong"}
        text = f"{words[self.grade]:<6}{self.what}: {self.text}"
        return f"{text}; {self.remedy}" if self.remedy else text
