"""One plugin's beginning and end: calls `engine_started`, and `engine_stopping` when the node stops."""

from collections.abc import Callable

import attrs
import structlog
import trio

from engine.plugin_host.handle import PluginEngine
from engine.runtime.foreign import Function, Runner

log = structlog.get_logger(__name__)


@attrs.define(eq=False, kw_only=True)
class PluginLife:
    """
    Own whether one plugin has prepared itself.

    A crash loses nothing: the next life calls `engine_started` again.
    """

    engine: PluginEngine
    runner: Runner
    started: Function | None
    stopping: Function | None
    # Seconds for each of the two.
    budget: float
    # Set when the plugin may be given work.
    prepared: trio.Event = attrs.field(factory=trio.Event, init=False)
    # Called then.
    on_prepared: Callable[[], None] = attrs.field(default=lambda: None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.started is None:
            self.prepared.set()

    @property
    def has_hooks(self) -> bool:
        """
        Whether there is anything to call.
        """
        return self.started is not None or self.stopping is not None

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Let the plugin prepare itself, and clean up when cancelled. Raises what `engine_started` does.
        """
        task_status.started()
        if self.started is not None:
            await self.runner.run_within(self.budget, self.started, self.engine)
        self.prepared.set()
        self.on_prepared()
        try:
            await trio.sleep_forever()
        finally:
            if self.stopping is not None:
                # Bounded by its budget.
                with trio.CancelScope(shield=True):
                    await self._stop(self.stopping)

    async def _stop(self, stopping: Function) -> None:
        try:
            await self.runner.run_within(self.budget, stopping, self.engine)
        except Exception:
            log.exception("a plugin failed while it was stopping", plugin=self.engine.plugin)
