"""The JavaScript client, as frontends of any origin load it: see docs/javascript.md."""

import hashlib
from importlib.resources import files

from quart import Blueprint
from quart_schema import hide

from gateway.rest.messages import Response, request

# Declarations of TypeScript are text to a browser.
TYPES = {"js": "text/javascript", "ts": "text/plain"}


def blueprint() -> Blueprint:
    """
    `/client.js` and its types.
    """
    routes = Blueprint("scripts", __name__)

    @routes.get("/<any('client.js', 'client.d.ts'):name>")
    @hide
    async def script(name: str) -> Response:
        """
        One of the files of `gateway/web`.
        """
        body = (files("gateway") / "web" / name).read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {
            "Content-Type": f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8",
            "ETag": tag,
            # Kept, and asked for again: a client of another version than its node would be a puzzle.
            "Cache-Control": "no-cache",
            # It says nothing about anybody, and a module of another origin loads only with this.
            "Access-Control-Allow-Origin": "*",
        }
        if tag in (request().header(b"if-none-match") or ""):
            return Response(b"", 304, headers)
        return Response(body, 200, headers)

    return routes
