"""Housekeeping: deletes records that are no longer kept, in the background, a little at a time."""

from collections.abc import Awaitable, Callable, Sequence

import attrs
import structlog
import trio

from conf.settings import Retention
from engine.domain.event import EpisodeId
from engine.errors import StoreUnavailableError
from engine.store.housekeeping import Leftovers

log = structlog.get_logger(__name__)

# Rows that one statement looks at: bounded work, bounded locks.
STEP = 1000
# Seconds between two statements that delete: others get their turn.
PAUSE = 0.02
# People whose notifications, and episodes whose jobs, are counted in one round; the next goes on behind them.
MANY = 100


@attrs.define(eq=False, kw_only=True)
class Housekeeping:
    """
    Own whose turn it is. A crash loses that: people and episodes are looked at again from the beginning.
    """

    leftovers: Leftovers
    settings: Retention
    # The plugins of this node: what they have still to handle is kept.
    plugins: Sequence[str]
    # The last person whose notifications were counted.
    _after: str = attrs.field(default="", init=False)
    # The last episode whose ended jobs were counted.
    _after_episode: EpisodeId | None = attrs.field(default=None, init=False)
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
        people = await leftovers.people(self._after, MANY)
        if people:
            await _all(lambda: leftovers.notifications_of(people, keep.notifications_per_user, STEP))
        self._after = people[-1] if len(people) == MANY else ""
        await self._cut_jobs()
        await _all(lambda: leftovers.idempotency_keys(keep.idempotency_age, STEP))

    async def _cut_jobs(self) -> None:
        keep, leftovers = self.settings, self.leftovers
        await _all(lambda: leftovers.jobs(keep.jobs_age, STEP))
        await _all(lambda: leftovers.jobs_alone(keep.jobs_per_topic, STEP))
        episodes = await leftovers.episodes(self._after_episode, MANY)
        if episodes:
            await _all(lambda: leftovers.jobs_of(episodes, keep.jobs_per_topic, STEP))
        self._after_episode = episodes[-1] if len(episodes) == MANY else None

    async def _tell_gone(self) -> None:
        gone = await self.leftovers.gone(self.settings.removed_plugin_age)
        for plugin in gone:
            if plugin not in self._gone:
                log.warning("no node runs this plugin any more: the log is cut without it", plugin=plugin)
        self._gone = gone


async def _all(cut: Callable[[], Awaitable[int]]) -> None:
    while await cut() == STEP:  # noqa: ASYNC110 -- it waits for nobody, it lets others go first
        await trio.sleep(PAUSE)
