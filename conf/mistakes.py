"""What can be wrong with settings, in words for the operator who has to put it right."""

from collections.abc import Iterable

import attrs

_LONGEST = 80


@attrs.frozen(kw_only=True)
class Mistake:
    """
    One thing to put right: where it was said, of which option, which value, and what would be right.

    `option` is empty if all of the source is wrong, `value` (as TOML, secrets masked) if it tells nothing.
    """

    source: str
    option: str = ""
    value: str = ""
    remedy: str

    def __str__(self) -> str:
        value = self.value if len(self.value) <= _LONGEST else f"{self.value[:_LONGEST]}…"
        what = " = ".join(part for part in (self.option, value) if part)
        return ": ".join(part for part in (self.source, what, self.remedy) if part)


class SettingsError(Exception):
    """
    The settings are wrong: print the text, one line for each mistake, and go on with the old ones or exit.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))
