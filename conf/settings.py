"""The settings of a node, from all their sources: the front door of this package."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from conf.kinds import toml
from conf.masks import mask_text
from conf.mistakes import Mistake, SettingsError
from conf.options import OPTIONS, PLUGIN_TABLES, build, did_you_mean
from conf.plugin_schema import PluginSchema, SchemaError, check_table
from conf.rules import broken
from conf.sources import (
    CONFIG_VARIABLE,
    Given,
    from_environment,
    from_file,
    from_overrides,
    from_table,
    read_given,
    variable,
)
from conf.tree import (
    BUDGETS,
    Auth,
    Child,
    Database,
    Feed,
    Jobs,
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
    "Jobs",
    "Limits",
    "Loaded",
    "Log",
    "Mistake",
    "Node",
    "PluginSchema",
    "Plugins",
    "Presence",
    "Realtime",
    "Retention",
    "SchemaError",
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
    # What the loaded plugins' own options are; empty if nobody asked the plugins.
    schemas: Mapping[str, PluginSchema] = MappingProxyType({})


# Answers the schemas of the plugins that `plugins.enabled` and `plugins.discover` load.
Schemas = Callable[[Sequence[str], bool], Mapping[str, PluginSchema]]


def load(
    config: Path | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] = _NOTHING,
    schemas: Schemas | None = None,
) -> Loaded:
    """
    Read the settings from default.toml, the operator's file, the environment and the command line.

    Each has the last word over those before it. Without `config` the file is the one that
    GREENROOM_CONFIG names, if any. `overrides` is keyed by dotted option, such as "server.port". What
    plugins are told is checked by `schemas`; without it, by nobody.

    Raises SettingsError with every mistake in every source, also where another source overrides it.
    """
    values: dict[str, object] = {}
    tables: dict[str, dict[str, Given]] = {}
    sources: dict[str, str] = {}
    mistakes: list[Mistake] = []
    known = None if schemas is None else schemas(*_which(config, environ, overrides))
    for given in _all_sources(config, environ, overrides, known):
        if isinstance(given, Mistake):
            mistakes.append(given)
            continue
        if given.plugin is None:
            try:
                values[given.option] = read_given(OPTIONS[given.option], given)
            except ValueError:
                mistakes.append(_wrong_value(given))
                continue
        else:
            plugin, name = given.plugin
            tables.setdefault(plugin, {})[name] = given
        sources[given.option] = given.source
    told: dict[str, Mapping[str, object]] = {}
    for plugin in {**tables, **(known or {})}:
        table: dict[str, object] = {}
        # The table of a plugin that is not loaded may stay where it is, if it is not a slip of the pen.
        if known is not None and plugin not in known and (meant := did_you_mean(plugin, known)):
            first = next(iter(tables[plugin].values()))
            remedy = f"no plugin of this name is loaded{meant}"
            mistakes.append(Mistake(source=first.source, option=f"plugins.{plugin}", remedy=remedy))
            continue
        for read in check_table(plugin, (known or {}).get(plugin), tables.get(plugin, {})):
            if isinstance(read, Mistake):
                mistakes.append(read)
            else:
                table[read[0]] = read[1]
        if table:
            told[plugin] = MappingProxyType(table)
    values[PLUGIN_TABLES] = MappingProxyType(told)
    settings = build(values)
    mistakes.extend(_broken_rules(settings, sources, wrong={mistake.option for mistake in mistakes}))
    if mistakes:
        raise SettingsError(mistakes)
    return Loaded(settings, MappingProxyType(sources), known or {})


def _which(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> tuple[Sequence[str], bool]:
    """
    Which plugins are to be loaded, whatever else is wrong.
    """
    wanted: dict[str, Any] = {"plugins.enabled": (), "plugins.discover": False}
    for given in _all_sources(config, environ, overrides, None):
        if isinstance(given, Given) and given.option in wanted:
            with suppress(ValueError):
                wanted[given.option] = read_given(OPTIONS[given.option], given)
    return wanted["plugins.enabled"], wanted["plugins.discover"]


def _all_sources(
    config: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    schemas: Mapping[str, PluginSchema] | None,
) -> Iterator[Given | Mistake]:
    defaults = resources.files("conf").joinpath("default.toml").read_text("utf-8")
    yield from from_table(tomllib.loads(defaults), "default")
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    if config is not None:
        yield from from_file(config)
    own = None
    if schemas is not None:
        own = {
            variable(f"plugins.{plugin}.{name}"): (plugin, name)
            for plugin, schema in schemas.items()
            for name in (*schema.kinds, *BUDGETS)
        }
    yield from from_environment(environ, own)
    yield from from_overrides(overrides)


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

    What plugins are told that are not loaded is masked unless it is a flag or a number: only they know what
    it is.
    """
    for option, kind in OPTIONS.items():
        yield option, kind.show(attrgetter(option)(loaded.settings)), loaded.sources[option]
    tables = loaded.settings.plugins.settings
    for plugin in {**loaded.schemas, **tables}:
        schema = loaded.schemas.get(plugin) or PluginSchema()
        for name, value in {**schema.defaults, **tables.get(plugin, {})}.items():
            option, own = f"plugins.{plugin}.{name}", schema.kind(name)
            shown = mask_text(value) if own is None else own.show(value)
            yield _quoted(plugin, name), shown, loaded.sources.get(option, f"default of {plugin}")


def _quoted(plugin: str, name: str) -> str:
    whose = plugin if re.fullmatch(r"[\w-]+", plugin, re.ASCII) else toml(plugin)
    return f"plugins.{whose}.{name}"
