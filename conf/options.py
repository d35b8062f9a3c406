"""The dotted names of all options, from the tree and back into it: the border to typed-settings."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args

from typed_settings import SettingsState, convert
from typed_settings.converters import TSConverter
from typed_settings.types import LoadedValue, LoaderMeta, MergedSettings

from conf.kinds import LIVE, Kind
from conf.tree import Settings

# The only option without a name of its own in a file: whatever stands in [plugins.<name>].
PLUGIN_TABLES = "plugins.settings"


class _CheckedBefore:
    """
    Tell typed-settings to take values as they are.

    `conf.settings` has read them: the errors of typed-settings show secrets, and name no source.
    """

    # The protocol says static, and `cls`.
    @staticmethod
    def match(cls: type, origin: Any | None, args: tuple[Any, ...]) -> bool:  # pyright: ignore[reportSelfClsParameterName]
        return origin is Annotated

    @staticmethod
    def get_structure_hook(
        converter: TSConverter, cls: type, origin: Any | None, args: tuple[Any, ...]
    ) -> Callable[[Any, type], Any]:
        return lambda value, _: value


@cache
def _state() -> SettingsState[Settings]:
    converter = TSConverter()
    converter.composite_hook_factories.insert(0, _CheckedBefore)
    return SettingsState(Settings, loaders=(), processors=(), converter=converter, base_dir=Path())


OPTIONS: Mapping[str, Kind] = {
    option.path: get_args(option.cls)[1] for option in _state().options if option.path != PLUGIN_TABLES
}
# Options that a running node takes up; the others need a restart.
LIVE_OPTIONS = frozenset(option.path for option in _state().options if LIVE in get_args(option.cls))
SECTIONS = frozenset(
    ".".join(option.split(".")[:depth]) for option in OPTIONS for depth in range(1, option.count(".") + 1)
)

# What options were called before, by people whose files still say so.
RENAMED: Mapping[str, str] = {"jobs.keep": "retention.jobs_age"}


def build(values: Mapping[str, object]) -> Settings:
    """
    Make the tree of checked values by dotted option.
    """
    meta = LoaderMeta("checked", base_dir=Path())
    merged: MergedSettings = {option: LoadedValue(value, meta) for option, value in values.items()}
    return convert(merged, _state())


def did_you_mean(wrong: str, names: Iterable[str], renamed: Mapping[str, str] = RENAMED) -> str:
    """
    Complete a mistake about a name that does not exist: with what it is called now, or was probably meant.
    """
    if (now := renamed.get(wrong)) is not None:
        return f"; it is called {now} now"
    names = list(names)
    last = wrong.rpartition(".")[2]
    close = get_close_matches(wrong, names, n=1, cutoff=0.8)
    meant = close or [name for name in names if name.rpartition(".")[2] == last][:3]
    return f"; did you mean {' or '.join(meant)}?" if meant else ""
