"""One editor at a time: a lease with a fencing token, which a write must carry; all see who has it."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import attrs

from engine.hookspecs import Duration, Engine, FieldError, Flag, Identity, Refused, hookimpl

HEADER = "x-edit-lease"

TABLE = """
create table if not exists edit_leases (
    episode_id uuid primary key,
    holder     text not null,
    token      bigint not null,
    expires_at timestamptz not null
)
"""
# The token counts up whenever the lease changes hands, and never down: it stays when the lease ends.
ACQUIRE = """
insert into edit_leases as lease (episode_id, holder, token, expires_at)
values (%(episode)s, %(user)s, 1, now() + make_interval(secs => %(lasts)s))
on conflict (episode_id) do update set
    token = lease.token + (lease.holder <> excluded.holder or lease.expires_at <= now())::int,
    holder = excluded.holder,
    expires_at = excluded.expires_at
where lease.holder = excluded.holder or lease.expires_at <= now()
returning token, expires_at::text as expires_at
"""
HELD = """
select holder, token, expires_at::text as expires_at from edit_leases
where episode_id = %(episode)s and expires_at > now()
"""
RENEW = """
update edit_leases set expires_at = now() + make_interval(secs => %(lasts)s)
where episode_id = %(episode)s and holder = %(user)s and token = %(token)s and expires_at > now()
returning token, expires_at::text as expires_at
"""
RELEASE = """
update edit_leases set expires_at = now()
where episode_id = %(episode)s and holder = %(user)s and token = %(token)s and expires_at > now()
returning token, expires_at::text as expires_at
"""


@attrs.frozen(kw_only=True)
class Settings:
    """
    What may stand in [plugins.edit-lease].
    """

    # How long a lease lasts that is not renewed.
    lasts: Duration = 60.0
    # Whether nobody may change an episode without a lease; otherwise only if nobody else has one.
    required: Flag = False


@hookimpl
def settings() -> type:
    return Settings


@hookimpl
async def engine_started(engine: Engine) -> None:
    async with engine.transaction() as transaction:
        await transaction.execute(TABLE)


@hookimpl
async def call(engine: Engine, identity: Identity, name: str, args: Any) -> Any:
    """
    `acquire {episode}`, `renew {episode, token}`, `release {episode, token}`: answer the token and its end.
    """
    statement = {"acquire": ACQUIRE, "renew": RENEW, "release": RELEASE}.get(name)
    if statement is None:
        return Refused("unknown_call", f"there is no {name!r}; there are acquire, renew and release")
    wish = _wish(args, with_token=name != "acquire")
    if isinstance(wish, Refused):
        return wish
    given = {**wish, "user": identity.user, "lasts": engine.settings.lasts}
    async with engine.transaction() as transaction:
        before = await transaction.fetch(HELD, given)
        rows = await transaction.fetch(statement, given)
    engine.metrics.counter("calls", "Calls by name and outcome.", ["name", "outcome"]).add(
        name=name, outcome="done" if rows else "refused"
    )
    if not rows:
        return _refused(name, before)
    [lease] = rows
    shown = None if name == "release" else f"editing until {lease['expires_at']}"
    await engine.mark(given["episode"], identity.user, shown)
    return {"token": lease["token"], "expires_at": lease["expires_at"]}


@hookimpl
async def validate_episode(
    engine: Engine,
    identity: Identity,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    headers: Mapping[str, str],
) -> Iterable[FieldError] | None:
    """
    Let a change pass that carries the token in force; one that has been overtaken is refused, however late.
    """
    if before is None:
        return None
    async with engine.transaction() as transaction:
        held = await transaction.fetch(HELD, {"episode": after["id"]})
    if not held:
        wanted = FieldError(HEADER, "take the lease first: edit-lease.acquire")
        return [wanted] if engine.settings.required else None
    [lease] = held
    if lease["holder"] != identity.user:
        return [FieldError(HEADER, f"{lease['holder']} is editing until {lease['expires_at']}")]
    if headers.get(HEADER) != str(lease["token"]):
        wanted = FieldError(HEADER, f"must be the token of your lease, {lease['token']}; acquire it again")
        return [wanted]
    return None


def _wish(args: Any, *, with_token: bool) -> dict[str, Any] | Refused:
    given = args if isinstance(args, dict) else {}
    try:
        wish: dict[str, Any] = {"episode": str(UUID(str(given.get("episode"))))}
    except ValueError:
        return Refused("bad_args", "episode must be the id of an episode")
    if with_token:
        if type(given.get("token")) is not int:
            return Refused("bad_args", "token must be the number that acquire has answered")
        wish["token"] = given["token"]
    return wish


def _refused(name: str, held: list[Mapping[str, Any]]) -> Refused:
    if name == "acquire" and held:
        return Refused("held", f"{held[0]['holder']} is editing until {held[0]['expires_at']}")
    return Refused("lost", "the lease is not yours any more; acquire it again")
