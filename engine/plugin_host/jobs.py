"""The job handlers that plugins register, held to the contract. Knows nothing of how they are run."""

from collections.abc import Iterable, Mapping

import attrs

from conf.kinds import is_job_type
from engine import hookspecs
from engine.errors import PluginError


@attrs.define(eq=False)
class JobHandlers:
    """
    Own which plugin runs the jobs of each type: one handler in all.
    """

    _found: dict[str, tuple[str, hookspecs.JobHandler]] = attrs.field(factory=dict, init=False)

    def add(self, plugin: str, handlers: Iterable[object]) -> None:
        """
        Take a plugin's handlers. Raises PluginError for what breaks the contract.
        """
        for handler in handlers:
            if mistake := _mistake(handler):
                raise PluginError(f"plugin {plugin}: job_handlers: {mistake}")
            assert isinstance(handler, hookspecs.JobHandler)
            if handler.type in self._found:
                other, _ = self._found[handler.type]
                raise PluginError(
                    f"plugin {plugin}: jobs of type {handler.type!r} are already run by plugin {other}"
                )
            self._found[handler.type] = (plugin, handler)

    def by_type(self) -> Mapping[str, hookspecs.JobHandler]:
        """
        The handler of each job type.
        """
        return {kind: handler for kind, (_, handler) in self._found.items()}

    def plugin_of(self, kind: str) -> str:
        """
        The plugin that runs the jobs of a type.
        """
        return self._found[kind][0]


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
