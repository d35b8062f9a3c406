"""What every REST request goes through: who asks, how often, what was sent, how it is answered."""

import re
import uuid
from collections.abc import Mapping
from typing import Any, cast

import attrs
import msgspec
from quart import Response, g, request

from engine.domain.access import Action, Identity, refusal
from engine.domain.event import Request
from engine.hookspecs import Resource
from engine.node import Node
from engine.store.events import Author
from gateway.auth import Authenticator, AuthError
from gateway.limits import RateLimit
from gateway.rest.problems import Problem

JSON = "application/json"
MAX_LIMIT = 200
_SANE_ID = re.compile(r"[\w.:/-]{1,100}", re.ASCII)
_ETAG = re.compile(r'"(\d{1,18})"')


@attrs.define(eq=False, kw_only=True)
class Edge:
    """
    Own what all requests share: the node, the authenticator, the rate limits.
    """

    node: Node
    authenticator: Authenticator
    rate: RateLimit

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

    def identify(self) -> Identity:
        """
        Who asks. Raises Problem 401.
        """
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if kind.lower() != "bearer":
                raise AuthError("send `Authorization: Bearer <token>`; `greenroom token` makes one")
            return self.authenticator.identify(token.strip())
        except AuthError as error:
            raise Problem(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from None


async def start_request() -> None:
    """
    Give the request its id.
    """
    # async, although it waits for nothing: Quart runs plain functions in a thread, and that for each request.
    g.request_id = request_id(request.headers.get("X-Request-Id"))


def request_id(given: str | None) -> str:
    """
    What a request is called: as its client wants it, if that is sane.
    """
    return given if given is not None and _SANE_ID.fullmatch(given) else str(uuid.uuid4())


def author(identity: Identity) -> Author:
    """
    Who causes a change by this request, and from where.
    """
    client = request.scope.get("client")
    return Author(
        user=identity.user,
        request=Request(
            mutation_id=g.request_id,
            ip=client[0] if client else None,
            user_agent=_printable(request.headers.get("User-Agent"), 500),
            traceparent=_printable(request.headers.get("Traceparent"), 100),
        ),
    )


async def body() -> object:
    """
    The JSON that was sent. Raises Problem 400, 415; Quart raises 413.
    """
    if request.mimetype != JSON:
        raise Problem(415, f"send {JSON}, not {request.mimetype or 'nothing'}")
    data = cast(bytes, await request.get_data(cache=False))
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is no JSON: {error}") from None


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """
    A JSON answer.
    """
    return Response(msgspec.json.encode(value), status=status, headers=dict(headers or {}), content_type=JSON)


def no_content(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """
    An answer without a body. Quart's own for "nothing" runs only on asyncio.
    """
    response = Response(b"", status=status, headers=dict(headers or {}))
    del response.headers["Content-Type"], response.headers["Content-Length"]
    return response


def etag(version: int) -> str:
    """
    A version as an entity tag.
    """
    return f'"{version}"'


def expected_versions(*, required: bool) -> frozenset[int] | None:
    """
    The versions that `If-Match` allows; None when any will do. Raises Problem 428.
    """
    given = request.headers.get("If-Match")
    if given is None:
        if required:
            raise Problem(428, "send If-Match with the ETag of the version that you change")
        return None
    if given.strip() == "*":
        return None
    return frozenset(int(version) for version in _ETAG.findall(given))


def has_version(version: int) -> bool:
    """
    Whether `If-None-Match` says that the client has this version.
    """
    given = request.headers.get("If-None-Match", "")
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
    given = request.args
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
