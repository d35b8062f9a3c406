"""What somebody may ask for when submitting a job. Pure; what a payload must hold, its handler knows."""

from collections.abc import Mapping
from typing import Any

import attrs

from conf.kinds import is_job_type
from engine.domain.event import EpisodeId, JobId, Request, UserId
from engine.domain.fields import Check, Invalid, check_fields, text, uuid_text, whole_number
from engine.domain.job import MAX_DELAY
from engine.domain.json_text import DEEPEST

# Seconds for an attempt: a week.
MAX_TIMEOUT = 604_800
# How often a job is tried.
MAX_ATTEMPTS = 100
# Characters of a unique key.
MAX_KEY = 200
HIGHEST_PRIORITY = 9
TOO_DEEP = f"must not be nested deeper than {DEEPEST} levels"


@attrs.frozen(kw_only=True)
class NewJob:
    """
    A job to be queued, as it was checked. `delay` and `timeout` are in seconds.
    """

    id: JobId
    type: str
    payload: Mapping[str, Any]
    max_attempts: int
    timeout: float
    priority: int = 0
    delay: float = 0.0
    unique_key: str | None = None
    episode_id: EpisodeId | None = None
    source: str
    user: UserId
    request: Request


def _type(value: object) -> object:
    if not isinstance(value, str) or not is_job_type(value):
        raise ValueError('must be lower case words joined by dots, such as "episode.import"')
    return value


def _object(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError("must be a JSON object")
    if (mistake := unstorable(value)) is not None:
        raise ValueError(mistake)
    return value


def unstorable(value: object, depth: int = 0) -> str | None:
    """
    Why JSON cannot be kept: a NUL character anywhere, which jsonb cannot hold, or depth that nobody can read.
    """
    if isinstance(value, str):
        return "must not contain the NUL character" if "\x00" in value else None
    if isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list):
        parts = value
    else:
        return None
    if depth == DEEPEST:
        return TOO_DEEP
    return next((mistake for part in parts if (mistake := unstorable(part, depth + 1))), None)


def _seconds(most: float, *, positive: bool) -> Check:
    rule = f"must be a number of seconds, {'more than 0' if positive else '0 or more'} and at most {most:.0f}"

    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(rule)
        if not 0 <= value <= most or (positive and value == 0):
            raise ValueError(rule)
        return float(value)

    return check


FIELDS: Mapping[str, Check] = {
    "type": _type,
    "payload": _object,
    "episode_id": uuid_text(optional=True),
    "priority": whole_number(least=0, most=HIGHEST_PRIORITY),
    "delay": _seconds(MAX_DELAY, positive=False),
    "unique_key": text(least=1, most=MAX_KEY, optional=True),
    "max_attempts": whole_number(least=1, most=MAX_ATTEMPTS),
    "timeout": _seconds(MAX_TIMEOUT, positive=True),
}


def parse(given: object) -> dict[str, Any] | Invalid:
    """
    The checked fields of a submission: `type` is required.
    """
    return check_fields(given, FIELDS, required=("type",))
