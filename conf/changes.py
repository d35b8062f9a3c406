"""What other settings would change in a running node, and what of it must wait for a restart."""

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType

import attrs

from conf.masks import mask_text
from conf.options import LIVE_OPTIONS, OPTIONS, PLUGIN_TABLES, build
from conf.plugin_schema import PluginSchema
from conf.settings import Loaded
from conf.tree import BUDGETS, Settings

_TABLES = attrgetter(PLUGIN_TABLES)
# What an option of a plugin's is where it does not stand.
_ABSENT = "(not set)"


@attrs.frozen(kw_only=True)
class Change:
    """
    One option whose value differs: both values as TOML, secrets masked, and where the new one is from.
    """

    option: str
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.option}: {self.before} -> {self.after} ({self.source})"


@attrs.frozen(kw_only=True)
class Changes:
    """
    What differs: `live` is taken up by a running node, `restart` is not; `renewed` names the options whose
    files have another content.
    """

    live: tuple[Change, ...]
    restart: tuple[Change, ...]
    renewed: tuple[str, ...] = ()


def changes(now: Settings, wanted: Loaded) -> Changes:
    """
    What the wanted settings would change.
    """
    differing = [
        Change(
            option=option,
            before=kind.show(attrgetter(option)(now)),
            after=kind.show(attrgetter(option)(wanted.settings)),
            source=wanted.sources[option],
        )
        for option, kind in OPTIONS.items()
        if attrgetter(option)(now) != attrgetter(option)(wanted.settings)
    ]
    differing += _changes_of_plugins(now, wanted)
    return Changes(
        live=tuple(change for change in differing if _is_live(change.option)),
        restart=tuple(change for change in differing if not _is_live(change.option)),
    )


def taken_up(now: Settings, wanted: Settings) -> Settings:
    """
    The present settings with what a running node takes up of the wanted ones.
    """
    values: dict[str, object] = {
        option: attrgetter(option)(wanted if option in LIVE_OPTIONS else now) for option in OPTIONS
    }
    old, new = _TABLES(now), _TABLES(wanted)
    tables = {
        plugin: MappingProxyType(
            {name: value for name, value in old.get(plugin, {}).items() if name not in BUDGETS}
            | {name: value for name, value in new.get(plugin, {}).items() if name in BUDGETS}
        )
        for plugin in {**old, **new}
    }
    kept = {plugin: table for plugin, table in tables.items() if table}
    return build({**values, PLUGIN_TABLES: MappingProxyType(kept)})


def _is_live(option: str) -> bool:
    name = option.rpartition(".")[2]
    return option in LIVE_OPTIONS or (option not in OPTIONS and name in BUDGETS)


def _changes_of_plugins(now: Settings, wanted: Loaded) -> list[Change]:
    before, after = _flat(_TABLES(now)), _flat(_TABLES(wanted.settings))

    def shown(option: str, value: object) -> str:
        plugin, _, name = option.removeprefix("plugins.").rpartition(".")
        kind = wanted.schemas.get(plugin, PluginSchema()).kind(name)
        return mask_text(value) if kind is None else kind.show(value)

    return [
        Change(
            option=option,
            before=shown(option, before[option]) if option in before else _ABSENT,
            after=shown(option, after[option]) if option in after else _ABSENT,
            source=wanted.sources.get(option, "default"),
        )
        for option in sorted({*before, *after})
        if option not in before or option not in after or before[option] != after[option]
    ]


def _flat(tables: Mapping[str, Mapping[str, object]]) -> Mapping[str, object]:
    return MappingProxyType(
        {
            f"plugins.{plugin}.{name}": value
            for plugin, table in tables.items()
            for name, value in table.items()
        }
    )
