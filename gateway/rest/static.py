"""Files that come with the program, as browsers load them. Knows no pages."""

import hashlib
from collections.abc import Mapping
from importlib.resources.abc import Traversable

from gateway.rest.messages import Response, request

# Declarations of TypeScript are text to a browser.
TYPES = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
    "ts": "text/plain",
}


def file(path: Traversable, headers: Mapping[str, str]) -> Response:
    """
    One file. Browsers keep it and ask again each time: what belongs together must be of one version.
    """
    body = path.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    told = {
        "Content-Type": f"{TYPES[path.name.rpartition('.')[2]]}; charset=utf-8",
        "ETag": tag,
        "Cache-Control": "no-cache",
        **headers,
    }
    if tag in (request().header(b"if-none-match") or ""):
        return Response(b"", 304, told)
    return Response(body, 200, told)
