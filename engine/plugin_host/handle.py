"""What each plugin is given of the engine: its own handle. Knows no hooks."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from engine.domain.event import EpisodeId, UserId
from engine.errors import EngineError
from engine.hookspecs import Transaction
from engine.plugin_host.metrics import PluginMetrics
from engine.store.transactions import PluginTransaction


@attrs.frozen
class EngineParts:
    """
    What handles need of a running engine. `wake_feed` is called when a plugin has appended events.
    """

    begin: Callable[[str], PluginTransaction]
    wake_feed: Callable[[], None]
    mark: Callable[[str, EpisodeId, UserId, str | None], None]


@attrs.define(eq=False, kw_only=True)
class PluginEngine:
    """
    One plugin's handle; fulfils hookspecs.Engine. It is there before the engine runs, for decisions' sake.
    """

    plugin: str
    metrics: PluginMetrics = attrs.field(init=False)
    # An object of the plugin's own class.
    settings: Any = attrs.field(default=None, init=False)
    # None until the engine is built.
    parts: EngineParts | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.metrics = PluginMetrics(self.plugin)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """
        A transaction of the plugin's own: committed at the end of the block, undone by what the block raises.
        """
        parts = self.running()
        transaction = parts.begin(self.plugin)
        try:
            yield transaction
            await transaction.commit_own()
        finally:
            await transaction.rollback()
        if transaction.told:
            parts.wake_feed()

    async def mark(self, episode: str, user: str, text: str | None) -> None:
        """
        Say something of a person on an episode, or nothing more.
        """
        await trio.lowlevel.checkpoint()
        self.running().mark(self.plugin, EpisodeId(episode), UserId(user), text)

    def running(self) -> EngineParts:
        """
        The parts of the running engine. Raises EngineError before there is one.
        """
        if self.parts is None:
            raise EngineError(f"plugin {self.plugin} used the engine before it was started")
        return self.parts
