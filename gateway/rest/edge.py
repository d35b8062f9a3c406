"""What every REST request goes through: who asks, how often, what was sent, how it is answered."""

import re
import uuid
from collections.abc import Mapping
from typing import Any, cast

import attrs
import msgspec

from engine.domain.access import Action, Identity, refusal
from engine.domain.event import Request
from engine.domain.fields import Invalid
from engine.hookspecs import Resource
from engine.node import Node
from engine.store.events import Author
from gateway.auth import Authenticator, AuthError
from gateway.http.traffic import Traffic
from gateway.limits import RateLimit
from gateway.rest.messages import Response, request
from gateway.rest.problems import Problem

JSON = "application/json"
MAX_LIMIT = 200
_ETAG = re.compile(r'"(\d{1,18})"')


@attrs.define(eq=False, kw_only=True)
class Edge:
    """
    Own what all requests share: the node, the authenticator, the rate limits.
    """

    node: Node
    authenticator: Authenticator
    rate: RateLimit
    traffic: Traffic = attrs.field(factory=Traffic)

    async def enter(self, action: Action, resource: Resource) -> Identity:
        """
        Who asks, if they may. Raises Problem 401, 403, 429.
        """
        identity = self.identify()
        if (wait := self.rate.take(identity.user)) > 0:
            raise Problem(
                429, "too many requests; slow down", headers={"Retry-After": str(max(1, round(wait)))}
            )
        reason = refusal(identity, action) or await self.node.plugins.authorize(identity, action, resource)
        if reason is not None:
            raise Problem(403, reason)
        return identity

    def expect(self, what: str, version: int) -> None:
        """
        Let `If-Match` decide whether this version may be changed. Raises Problem 412, 428.
        """
        given = request().header(b"if-match")
        if given is None:
            if self.node.settings.server.require_if_match:
                raise Problem(428, "send If-Match with the ETag of the version that you change")
        elif given.strip() != "*" and str(version) not in _ETAG.findall(given):
            raise Problem(
                412,
                f"the {what} is at version {version}, which If-Match does not name; read it again",
                headers={"ETag": etag(version)},
            )

    def identify(self) -> Identity:
        """
        Who asks. Raises Problem 401.
        """
        kind, _, token = (request().header(b"authorization") or "").partition(" ")
        try:
            if kind.lower() != "bearer":
                raise AuthError("send `Authorization: Bearer <token>`; `greenroom token` makes one")
            return self.authenticator.identify(token.strip())
        except AuthError as error:
            raise Problem(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from None


def author(identity: Identity) -> Author:
    """
    Who causes a change by this request, and from where.
    """
    given = request()
    return Author(
        user=identity.user,
        request=Request(
            mutation_id=given.id,
            ip=given.client,
            user_agent=_printable(given.header(b"user-agent"), 500),
            traceparent=given.traceparent,
        ),
    )


async def body() -> object:
    """
    The JSON that was sent. Raises Problem 400, 415, and what Request.body raises.
    """
    given = request()
    kind = (given.header(b"content-type") or "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise Problem(415, f"send {JSON}, not {kind or 'nothing'}")
    data = await given.body()
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is no JSON: {error}") from None


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """
    A JSON answer.
    """
    return Response(msgspec.json.encode(value), status, {"Content-Type": JSON, **(headers or {})})


def no_content(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """
    An answer without a body.
    """
    return Response(b"", status, dict(headers or {}))


def etag(version: int) -> str:
    """
    A version as an entity tag.
    """
    return f'"{version}"'


def checked(fields: dict[str, Any] | Invalid) -> dict[str, Any]:
    """
    The fields, if they are right. Raises Problem 422.
    """
    if isinstance(fields, Invalid):
        raise Problem.invalid(fields)
    return fields


def has_version(version: int) -> bool:
    """
    Whether `If-None-Match` says that the client has this version.
    """
    given = request().header(b"if-none-match") or ""
    return given.strip() == "*" or etag(version) in given


def path_id(text: str, what: str) -> str:
    """
    The id in a path, in its one spelling. Raises Problem 400.
    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Problem(400, f"{text[:100]!r} is no {what} id: a UUID is expected") from None


def query(*known: str) -> Mapping[str, str]:
    """
    The query's parameters. Raises Problem 422 for those that are not known here.
    """
    given = request().query
    unknown = [name for name in given if name not in known]
    if unknown:
        raise Problem(422, f"no parameter {', '.join(unknown)} here; known are {', '.join(known)}")
    for name, value in given.items():
        if "\x00" in value:
            raise Problem(422, f"{name} must not contain the NUL character")
    return given


def number(given: Mapping[str, str], name: str, default: int | None, *, least: int, most: int) -> Any:
    """
    A whole number in the query. Raises Problem 422.
    """
    text = given.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?\d{1,18}", text) or not least <= int(text) <= most:
        raise Problem(422, f"{name} must be a whole number from {least} to {most}, not {text[:40]!r}")
    return int(text)


def limit_of(given: Mapping[str, str]) -> int:
    """
    How many records to answer at once.
    """
    return cast(int, number(given, "limit", 50, least=1, most=MAX_LIMIT))


def cursor_of(given: Mapping[str, str]) -> int | None:
    """
    Where a page of records begins: what an earlier page gave as `next_cursor`.
    """
    return cast("int | None", number(given, "cursor", None, least=1, most=2**63 - 1))


def _printable(text: str | None, most: int) -> str | None:
    return None if text is None else "".join(char for char in text if char.isprintable())[:most]
