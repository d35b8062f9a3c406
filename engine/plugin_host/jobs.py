"""The job handlers that plugins register, held to the contract. Knows nothing of how they are run."""

from conf.kinds import is_job_type
from engine import hookspecs
from engine.plugin_host.registered import Registered


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


def _mistake(handler: object) -> str | None:
    """
    What is wrong with a handler, if anything.
    """
    if not isinstance(handler, hookspecs.JobHandler):
        return f"answer hookspecs.JobHandler, not {type(handler).__name__}"
    if not is_job_type(handler.type):
        return f"{handler.type!r} is no type: lower case words joined by dots are, such as 'episode.import'"
    of = f"the handler of {handler.type!r}: "
    if not callable(handler.run):
        return f"{of}run must be a function of the context"
    for field, least in (("max_attempts", 1), ("concurrency", 1)):
        if not isinstance(value := getattr(handler, field), int) or value < least:
            return f"{of}{field} must be a whole number of {least} or more, not {value!r}"
    if not handler.timeout > 0:
        return f"{of}timeout must be more than 0 seconds, not {handler.timeout!r}"
    if not 0 <= handler.backoff_first <= handler.backoff_cap:
        return f"{of}backoff_first must be 0 or more, and at most backoff_cap"
    return None
