"""The JavaScript client, as frontends of any origin load it: see docs/javascript.md."""

from importlib.resources import files

from quart import Blueprint
from quart_schema import hide

from gateway.rest import static
from gateway.rest.messages import Response

# It says nothing about anybody, and a module of another origin loads only with this.
HEADERS = {"Access-Control-Allow-Origin": "*"}


def blueprint() -> Blueprint:
    """
    `/client.js`, composables for Vue on top of it, and the types of both.
    """
    routes = Blueprint("scripts", __name__)

    @routes.get("/<any('client.js', 'client.d.ts', 'client-vue.js', 'client-vue.d.ts'):name>")
    @hide
    async def script(name: str) -> Response:
        """
        One of the files of `gateway/web`.
        """
        return static.file(files("gateway") / "web" / name, HEADERS)

    return routes
