"""What plugins serve under /api/v1/x/<plugin>/: our request and response, whatever serves HTTP."""

from collections.abc import Mapping
from typing import Any

import msgspec
from quart import Blueprint
from quart_schema import hide

from engine.actors.answers import NoAnswer
from engine.domain.access import Action
from engine.hookspecs import HttpRequest, HttpResponse, Resource
from gateway.rest.edge import JSON, Edge
from gateway.rest.messages import Response, request
from gateway.rest.problems import Problem

READING = ("GET", "HEAD")
METHODS = [*READING, "POST", "PUT", "PATCH", "DELETE"]
STATUSES = {"too_slow": 503, "try_later": 503}
RETRY_AFTER = "5"
# What the server itself says of an answer, or what would reach beyond the plugin's own paths.
_OURS = ("content-length", "connection", "transfer-encoding", "upgrade", "date", "server", "set-cookie")
# A plugin's page shares our origin: whatever scripts are in it must not act as whoever looks at it.
_SANDBOX = {"Content-Security-Policy": "sandbox"}


def blueprint(at: Edge) -> Blueprint:
    """
    The routes under /api/v1/x.
    """
    routes = Blueprint("plugin_routes", __name__, url_prefix="/api/v1/x")

    @routes.route("/<plugin>/", defaults={"path": ""}, methods=METHODS)
    @routes.route("/<plugin>/<path:path>", methods=METHODS)
    @hide
    async def serve(plugin: str, path: str) -> Response:
        """
        Whatever the plugin serves here; the OpenAPI document cannot know it.
        """
        given = request()
        action = Action.READ if given.method in READING else Action.UPDATE
        identity = await at.enter(action, Resource(type="plugin", id=plugin))
        said = await at.node.plugin_tasks.answers.http(
            plugin,
            HttpRequest(
                method=given.method,
                path=path,
                query=given.query,
                headers=given.plain_headers(),
                body=await given.body(),
                identity=identity,
                id=given.id,
            ),
        )
        if said is None:
            raise Problem(404, f"no plugin serves {given.method} /api/v1/x/{plugin}/{path}")
        if isinstance(said, NoAnswer):
            status = STATUSES.get(said.code, 500)
            raise Problem(status, said.message, headers={"Retry-After": RETRY_AFTER} if status == 503 else {})
        return _response(plugin, said)

    return routes


def _response(plugin: str, said: Any) -> Response:
    if not isinstance(said, HttpResponse):
        raise Problem(500, f"plugin {plugin} answered {type(said).__name__}, which is no HttpResponse")
    if not isinstance(said.status, int) or not 200 <= said.status <= 599:
        raise Problem(500, f"plugin {plugin} answered the status {said.status!r}; 200 to 599 are some")
    headers = dict(_SANDBOX)
    try:
        body, kind = _body(said.body)
        headers["Content-Type"] = kind
        headers |= _checked(said.headers)
    except (TypeError, ValueError, RecursionError) as error:
        raise Problem(500, f"plugin {plugin} gave an answer that cannot be sent: {error}") from error
    return Response(body, said.status, headers)


def _body(body: Any) -> tuple[bytes, str]:
    match body:
        case bytes():
            return body, "application/octet-stream"
        case str():
            return body.encode(), "text/plain; charset=utf-8"
        case _:
            return msgspec.json.encode(body), JSON


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers map names to values; {type(headers).__name__} does not")
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"the header {name!r} and its value {value!r} must be texts")
        if not (name.isascii() and name.replace("-", "").isalnum()):
            raise ValueError(f"{name!r} is no name of a header")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the header {name} has characters that it may not have")
        if name.lower() not in (*_OURS, "content-security-policy"):
            checked[name.title()] = value
    return checked
