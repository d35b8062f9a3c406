"""The settings of a node, from all their sources: the front door of this package."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType

import attrs

from conf.kinds import toml
from conf.masks import mask_text
from conf.mistakes import Mistake, SettingsError
from conf.options import OPTIONS, PLUGIN_TABLES, build
from conf.rules import broken
from conf.sources import CONFIG_VARIABLE, Given, from_environment, from_file, from_overrides, from_table
from conf.tree import (
    Auth,
    Child,
    Database,
    Feed,
    Limits,
    Log,
    Node,
    Plugins,
    Presence,
    Realtime,
    Retention,
    Server,
    Settings,
    Sqs,
    Supervision,
)

__all__ = [
    "Auth",
    "Child",
    "Database",
    "Feed",
    "Limits",
    "Loaded",
    "Log",
    "Mistake",
    "Node",
    "Plugins",
    "Presence",
    "Realtime",
    "Retention",
    "Server",
    "Settings",
    "SettingsError",
    "Sqs",
    "Supervision",
    "describe",
    "load",
]

_NOTHING: Mapping[str, object] = MappingProxyType({})


@attrs.frozen
class Loaded:
    """
    The settings, and for each dotted option who had the last word on it.

    A source is "default", "file <path>", "environment <variable>" or "command line".
    """

    settings: Settings
    sources: Mapping[str, str]


def load(
    config: Path | None, *, environ: Mapping[str, str], overrides: Mapping[str, object] = _NOTHING
) -> Loaded:
    """
    Read the settings from default.toml, the operator's file, the environment and the command line.

    Each has the last word over those before it. Without `config` the file is the one that
    GREENROOM_CONFIG names, if any. `overrides` is keyed by dotted option, such as "server.port".

    Raises SettingsError with every mistake in every source, also where another source overrides it.
    """
    values: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {}
    sources: dict[str, str] = {}
    mistakes: list[Mistake] = []
    for given in _all_sources(config, environ, overrides):
        if isinstance(given, Mistake):
            mistakes.append(given)
            continue
        if given.option in OPTIONS:
            try:
                values[given.option] = _read(given)
            except ValueError:
                mistakes.append(_wrong_value(given))
                continue
        else:
            _, plugin, name = given.option.split(".", 2)
            tables.setdefault(plugin, {})[name] = given.value
        sources[given.option] = given.source
    values[PLUGIN_TABLES] = MappingProxyType(
        {name: MappingProxyType(table) for name, table in tables.items()}
    )
    settings = build(values)
    mistakes.extend(_broken_rules(settings, sources, wrong={mistake.option for mistake in mistakes}))
    if mistakes:
        raise SettingsError(mistakes)
    return Loaded(settings, MappingProxyType(sources))


def _all_sources(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Iterator[Given | Mistake]:
    defaults = resources.files("conf").joinpath("default.toml").read_text("utf-8")
    yield from from_table(tomllib.loads(defaults), "default")
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    if config is not None:
        yield from from_file(config)
    yield from from_environment(environ)
    yield from from_overrides(overrides)


def _read(given: Given) -> object:
    kind = OPTIONS[given.option]
    return kind.read(
        kind.parse(given.value) if given.as_text and isinstance(given.value, str) else given.value
    )


def _wrong_value(given: Given) -> Mistake:
    kind = OPTIONS[given.option]
    shown = kind.show(given.value) if kind.secret else toml(given.value)
    return Mistake(source=given.source, option=given.option, value=shown, remedy=f"must be {kind.wanted}")


def _broken_rules(settings: Settings, sources: Mapping[str, str], wrong: set[str]) -> Iterator[Mistake]:
    for rule in broken(settings):
        # Where a value was refused the default still stands, and a rule about that would mislead.
        if wrong.isdisjoint((rule.option, *rule.others)):
            yield Mistake(
                source=sources[rule.option],
                option=rule.option,
                value=OPTIONS[rule.option].show(attrgetter(rule.option)(settings)),
                remedy=rule.remedy,
            )


def describe(loaded: Loaded) -> Iterable[tuple[str, str, str]]:
    """
    List every option with its value as TOML and its source; secrets and passwords are masked.

    What plugins are told is masked unless it is a flag or a number, for only they know what it is.
    """
    for option, kind in OPTIONS.items():
        yield option, kind.show(attrgetter(option)(loaded.settings)), loaded.sources[option]
    for plugin, table in loaded.settings.plugins.settings.items():
        for name, value in table.items():
            option = f"plugins.{plugin}.{name}"
            yield option, mask_text(value), loaded.sources[option]
