"""The pages that people read: the console, and the REST interface. Nothing comes from other hosts."""

from importlib.resources import files

from quart import Blueprint
from quart_schema import hide

from gateway.rest import static
from gateway.rest.messages import Response
from gateway.rest.problems import Problem

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
CONSOLE = files("gateway") / "console"


def blueprint() -> Blueprint:
    """
    The pages, and what they load.
    """
    routes = Blueprint("pages", __name__)
    # Named once: a request reads no directory, and can leave none.
    assets = {path.name for path in CONSOLE.iterdir() if path.name.rpartition(".")[2] in static.TYPES}

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
    return static.file(CONSOLE / name, HEADERS)
