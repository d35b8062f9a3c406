"""Where settings come from: tables of TOML, environment variables, the command line. Knows no rules."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from conf.kinds import Kind
from conf.mistakes import Mistake
from conf.options import OPTIONS, RENAMED, SECTIONS, did_you_mean

PREFIX = "GREENROOM_"
PLUGIN_PREFIX = "GREENROOM_PLUGINS_"
CONFIG_VARIABLE = "GREENROOM_CONFIG"
# Lets SIGUSR2 crash the episode actors, for tests of recovery; no option, so that no file can set it.
TEST_HOOKS_VARIABLE = "GREENROOM_TEST_HOOKS"
# Who asks, for commands that are clients of a node; no setting of a node.
TOKEN_VARIABLE = "GREENROOM_TOKEN"  # noqa: S105 -- a name
COMMAND_LINE = "command line"

# Kubernetes tells every pod of a Service named greenroom, or greenroom-anything, in such variables.
_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_\w+)?)")


@attrs.frozen(kw_only=True)
class Given:
    """
    One option's value as one source gave it, not checked yet.
    """

    source: str
    option: str
    value: object
    # Text of an environment variable or the command line, where everything is text.
    as_text: bool = False
    # Whose option it is, if it is one of a plugin's own, and what the plugin calls it.
    plugin: tuple[str, str] | None = None


def read_given(kind: Kind, given: Given) -> object:
    """
    The value, checked. Raises ValueError.
    """
    as_text = given.as_text and isinstance(given.value, str)
    return kind.read(kind.parse(str(given.value)) if as_text else given.value)


def variable(option: str) -> str:
    """
    Name the environment variable of an option.
    """
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", option.upper())


def from_file(path: Path) -> Iterator[Given | Mistake]:
    """
    Read a TOML file; one that cannot be read is one mistake.
    """
    source = f"file {path}"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        yield Mistake(source=source, remedy=f"there is no such file; --config or {CONFIG_VARIABLE} names it")
    except OSError as error:
        yield Mistake(source=source, remedy=f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        yield Mistake(source=source, remedy=f"must be UTF-8, but byte {error.start} is not")
    except ValueError as error:  # also what int() says to a number of thousands of digits
        yield Mistake(source=source, remedy=f"is not TOML: {error}")
    else:
        yield from from_table(table, source)


def from_table(table: Mapping[str, object], source: str, prefix: str = "") -> Iterator[Given | Mistake]:
    """
    Read a table of TOML and the tables in it; `prefix` is the table's dotted name and a dot.
    """
    for key, value in table.items():
        option = f"{prefix}{key}"
        if option in OPTIONS:
            yield Given(source=source, option=option, value=value)
        elif prefix == "plugins." and isinstance(value, Mapping):
            for name, told in value.items():
                yield Given(source=source, option=f"{option}.{name}", value=told, plugin=(key, name))
        elif option not in SECTIONS:
            what = "section" if isinstance(value, Mapping) else "option"
            names = SECTIONS if isinstance(value, Mapping) else OPTIONS
            yield Mistake(source=source, option=option, remedy=f"no such {what}{did_you_mean(option, names)}")
        elif isinstance(value, Mapping):
            yield from from_table(value, source, f"{option}.")
        else:
            # Without the value, which may be the URL or the secret that belongs one level deeper.
            yield Mistake(source=source, option=option, remedy=f"must be a table: [{option}]")


def from_environment(
    environ: Mapping[str, str], plugins: Mapping[str, tuple[str, str]] | None
) -> Iterator[Given | Mistake]:
    """
    Read GREENROOM_… and, unless GREENROOM_DATABASE_URL says otherwise, DATABASE_URL.

    `plugins` are the variables of plugins' own options; None: nobody knows which there are.
    """
    options = {variable(option): option for option in OPTIONS}
    options["DATABASE_URL"] = "database.url"
    for name, text in sorted(environ.items()):
        if name in (CONFIG_VARIABLE, TEST_HOOKS_VARIABLE, TOKEN_VARIABLE):
            continue
        if name == "DATABASE_URL" and variable("database.url") in environ:
            continue
        source = f"environment {name}"
        if name in options:
            yield Given(source=source, option=options[name], value=text, as_text=True)
        elif plugins is not None and name in plugins:
            plugin, option = whose = plugins[name]
            yield Given(
                source=source, option=f"plugins.{plugin}.{option}", value=text, as_text=True, plugin=whose
            )
        elif plugins is None and name.startswith(PLUGIN_PREFIX):
            continue
        elif name.startswith(PREFIX) and not _is_service_link(name, text):
            known = [*options, *(plugins or ())]
            renamed = {variable(before): variable(now) for before, now in RENAMED.items()}
            yield Mistake(source=source, remedy=f"no such option{did_you_mean(name, known, renamed)}")


def _is_service_link(name: str, text: str) -> bool:
    return _SERVICE_LINK.fullmatch(name) is not None or (name.endswith("_PORT") and "://" in text)


def from_overrides(overrides: Mapping[str, object]) -> Iterator[Given | Mistake]:
    """
    Read what the command line said, keyed by dotted option; a text may stand for a number or a flag.
    """
    for option, value in overrides.items():
        section, _, name = option.rpartition(".")
        plugin = section.removeprefix("plugins.") if section.startswith("plugins.") else ""
        if option in OPTIONS or plugin:
            yield Given(
                source=COMMAND_LINE,
                option=option,
                value=value,
                as_text=isinstance(value, str),
                plugin=None if option in OPTIONS else (plugin, name),
            )
        else:
            yield Mistake(
                source=COMMAND_LINE, option=option, remedy=f"no such option{did_you_mean(option, OPTIONS)}"
            )
