"""`greenroom plugins`: begin one, look at those that run, mend what stopped."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from conf.settings import SettingsError
from engine.domain.access import Role
from engine.errors import PluginError
from engine.hookspecs import DECISIONS, EFFECTS
from engine.plugin_host.host import PluginHost
from gateway.cli.ask import ask
from gateway.cli.live import Line, line_options, plain
from gateway.cli.options import config_option, load_with_plugins
from gateway.cli.plugin_package import NAME, files_of

PLUGINS = "/api/v1/engine/plugins"


@click.group()
def plugins() -> None:
    """
    Write, look at and mend plugins.
    """


@plugins.command()
@click.argument("name")
@click.option(
    "--directory", metavar="DIR", type=click.Path(path_type=Path), help="Where; greenroom-NAME here."
)
def new(name: str, directory: Path | None) -> None:
    """
    Begin a plugin: a package with one hook, one test and an entry point, which installs and passes at once.
    """
    if not NAME.fullmatch(name):
        raise click.UsageError(f"{name!r} is no name for a plugin; they are like edit-lease")
    where = directory or Path(f"greenroom-{name}")
    if where.exists() and any(where.iterdir()):
        raise click.ClickException(f"{where} is there already, and not empty")
    for path, text in files_of(name).items():
        file = where / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        click.echo(f"wrote {file}")
    click.echo(f"try it: pip install -e '{where}[test]' && python -m pytest {where}")


@plugins.command(name="list")
@line_options
def list_(url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Show a node's plugins: state, lag, events handled, failures.
    """
    for plugin in ask(_line(url, token, data_dir), "GET", PLUGINS)["data"]:
        click.echo(_short(plugin))


@plugins.command()
@click.argument("name")
@line_options
def show(name: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Show one plugin: cursor, lag, and its latest failures with their tracebacks.
    """
    plugin = ask(_line(url, token, data_dir), "GET", f"{PLUGINS}/{quote(name, safe='')}")
    failures = plugin.pop("failures", [])
    for key, value in plugin.items():
        click.echo(plain(f"{key:<18} {_told(value)}"))
    for failure in failures:
        about = f"{failure['at']}  {failure['event_type']} {failure['event_id']}"
        click.echo(plain(f"{about}  attempt {failure['attempt']}"))
        for text in failure["traceback"].splitlines():
            click.echo("    " + plain(text))


@plugins.command()
@click.argument("name")
@line_options
def resume(name: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    End a plugin's quarantine; it goes on where it stopped.
    """
    path = f"{PLUGINS}/{quote(name, safe='')}/resume"
    click.echo(_short(ask(_line(url, token, data_dir), "POST", path)))


@plugins.command()
@click.argument("name")
@click.option("--from", "start", metavar="EVENT", required=True, help="The id of an event, or `beginning`.")
@line_options
def replay(name: str, start: str, url: str, token: str | None, data_dir: Path | None) -> None:
    """
    Put a plugin's cursor before an event: it is handed that and everything after it once more.
    """
    path = f"{PLUGINS}/{quote(name, safe='')}/replay"
    click.echo(_short(ask(_line(url, token, data_dir), "POST", path, {"from": start})))


@plugins.command()
@config_option
def doctor(config: Path | None) -> None:
    """
    Load the plugins as a node would, and tell what each does and what is wrong. Starts nothing.

    Exits with 0 if a node would start with them, otherwise with 1.
    """
    try:
        loaded, host = load_with_plugins(config, {})
    except (SettingsError, PluginError) as error:
        raise click.ClickException(str(error)) from None
    for name in host.names():
        told = loaded.settings.plugins.settings.get(name, {})
        click.echo(f"{name}: ok; hooks {', '.join(sorted(host.hooks_of(name))) or 'none'}")
        if told:
            click.echo(f"  told: {', '.join(told)}")
        for remark in _remarks(host, name):
            click.echo(f"  note: {remark}")
    if not host.names():
        click.echo("no plugin would be loaded: install one, or name it in plugins.enabled")


def _remarks(host: PluginHost, name: str) -> Iterator[str]:
    hooks = host.hooks_of(name)
    if not hooks:
        yield "it implements no hook, and does nothing"
    for hook in hooks:
        function = host.function(name, hook)
        if function is not None and not function.is_async and hook in (*EFFECTS, *DECISIONS, "call", "http"):
            yield f"{hook} is a plain def: it runs in a thread, and may block there"


def _line(url: str, token: str | None, data_dir: Path | None) -> Line:
    return Line.of(url, token, data_dir, Role.OPERATOR)


def _short(plugin: dict[str, Any]) -> str:
    if not plugin["effects"]:
        return plain(f"{plugin['name']:<20} {plugin['state']:<12} no effects")
    text = (
        f"{plugin['name']:<20} {plugin['state']:<12} lag {plugin['lag']:<6} "
        f"handled {plugin['handled_total']:<8} failed {plugin['failed_total']:<6}"
    )
    return plain(f"{text} {plugin['reason'] or plugin['last_error'] or ''}".rstrip())


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return "-" if value is None else str(value)
