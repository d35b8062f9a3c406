"""The envelope of a message on a queue: JSON, version 1, checked whole. Knows nothing of SQS, nor of rows."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from engine.domain.event import Json, iso
from engine.domain.fields import Check, FieldError, Invalid, check_fields, text, uuid_text
from engine.domain.json_text import parse

VERSION = 1
SUBMIT = "job.submit"

# Exact in every language's numbers; and PostgreSQL's bigint has room for the fences that follow.
_MOST = 2**53 - 1
# "Trace Context", W3C Recommendation, 2021: version, trace, parent, flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@attrs.frozen(kw_only=True)
class Submit:
    """
    A wish: run this job. `data` is what `POST /api/v1/jobs` takes; `job_id` is an id of the sender's choice.
    """

    job_id: str | None = None
    data: Json


@attrs.frozen(kw_only=True)
class Started:
    """
    An external worker has taken the job.
    """

    worker: str | None = None


@attrs.frozen(kw_only=True)
class Progressed:
    """
    How far it is, from 0 to 1.
    """

    fraction: float
    message: str | None = None


@attrs.frozen(kw_only=True)
class Completed:
    """
    It is done; `result` is any JSON.
    """

    result: object = None


@attrs.frozen(kw_only=True)
class Failed:
    """
    This attempt failed: whether another one makes sense, and how many seconds from now.
    """

    error: str
    retry: bool = True
    retry_after: float | None = None


Outcome = Started | Progressed | Completed | Failed


@attrs.frozen(kw_only=True)
class Report:
    """
    What an external worker tells of a job that it runs.

    `fence` is the number that it claimed the job with; `seq` grows with each report under that fence.
    """

    job_id: str
    fence: int
    seq: int
    attempt: int | None = None
    outcome: Outcome


@attrs.frozen(kw_only=True)
class Envelope:
    """
    One message. With the same source and id it is the same message, however often it is sent or delivered.
    """

    id: str
    source: str
    time: datetime
    # The topic that it is about: episode:<id>.
    subject: str | None = None
    traceparent: str | None = None
    body: Submit | Report

    @property
    def type(self) -> str:
        """
        What it is called on the wire: `job.submit`, for one.
        """
        return SUBMIT if isinstance(self.body, Submit) else _TYPES[type(self.body.outcome)]


def decode(body: str) -> Envelope | Invalid:
    """
    The message in this text, or everything that is wrong with it.
    """
    try:
        given = parse(body)
    except ValueError as error:
        return _wrong("", str(error))
    if not isinstance(given, dict):
        return _wrong("", "must be a JSON object")
    # A null is the same as nothing: some senders cannot leave a field out.
    given = {name: value for name, value in given.items() if value is not None}
    version, type_ = given.pop("v", None), given.pop("type", None)
    if version != VERSION or isinstance(version, bool):
        return _wrong("v", f"must be {VERSION}, the only version known here")
    if type_ == SUBMIT:
        return _submit(given)
    if isinstance(type_, str) and type_ in _REPORTS:
        return _report(given, _REPORTS[type_])
    return _wrong("type", f"must be one of {', '.join((SUBMIT, *_REPORTS))}")


def encode(envelope: Envelope) -> str:
    """
    The text of a message, as `decode` reads it.
    """
    body = envelope.body
    fields: dict[str, object] = {
        "v": VERSION,
        "id": envelope.id,
        "type": envelope.type,
        "source": envelope.source,
        "time": iso(envelope.time),
        "job_id": body.job_id,
        "subject": envelope.subject,
        "traceparent": envelope.traceparent,
    }
    if isinstance(body, Submit):
        fields["data"] = body.data
    else:
        told = attrs.asdict(body.outcome, recurse=False)
        fields |= {
            "attempt": body.attempt,
            "fence": body.fence,
            "seq": body.seq,
            "data": _without_nulls(told),
        }
    return json.dumps(_without_nulls(fields), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _submit(given: Mapping[str, object]) -> Envelope | Invalid:
    fields = check_fields(given, {**_COMMON, "data": _object}, required=(*_ALWAYS, "data"))
    if isinstance(fields, Invalid):
        return fields
    return _envelope(fields, Submit(job_id=fields.get("job_id"), data=fields["data"]))


def _report(given: Mapping[str, object], kind: "_Kind") -> Envelope | Invalid:
    checks = {**_COMMON, "attempt": _number(1), "fence": _number(1), "seq": _number(0), "data": _object}
    fields = check_fields(given, checks, required=(*_ALWAYS, "job_id", "fence", "seq"))
    data: object = given.get("data", {})
    if isinstance(data, dict):
        data = check_fields(_without_nulls(data), kind.fields, required=kind.required)
        if isinstance(data, Invalid):
            errors = [attrs.evolve(error, field=f"data.{error.field}") for error in data.errors]
            return Invalid((*(fields.errors if isinstance(fields, Invalid) else ()), *errors))
    if isinstance(fields, Invalid):
        return fields
    assert isinstance(data, dict)
    report = Report(
        job_id=fields["job_id"],
        fence=fields["fence"],
        seq=fields["seq"],
        attempt=fields.get("attempt"),
        outcome=kind.outcome(**data),
    )
    return _envelope(fields, report)


def _envelope(fields: Mapping[str, Any], body: Submit | Report) -> Envelope:
    return Envelope(
        id=fields["id"],
        source=fields["source"],
        time=fields["time"],
        subject=fields.get("subject"),
        traceparent=fields.get("traceparent"),
        body=body,
    )


def _wrong(field: str, message: str) -> Invalid:
    return Invalid((FieldError(field, message),))


def _without_nulls(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _number(least: int) -> Check:
    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
            raise ValueError(f"must be an integer from {least} to {_MOST}")
        return value

    return check


def _real(*, most: float) -> Check:
    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"must be a number from 0 to {most:g}")
        return float(value)

    return check


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _object(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")
    return value


def _anything(value: object) -> object:
    return value


def _time(value: object) -> object:
    try:
        at = datetime.fromisoformat(value if isinstance(value, str) else "")
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be a time with its offset, such as 2026-01-07T12:00:00.000Z")


def _traceparent(value: object) -> object:
    if not isinstance(value, str) or _TRACEPARENT.fullmatch(value) is None:
        raise ValueError("must be a traceparent of W3C Trace Context")
    return value


_COMMON: Mapping[str, Check] = {
    "id": text(least=1, most=200),
    "source": text(least=1, most=200),
    "time": _time,
    "job_id": uuid_text(),
    "subject": text(least=1, most=200),
    "traceparent": _traceparent,
}
_ALWAYS = ("id", "source", "time")


@attrs.frozen(kw_only=True)
class _Kind:
    """
    One type of report: what it says, and what its data may hold.
    """

    outcome: Callable[..., Outcome]
    fields: Mapping[str, Check]
    required: tuple[str, ...] = ()


_REPORTS: Mapping[str, _Kind] = {
    "job.started": _Kind(outcome=Started, fields={"worker": text(least=1, most=200)}),
    "job.progress": _Kind(
        outcome=Progressed,
        fields={"fraction": _real(most=1), "message": text(least=0, most=1000)},
        required=("fraction",),
    ),
    "job.completed": _Kind(outcome=Completed, fields={"result": _anything}),
    "job.failed": _Kind(
        outcome=Failed,
        fields={"error": text(least=1, most=10_000), "retry": _flag, "retry_after": _real(most=86_400)},
        required=("error",),
    ),
}
_TYPES = {kind.outcome: type_ for type_, kind in _REPORTS.items()}
