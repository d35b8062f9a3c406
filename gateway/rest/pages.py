"""The pages that people read: the console, and the REST interface. Nothing comes from other hosts."""

import hashlib
from importlib.resources import files

from quart import Blueprint
from quart_schema import hide

from gateway.rest.messages import Response, request
from gateway.rest.problems import Problem

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
CONSOLE = files("gateway") / "console"
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def blueprint() -> Blueprint:
    """
    The pages, and what they load.
    """
    routes = Blueprint("pages", __name__)
    # Named once: a request reads no directory, and can leave none.
    assets = {path.name for path in CONSOLE.iterdir() if path.name.rpartition(".")[2] in TYPES}

    @routes.get("/")
    @hide
    async def home() -> Response:
        """
        The console.
        """
        return _page("index.html")

    @routes.get("/docs")
    @hide
    async def docs() -> Response:
        """
        The REST interface, from its own OpenAPI document.
        """
        return _page("docs.html")

    @routes.get("/console/<name>")
    @hide
    async def asset(name: str) -> Response:
        """
        What a page loads.
        """
        if name not in assets:
            raise Problem(404, f"the console has no {name[:100]!r}")
        return _page(name)

    return routes


def _page(name: str) -> Response:
    body = (CONSOLE / name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    headers = {
        "Content-Type": f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8",
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
        # Asked for each time, sent when it changed: a page and what it loads are of one version.
        "Cache-Control": "no-cache",
        "ETag": tag,
    }
    if tag in (request().header(b"if-none-match") or ""):
        return Response(b"", 304, headers)
    return Response(body, 200, headers)
