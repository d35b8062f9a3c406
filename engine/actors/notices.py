"""One plugin's ephemeral notices: who is here, who connected. Bounded, dropped when the plugin is slow."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import attrs
import structlog
import trio

from engine.actors.presence import PresenceSink
from engine.domain.event import EpisodeId
from engine.domain.presence import Viewer
from engine.errors import EngineError, MailboxFullError
from engine.hookspecs import ClientSession, PresenceChange
from engine.plugin_host.handle import PluginEngine
from engine.runtime.foreign import Function, Runner, told
from engine.runtime.mailbox import Mailbox

log = structlog.get_logger(__name__)

# Notices that may wait for one plugin.
WAITING = 1000


@attrs.frozen
class Notice:
    """
    A hook to call, and what it is told.
    """

    hook: str
    told: PresenceChange | ClientSession


class NoticesFailedError(EngineError):
    """
    The plugin failed at too many notices in a row. Its supervisor gives it a rest.
    """


class NoticeLimits(Protocol):
    """
    What a plugin may take for one notice, in seconds, and how often it may fail in a row.
    """

    @property
    def notice_budget(self) -> float: ...

    @property
    def failures_to_quarantine(self) -> int: ...


@attrs.define(eq=False, kw_only=True)
class NoticeActor:
    """
    Own what one plugin has still to be told. Nothing here is kept: a crash loses what was being told.
    """

    engine: PluginEngine
    runner: Runner
    # By hook.
    functions: Mapping[str, Function]
    limits: Callable[[], NoticeLimits]
    prepared: trio.Event
    mailbox: Mailbox[Notice]
    told_total: int = attrs.field(default=0, init=False)
    dropped_total: int = attrs.field(default=0, init=False)
    failed_total: int = attrs.field(default=0, init=False)

    def put(self, notice: Notice) -> None:
        """
        Let the plugin know, if it has a hook for it and keeps up.
        """
        if notice.hook in self.functions:
            try:
                self.mailbox.tell_nowait(notice)
            except MailboxFullError:
                self.dropped_total += 1

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Tell until cancelled. Raises NoticesFailedError.
        """
        with self.mailbox.serving():
            task_status.started()
            await self.prepared.wait()
            failures = 0
            while True:
                notice = await self.mailbox.receive()
                failures = 0 if await self._tell(notice) else failures + 1
                if failures >= self.limits().failures_to_quarantine:
                    raise NoticesFailedError(
                        f"plugin {self.engine.plugin} failed at {failures} notices in a row"
                    )

    async def _tell(self, notice: Notice) -> bool:
        function = self.functions[notice.hook]
        try:
            await self.runner.run_within(self.limits().notice_budget, function, self.engine, notice.told)
        except Exception as error:
            self.failed_total += 1
            log.warning(
                "a plugin failed at a notice",
                plugin=self.engine.plugin,
                hook=notice.hook,
                error=told(error),
            )
            return False
        self.told_total += 1
        return True


@attrs.define(eq=False, kw_only=True)
class Notices:
    """
    Tells all plugins, without waiting for any. Between the episodes' actors and the writer of presence.
    """

    actors: Mapping[str, NoticeActor]
    writer: PresenceSink

    def opened(self, session: ClientSession) -> None:
        """
        A client was let in.
        """
        self._put(Notice("session_opened", session))

    def closed(self, session: ClientSession) -> None:
        """
        A client has gone.
        """
        self._put(Notice("session_closed", session))

    def changed(self, episode: EpisodeId, present: Iterable[Viewer], gone: Iterable[Viewer]) -> None:
        """
        Viewers came, changed or went.
        """
        came, went = tuple(present), tuple(gone)
        self.writer.changed(episode, came, went)
        self._presence(PresenceChange(episode=episode, present=came, gone=went, everyone=False))

    def began(self, episode: EpisodeId, viewers: Iterable[Viewer]) -> None:
        """
        These are all who are there.
        """
        everyone = tuple(viewers)
        self.writer.began(episode, everyone)
        if everyone:
            self._presence(PresenceChange(episode=episode, present=everyone, gone=(), everyone=True))

    def _presence(self, change: PresenceChange) -> None:
        self._put(Notice("presence_changed", change))

    def _put(self, notice: Notice) -> None:
        for actor in self.actors.values():
            actor.put(notice)
