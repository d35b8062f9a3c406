"""Refusals over HTTP: problem+json (RFC 9457), one entry for each bad field."""

from collections.abc import Iterable, Mapping

import msgspec

from engine.domain.fields import FieldError, Invalid
from gateway.rest.messages import Response

PROBLEM_JSON = "application/problem+json"
TITLES = {
    400: "Malformed request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid",
    428: "Precondition required",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


class Problem(Exception):  # noqa: N818 -- a refusal that travels back, named as its RFC names it
    """
    The request is refused; the application answers with this.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    @classmethod
    def invalid(cls, invalid: Invalid) -> "Problem":
        """
        The fields are wrong.
        """
        count = len(invalid.errors)
        return cls(422, f"{count} field{'s are' if count > 1 else ' is'} wrong", errors=invalid.errors)

    def body(self, request_id: str) -> bytes:
        """
        The answer's body; the request's id helps to find it in the log.
        """
        body: dict[str, object] = {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [{"field": error.field, "message": error.message} for error in self.errors]
        return msgspec.json.encode(body)

    def response(self, request_id: str) -> Response:
        """
        The answer.
        """
        return Response(self.body(request_id), self.status, {"Content-Type": PROBLEM_JSON, **self.headers})
