"""`greenroom token`: a token that the node of a data directory accepts."""

import math
from pathlib import Path

import click

from conf.units import read_duration
from engine.domain.access import Role
from engine.store.data_dir import read_secret
from gateway.auth import issue
from gateway.cli.options import config_option, data_dir_option, load_settings, overrides_of


@click.command()
@click.option("--user", required=True, metavar="ID", help="Who the token is for, such as alice@example.com.")
@click.option("--name", metavar="NAME", help='How others see them, such as "Alice Smith"; the id by default.')
@click.option(
    "--role",
    type=click.Choice([role.name.lower() for role in Role]),
    default="editor",
    show_default=True,
    help="What they may do; each role includes the ones before it.",
)
@click.option("--ttl", default="12h", show_default=True, metavar="DURATION", help="How long it is accepted.")
@config_option
@data_dir_option
def token(
    user: str, name: str | None, role: str, ttl: str, config: Path | None, data_dir: Path | None
) -> None:
    """
    Print a token that this data directory's node accepts.
    """
    if not 0 < len(user) <= 200:
        raise click.BadParameter("must be 1 to 200 characters", param_hint="--user")
    try:
        seconds = read_duration(ttl, least=1, most=math.inf)
    except ValueError:
        raise click.BadParameter(
            f'must be a duration such as "30m" or "12h", not {ttl!r}', param_hint="--ttl"
        ) from None
    settings = load_settings(config, overrides_of({"node.data_dir": data_dir}))
    if settings.auth.jwks_file:
        raise click.ClickException("auth.jwks_file is set: tokens come from whoever has those keys")
    secret = settings.auth.secret.encode() or read_secret(settings.node.resolved_data_dir)
    wanted = Role.named(role)
    assert wanted is not None, "click allows only roles"
    click.echo(issue(secret, user=user, name=name or user, role=wanted, ttl=seconds))
