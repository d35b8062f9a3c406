"""What `tail` and `watch` share: which node, who is asking, living until Ctrl-C, words for people."""

import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
import click
import trio

from conf.sources import TOKEN_VARIABLE
from engine.domain.access import Role
from engine.error_groups import first
from engine.store.data_dir import read_secret
from gateway.auth import issue
from gateway.cli.options import data_dir_option, load_settings, overrides_of, own_name
from gateway.client import Client, ClientError, Event, State, connect
from gateway.client.messages import websocket_url

# Seconds that a token lasts which the node's own machine makes; the client asks for the next in time.
TOKEN_LASTS = 3600.0

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class Line:
    """
    How to reach a node, and as whom.
    """

    url: str
    # A new token each time.
    make_token: Callable[[], str]

    @classmethod
    def of(cls, url: str, token: str | None, data_dir: Path | None, role: Role = Role.VIEWER) -> "Line":
        """
        What the command line says. On the node's own machine its secret makes the token, for that role.

        Raises click.UsageError, SettingsError, StartupError.
        """
        try:
            host = urlsplit(websocket_url(url)).hostname or ""
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
        if token:
            return cls(url=url, make_token=lambda: token)
        if not _is_loopback(host):
            raise click.UsageError(f"{host} wants a token: give --token or {TOKEN_VARIABLE}")
        return cls(url=url, make_token=_own_tokens(data_dir, role))

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """
        A client of this node; if nobody answers at first, somebody mistyped something, and is told.
        """
        return connect(self.url, get_token=self._get_token, insist=False)

    async def _get_token(self) -> str:
        await trio.lowlevel.checkpoint()
        return self.make_token()


def line_options(command: F) -> F:
    """
    The options that say which node, and who asks.
    """
    for option in (
        data_dir_option,
        click.option(
            "--token",
            metavar="TOKEN",
            envvar=TOKEN_VARIABLE,
            show_envvar=True,
            help="Who is asking; on the node's own machine, its data directory will do.",
        ),
        click.option(
            "--url",
            metavar="URL",
            default="http://127.0.0.1:8000",
            show_default=True,
            help="Where the node is.",
        ),
    ):
        command = option(command)
    return command


def run_until_stopped(main: Callable[[], Awaitable[None]]) -> None:
    """
    Run until SIGINT or SIGTERM, or until nobody reads what is printed; then the command is done, and well.

    Raises click.ClickException when the node does not want us, or does not answer.
    """
    refusal: BaseException | None = None
    try:
        trio.run(_until_signal, main, strict_exception_groups=True)
    except* BrokenPipeError:
        # Python would complain when it flushes what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except* (ClientError, click.ClickException) as group:
        refusal = first(group)  # several tasks may have been told the same
    if isinstance(refusal, click.ClickException):
        raise refusal
    if refusal is not None:
        raise click.ClickException(str(refusal))


async def _until_signal(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(run)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break


async def tell_states(client: Client) -> None:
    """
    Say on stderr when the connection is lost, and when it is back.
    """
    while True:
        await client.wait_state(State.STALE)
        click.echo(f"connection lost: {client.trouble}; trying again", err=True)
        await client.wait_state(State.LIVE)
        click.echo("connected again", err=True)


def line_of(event: Event) -> str:
    """
    An event in a line for people; times are UTC.
    """
    data = event.data
    about = next((value for value in data.values() if isinstance(value, Mapping)), {})
    name = next((about[key] for key in ("title", "name", "message", "type", "id") if about.get(key)), "")
    changed = ", ".join(map(str, data.get("changedFields", ())))
    who = next((value for key, value in data.items() if key.endswith("By") and value), "")
    parts = (
        str(data.get("timestamp", ""))[11:19],
        f"{event.name:<20}",
        str(name),
        changed and f"({changed})",
        str(data.get("error") or ""),
        who and f"by {who}",
    )
    return plain("  ".join(part for part in parts if part).rstrip())


def plain(text: str) -> str:
    """
    Without whatever a terminal would obey: others chose these words.
    """
    return "".join(char if char.isprintable() else "�" for char in text)


def plain_json(value: object) -> str:
    """
    JSON for people and programs, in which whatever a terminal would obey is escaped.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Between texts there is nothing of that but the ends of lines.
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _own_tokens(data_dir: Path | None, role: Role) -> Callable[[], str]:
    settings = load_settings(None, overrides_of({"node.data_dir": data_dir}))
    if settings.auth.jwks_file:
        raise click.UsageError(
            f"tokens come from whoever has the keys of auth.jwks_file: give --token or {TOKEN_VARIABLE}"
        )
    directory = settings.node.resolved_data_dir
    secret = settings.auth.secret.encode()
    if not secret:
        # Made here, it would be the secret of no node.
        if not (directory / "secret").exists():
            raise click.UsageError(
                f"no node has its secret in {directory}: give --data-dir, --token or {TOKEN_VARIABLE}"
            )
        secret = read_secret(directory)
    user = own_name()
    return partial(issue, secret, user=user, name=user, role=role, ttl=TOKEN_LASTS)
