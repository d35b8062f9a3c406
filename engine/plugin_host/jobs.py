"""The job handlers that plugins register, held to the contract. Knows nothing of how they are run."""

import inspect
from collections.abc import Mapping
from hashlib import sha256

from conf.kinds import is_job_type
from engine import hookspecs
from engine.domain.job import MAX_DELAY
from engine.domain.job_request import MAX_ATTEMPTS, MAX_KEY, MAX_TIMEOUT
from engine.plugin_host.registered import Registered

# What the numbers of a handler may be at most. A submission may not ask for more either.
_WHOLE: Mapping[str, int] = {"max_attempts": MAX_ATTEMPTS, "concurrency": 10_000}
_SECONDS: Mapping[str, int] = {"timeout": MAX_TIMEOUT, "backoff_first": MAX_DELAY, "backoff_cap": MAX_DELAY}


def job_handlers() -> Registered[hookspecs.JobHandler]:
    """
    Which plugin runs the jobs of each type: none yet.
    """
    return Registered(
        hook="job_handlers",
        mistake=_mistake,
        name=lambda handler: handler.type,
        taken=lambda kind: f"jobs of type {kind!r} are already run",
    )


def kept_key(key: str) -> str:
    """
    A handler's unique key as it is kept: one that is too long by its beginning and what it is in all.
    """
    if len(key) <= MAX_KEY:
        return key
    whole = sha256(key.encode()).hexdigest()
    return f"{key[: MAX_KEY - len(whole) - 1]}~{whole}"


def is_async(run: object) -> bool:
    """
    Whether a handler's function runs on the event loop; an object that is called may have an async one.
    """
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(type(run).__call__)


def _mistake(handler: object) -> str | None:
    """
    What is wrong with a handler, if anything.
    """
    if not isinstance(handler, hookspecs.JobHandler):
        return f"answer hookspecs.JobHandler, not {type(handler).__name__}"
    if not isinstance(handler.type, str) or not is_job_type(handler.type):
        return f"{handler.type!r} is no type: lower case words joined by dots are, such as 'episode.import'"
    of = f"the handler of {handler.type!r}: "
    if not _takes_one(handler.run):
        return f"{of}run must be a function of the context"
    for field in ("check", "unique"):
        function = getattr(handler, field)
        if function is not None and (is_async(function) or not _takes_one(function)):
            return f"{of}{field} must be a plain function of the payload"
    for field, most in _WHOLE.items():
        value = getattr(handler, field)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            return f"{of}{field} must be a whole number from 1 to {most}, not {value!r}"
    for field, most in _SECONDS.items():
        value = getattr(handler, field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            return f"{of}{field} must be a number of seconds from 0 to {most}, not {value!r}"
    if handler.timeout == 0:
        return f"{of}timeout must be more than 0 seconds"
    if handler.backoff_first > handler.backoff_cap:
        return f"{of}backoff_first must be at most backoff_cap"
    return None


def _takes_one(function: object) -> bool:
    """
    Whether it can be called with one argument, as far as it tells.
    """
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(None)
    except ValueError:
        return True  # some that are written in C do not tell
    except TypeError:
        return False
    return True
