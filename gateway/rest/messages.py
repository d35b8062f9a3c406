"""A request as its handler sees it, and the answer. Knows no routes, no episodes, and little of HTTP."""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl

import attrs

from engine.domain.event import traceparent_of

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Headers = list[tuple[bytes, bytes]]

_SANE_ID = re.compile(r"[\w.:/-]{1,100}", re.ASCII)
_CREDENTIALS = (b"authorization", b"cookie", b"proxy-authorization")
# Statuses without a body, so without its length.
_BODILESS = (204, 304)


class GoneError(Exception):
    """
    The client went before its request was whole. Nobody waits for an answer.
    """


class TooLargeError(Exception):
    """
    The body is larger than it may be. Answer 413.
    """


@attrs.define(eq=False)
class Request:
    """
    One request: the head, and the body for whoever wants it.
    """

    scope: Mapping[str, Any]
    receive: Receive
    # Bytes.
    max_body: int
    id: str = attrs.field(init=False)
    # Where it belongs in a trace (W3C Trace Context): what its client sent, or its own span below that.
    traceparent: str | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.id = request_id(self.header(b"x-request-id"))
        self.traceparent = traceparent_of(self.header(b"traceparent"))

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def client(self) -> str | None:
        """
        The address that the request comes from.
        """
        client = self.scope.get("client")
        return client[0] if client else None

    @property
    def query(self) -> dict[str, str]:
        """
        The query's parameters; of one that is given more than once, the first.
        """
        given = parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return dict(reversed(given))

    def header(self, name: bytes) -> str | None:
        """
        A header, by its name in lower case.
        """
        for known, value in self.scope["headers"]:
            if known == name:
                return str(value, "latin-1")
        return None

    def plain_headers(self) -> dict[str, str]:
        """
        The headers by name in lower case, without the credentials: what plugins may see.
        """
        return {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in self.scope["headers"]
            if name not in _CREDENTIALS
        }

    async def body(self) -> bytes:
        """
        All of the body. Raises TooLargeError and GoneError.
        """
        length = self.header(b"content-length") or ""
        if length.isdecimal() and int(length) > self.max_body:
            raise TooLargeError
        body = b""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            body += cast(bytes, message.get("body", b""))
            if len(body) > self.max_body:
                raise TooLargeError
            if not message.get("more_body", False):
                return body


# The request that the running task answers.
_current: ContextVar[Request] = ContextVar("request")
request = _current.get
answering = _current.set


class Response(NamedTuple):
    """
    What is answered, whole. It is a triple because that is what Quart takes, too.
    """

    body: bytes
    status: int
    headers: dict[str, str]

    def start(self, more: Headers) -> dict[str, Any]:
        """
        The head as ASGI sends it, with `more` headers.
        """
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        if self.status not in _BODILESS:
            headers.append((b"content-length", b"%d" % len(self.body)))
        return {"type": "http.response.start", "status": self.status, "headers": headers + more}


def request_id(given: str | None) -> str:
    """
    What a request is called: as its client wants it, if that is sane.
    """
    return given if given is not None and _SANE_ID.fullmatch(given) else str(uuid.uuid4())
