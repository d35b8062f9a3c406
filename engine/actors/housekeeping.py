"""Housekeeping: deletes records that are no longer kept, in the background, a little at a time."""

from collections.abc import Awaitable, Callable, Sequence

import attrs
import structlog
import trio

from conf.settings import Retention
from engine.errors import StoreUnavailableError
from engine.store.housekeeping import Leftovers

log = structlog.get_logger(__name__)

# Rows that one statement looks at: bounded work, bounded locks.
STEP = 1000
# Seconds between two statements that delete: others get their turn.
PAUSE = 0.02
# People whose notifications are counted in one round; the next round goes on behind them.
PEOPLE = 100


@attrs.define(eq=False, kw_only=True)
class Housekeeping:
    """
    Own whose turn it is. A crash loses that: people are looked at again from the beginning.
    """

    leftovers: Leftovers
    settings: Retention
    # The plugins of this node: what they have still to handle is kept.
    plugins: Sequence[str]
    # The last person whose notifications were counted.
    _after: str = attrs.field(default="", init=False)
    # Plugins of which it was told that they hold nothing up any more.
    _gone: list[str] = attrs.field(factory=list, init=False)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Tidy up, a round each interval, until cancelled.
        """
        task_status.started()
        while True:
            await trio.sleep(self.settings.interval)
            try:
                await self.round()
            except StoreUnavailableError as error:
                log.warning("nothing is tidied up while the database is away", reason=str(error))

    async def round(self) -> None:
        """
        One round. Raises StoreUnavailableError.
        """
        keep, leftovers = self.settings, self.leftovers
        await leftovers.seen(self.plugins)
        await self._tell_gone()
        await _all(lambda: leftovers.activity(keep.activity_age, keep.activity_count, STEP))
        await _all(lambda: leftovers.audit(keep.audit_age, keep.audit_count, STEP))
        await _all(lambda: leftovers.notifications(keep.notifications_age, STEP))
        people = await leftovers.people(self._after, PEOPLE)
        if people:
            await _all(lambda: leftovers.notifications_of(people, keep.notifications_per_user, STEP))
        self._after = people[-1] if len(people) == PEOPLE else ""
        await _all(lambda: leftovers.idempotency_keys(keep.idempotency_age, STEP))

    async def _tell_gone(self) -> None:
        gone = await self.leftovers.gone(self.settings.removed_plugin_age)
        for plugin in gone:
            if plugin not in self._gone:
                log.warning("no node runs this plugin any more: the log is cut without it", plugin=plugin)
        self._gone = gone


async def _all(cut: Callable[[], Awaitable[int]]) -> None:
    while await cut() == STEP:  # noqa: ASYNC110 -- it waits for nobody, it lets others go first
        await trio.sleep(PAUSE)
