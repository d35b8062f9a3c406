"""From a submission's checked fields to the job: whether anybody runs it, and what its handler says of it."""

from collections.abc import Collection, Mapping
from typing import Any

from engine.domain.event import JobId, Request, UserId
from engine.domain.fields import FieldError, Invalid
from engine.domain.job_request import NewJob
from engine.hookspecs import JobHandler

# Of types that no plugin here runs.
EXTERNAL_ATTEMPTS = 5
EXTERNAL_TIMEOUT = 300.0


def new_job(
    handlers: Mapping[str, JobHandler],
    external_types: Collection[str],
    fields: Mapping[str, Any],
    *,
    id: JobId,
    source: str,
    user: UserId,
    request: Request,
) -> NewJob | Invalid:
    """
    The job that the fields of `job_request.parse` ask for, or what is wrong with them.

    Calls the handler's `check` and `unique`, which may raise anything.
    """
    kind = fields["type"]
    handler = handlers.get(kind)
    if handler is None and kind not in external_types:
        known = ", ".join(sorted({*handlers, *external_types})) or "none"
        message = f"is neither run by a plugin here nor one of jobs.external_types; known: {known}"
        return Invalid((FieldError("type", message),))
    payload = fields.get("payload", {})
    unique_key = fields.get("unique_key")
    if handler is not None:
        mistakes = tuple(handler.check(payload)) if handler.check is not None else ()
        if mistakes:
            return Invalid(tuple(FieldError(f"payload.{each.field}", each.message) for each in mistakes))
        if unique_key is None and handler.unique is not None:
            unique_key = handler.unique(payload)
    return NewJob(
        id=id,
        type=kind,
        payload=payload,
        max_attempts=fields.get("max_attempts", handler.max_attempts if handler else EXTERNAL_ATTEMPTS),
        timeout=fields.get("timeout", handler.timeout if handler else EXTERNAL_TIMEOUT),
        priority=fields.get("priority", 0),
        delay=fields.get("delay", 0.0),
        unique_key=unique_key,
        episode_id=fields.get("episode_id"),
        source=source,
        user=user,
        request=request,
    )
