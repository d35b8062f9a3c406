"""What may stand in [plugins.<name>]: options of the plugin's own, and budgets instead of everybody's."""

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import attrs

from conf.kinds import Flag, Kind, Names, Text, choice, number_or_text, read_float, read_int, toml
from conf.mistakes import Mistake
from conf.options import OPTIONS, did_you_mean
from conf.sources import Given, read_given
from conf.tree import BUDGETS

_ANY = float("-inf")
_INT = -(2**63)
_PLAIN: Mapping[object, Kind] = {
    bool: get_args(Flag)[1],
    int: Kind(wanted="a whole number", read=partial(read_int, least=_INT), parse=number_or_text),
    float: Kind(wanted="a number", read=partial(read_float, least=_ANY), parse=number_or_text),
    str: get_args(Text)[1],
    tuple[str, ...]: get_args(Names)[1],
}
_BUDGETS: Mapping[str, Kind] = {name: OPTIONS[f"plugins.{name}"] for name in BUDGETS}


class SchemaError(Exception):
    """
    A plugin's class of settings is none that can be read from a file; the text says which field, and why.
    """


@attrs.frozen(kw_only=True)
class PluginSchema:
    """
    The options that one plugin has: each with its kind, and the attrs class that they make.
    """

    settings: type | None = None
    kinds: Mapping[str, Kind] = MappingProxyType({})
    # What is in force where nothing is given.
    defaults: Mapping[str, object] = MappingProxyType({})

    @classmethod
    def of(cls, settings: type | None) -> "PluginSchema":
        """
        The schema of a plugin's class of settings, or of none. Raises SchemaError.
        """
        if settings is None:
            return cls()
        if not (isinstance(settings, type) and attrs.has(settings)):
            raise SchemaError(f"settings must be an attrs class, not {settings!r}")
        hints = get_type_hints(settings, include_extras=True)
        kinds, defaults = {}, {}
        for field in attrs.fields(settings):
            if field.name in _BUDGETS:
                raise SchemaError(f"{field.name} is the name of a budget; call the option otherwise")
            kinds[field.name] = _kind(field.name, hints.get(field.name))
            if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type] # attrs types it a function
                defaults[field.name] = field.default.factory()
            elif field.default is not attrs.NOTHING:
                defaults[field.name] = field.default
        return cls(settings=settings, kinds=kinds, defaults=defaults)

    def build(self, table: Mapping[str, object]) -> Any:
        """
        The plugin's settings from its table, which was checked; None for a plugin that has none.

        Raises ValueError or TypeError when the class refuses the whole.
        """
        if self.settings is None:
            return None
        values = {name: kind.read(table[name]) for name, kind in self.kinds.items() if name in table}
        try:
            return self.settings(**values)
        except (ValueError, TypeError):
            raise
        # Its validators are the plugin's own code: whatever they raise, the class refuses.
        except (Exception, SystemExit, GeneratorExit) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def kind(self, name: str) -> Kind | None:
        """
        The kind of an option of this plugin's, or of a budget.
        """
        return self.kinds.get(name) or _BUDGETS.get(name)


def check_table(
    plugin: str, schema: PluginSchema | None, given: Mapping[str, Given]
) -> Iterator[Mistake | tuple[str, object]]:
    """
    Read what was given of one plugin's options: for each a mistake, or its name and value.

    Without a schema only the budgets are checked.
    """
    values: dict[str, object] = {}
    wrong = False
    for name, one in given.items():
        known = _BUDGETS.get(name) if schema is None else schema.kind(name)
        if known is None and schema is not None:
            names = [f"plugins.{plugin}.{name}" for name in (*schema.kinds, *_BUDGETS)]
            yield Mistake(
                source=one.source,
                option=one.option,
                remedy=f"no such option{did_you_mean(one.option, names)}",
            )
            continue
        try:
            values[name] = one.value if known is None else read_given(known, one)
        except ValueError:
            assert known is not None
            wrong = True
            shown = known.show(one.value) if known.secret else toml(one.value)
            yield Mistake(source=one.source, option=one.option, value=shown, remedy=f"must be {known.wanted}")
        else:
            yield name, values[name]
    if schema is None:
        return
    for name, kind in schema.kinds.items():
        if name not in schema.defaults and name not in given:
            wrong = True
            option = f"plugins.{plugin}.{name}"
            yield Mistake(source=f"plugin {plugin}", option=option, remedy=f"is missing: {kind.wanted}")
    if not wrong:
        try:
            schema.build(values)
        except (ValueError, TypeError) as error:
            yield Mistake(source=f"plugin {plugin}", option=f"plugins.{plugin}", remedy=str(error))


def _kind(name: str, hint: Any) -> Kind:
    if get_origin(hint) is Annotated:
        for part in get_args(hint)[1:]:
            if isinstance(part, Kind):
                return part
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal and all(isinstance(word, str) for word in get_args(hint)):
        return choice(*get_args(hint))
    if (kind := _PLAIN.get(hint)) is None:
        raise SchemaError(
            f"{name} is {hint!r}; an option is bool, int, float, str, tuple[str, ...], a Literal of texts, "
            "or one of the kinds in engine.hookspecs"
        )
    return kind
