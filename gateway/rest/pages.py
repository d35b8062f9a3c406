"""The pages that people read: where to begin, and the REST interface. Nothing comes from other hosts."""

from importlib.resources import files

from quart import Blueprint
from quart_schema import hide

from gateway.rest.messages import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def blueprint() -> Blueprint:
    """
    The pages, and what they load.
    """
    routes = Blueprint("pages", __name__)

    @routes.get("/")
    @hide
    async def home() -> Response:
        """
        Where to begin.
        """
        return _page("index.html")

    @routes.get("/docs")
    @hide
    async def docs() -> Response:
        """
        The REST interface, from its own OpenAPI document.
        """
        return _page("docs.html")

    @routes.get("/console/<any('docs.js', 'docs.css', 'icon.svg'):name>")
    @hide
    async def asset(name: str) -> Response:
        """
        What a page loads.
        """
        return _page(name)

    return routes


def _page(name: str) -> Response:
    text = (files("gateway") / "console" / name).read_text("utf-8")
    headers = {
        "Content-Type": f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8",
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
    }
    return Response(text.encode(), 200, headers)
