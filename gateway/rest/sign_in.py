"""Signing in to the console without a token: for people at this machine, while nobody configured who may."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from quart import Blueprint
from quart_schema import document_request, document_response, security_scheme, tag

from engine.domain.access import Role
from engine.domain.fields import check_fields, one_of, text
from gateway.auth import issue, printable
from gateway.rest import edge, schemas
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response, request
from gateway.rest.problems import Problem

# Seconds that a token of the console is good for.
TTL = 12 * 60 * 60
FIELDS = {
    "name": text(least=1, most=200),
    "role": one_of(role.name.lower() for role in Role),
    "user": text(least=1, most=200),
}
# What a proxy adds: whoever comes through one need not be at this machine.
FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


def blueprint(at: Edge) -> Blueprint:
    """
    The routes of signing in.
    """
    routes = Blueprint("sign_in", __name__, url_prefix="/api/v1")

    @routes.get("/sign-in")
    @security_scheme([])
    @tag(["sign-in"])
    @document_response(schemas.WaysIn, 200)
    async def read_ways_in() -> Response:
        """
        Whether the console may be entered by name, and if not, why.
        """
        reason = _obstacle()
        return answer({"local": not reason, "reason": reason})

    @routes.post("/sign-in")
    @security_scheme([])
    @tag(["sign-in"])
    @document_request(schemas.SignIn)
    @document_response(schemas.SignedIn, 200)
    async def sign_in() -> Response:
        """
        A token under any name, on a loopback address of a node for which nobody configured who may enter.
        """
        if reason := _obstacle():
            raise Problem(403, reason)
        # It takes nothing but JSON, which a page of another origin may not send unasked.
        fields = edge.checked(check_fields(await edge.body(), FIELDS, required=("name",)))
        name = printable(fields["name"]) or "Somebody"
        user = printable(fields.get("user")) or name
        role = Role.named(fields.get("role", "editor"))
        secret = at.authenticator.generated
        assert secret is not None
        assert role is not None
        token = issue(secret, user=user, name=name, role=role, ttl=TTL)
        shown = {"token": token, "user": user, "name": name, "role": role.name.lower()}
        return answer({**shown, "expires_at": at.authenticator.identify(token).expires_at})

    def _obstacle() -> str:
        """
        Why nobody may sign in by name; empty when they may.
        """
        settings = at.node.settings
        given = request()
        if not settings.auth.local_sign_in:
            return "auth.local_sign_in is off: bring a token; `greenroom token` makes one"
        if at.authenticator.generated is None:
            return "this node has a configured secret or key set: bring a token made with it"
        if not _is_loopback(settings.server.host) or not _is_loopback(given.client):
            return "this node is not on loopback: bring a token; `greenroom token` makes one"
        # Another name that leads here may be one that a foreign page chose (DNS rebinding).
        if not _is_loopback(_host(given.header(b"host"))):
            return "open the console at http://127.0.0.1 or http://localhost to sign in by name"
        if any(given.header(name) is not None for name in FORWARDED):
            return "this request came through a proxy: bring a token; `greenroom token` makes one"
        return ""

    return routes


def _host(header: str | None) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
