"""Which web pages may use the line (CORS, WHATWG Fetch), told by the origin that their browser names."""

from collections.abc import Sequence

import attrs

ANY = "*"
# Seconds that a browser may remember the answer to a preflight.
REMEMBER = b"600"

Headers = list[tuple[bytes, bytes]]


@attrs.frozen
class Cors:
    """
    The allowed origins. With `*` any page may, but without the browser's credentials; those that are named
    may use them.
    """

    origins: Sequence[str]

    def allows(self, origin: str | None, host: str) -> bool:
        """
        Whether a request from this origin is served: no browser, the node's own pages, or an allowed one.
        """
        own = origin is not None and origin.partition("://")[2] == host
        return origin is None or own or ANY in self.origins or origin in self.origins

    def headers(self, origin: str | None) -> Headers:
        """
        What tells the browser that its page may read the answer.
        """
        if origin is None:
            return []
        if origin in self.origins:
            return [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-allow-credentials", b"true"),
                (b"vary", b"origin"),
            ]
        return [(b"access-control-allow-origin", b"*")] if ANY in self.origins else []

    def preflight(self, origin: str | None, wanted: bytes) -> Headers:
        """
        The answer to a preflight that wants to send these headers.
        """
        granted = self.headers(origin)
        if granted:
            granted += [
                (b"access-control-allow-methods", b"GET, POST"),
                (b"access-control-max-age", REMEMBER),
            ]
            if wanted:
                granted.append((b"access-control-allow-headers", wanted))
        return granted
