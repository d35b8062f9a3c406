"""The rows of a JSON file of episodes: one array, an object for each episode."""

import json
import re
from collections import Counter
from collections.abc import Iterator

import attrs

from plugins.imports.rows import MAX_FIELDS, Mistake, Row, UnreadableError, told

_BLANK = re.compile(r"[ \t\r\n]*")
_SHAPE = 'must be one JSON array of episodes: [{"title": "Pilot"}, …]'


def json_rows(text: str) -> Iterator[Row]:
    """
    The rows. Raises UnreadableError.

    Each episode is decoded by itself, because only then it is known in which line it begins.
    """
    yield from _Reader(text).rows()


@attrs.define(eq=False)
class _Reader:
    text: str
    _at: int = 0
    # Lines are counted as far as here.
    _counted: int = 0
    _line: int = 1
    _twice: list[str] = attrs.field(factory=list)
    _decoder: json.JSONDecoder = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def rows(self) -> Iterator[Row]:
        if self._next() != "[":
            raise self._unreadable(_SHAPE)
        self._at += 1
        if self._next() != "]":
            yield self._row()
            while self._next() == ",":
                self._at += 1
                self._next()
                yield self._row()
        if self._next() != "]":
            raise self._unreadable("must go on with a comma and the next episode, or end with ]")
        self._at += 1
        if self._next():
            raise self._unreadable("nothing must stand behind the array of episodes")

    def _row(self) -> Row:
        line, start = self._count(), self._at
        self._twice.clear()
        try:
            value, self._at = self._decoder.raw_decode(self.text, start)
        except json.JSONDecodeError as error:
            where = f"is no JSON at column {error.colno}: {error.msg[:1].lower()}{error.msg[1:]}"
            raise UnreadableError(Mistake(error.lineno, "", where)) from None
        except ValueError:
            raise UnreadableError(Mistake(line, "", "has a number of too many digits")) from None
        except RecursionError:
            raise UnreadableError(Mistake(line, "", "is nested too deeply")) from None
        mistakes = [Mistake(line, told(name), "is given twice") for name in self._twice]
        if "\\u" in self.text[start : self._at] and not _is_unicode(value):
            mistakes.append(Mistake(line, "", "has half of a surrogate pair, which is no character"))
        return Row(line, value, tuple(mistakes))

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            counted = Counter(name for name, _ in pairs)
            self._twice += [name for name, times in counted.items() if times > 1][:MAX_FIELDS]
        return made

    def _next(self) -> str:
        match = _BLANK.match(self.text, self._at)
        assert match is not None, "it matches nothing, too"
        self._at = match.end()
        return self.text[self._at : self._at + 1]

    def _count(self) -> int:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _unreadable(self, message: str) -> UnreadableError:
        return UnreadableError(Mistake(self._count(), "", message))


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
