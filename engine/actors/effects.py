"""The actor of one plugin's effects: cursor, retries, quarantine. The plugin's code is called here."""

import math
import random
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, assert_never

import attrs
import structlog
import trio

from engine.domain.event import Event, LogPlace, is_private
from engine.domain.json_text import storable
from engine.errors import StoreUnavailableError
from engine.hookspecs import Transaction
from engine.plugin_host.handle import PluginEngine
from engine.plugin_host.host import Effect
from engine.plugin_host.metrics import PluginMetrics
from engine.runtime.backoff import Backoff
from engine.runtime.foreign import Function, OverBudgetError, Runner, told
from engine.runtime.mailbox import Mailbox, Reply
from engine.store.cursors import Cursor, CursorMovedError, Cursors, EffectTransaction, Failure
from engine.store.events import EventLog

log = structlog.get_logger(__name__)

# Threads that a plugin's plain functions may occupy: a hung one that was given up keeps its thread.
THREADS = 4
# Events kept at hand; what the feed brings beyond it is read from the log later.
AT_HAND = 1000
# Failures in a row that are told, each; of more, one a second.
TOLD = 20
# Characters that are kept of an error's text, and of its traceback.
LONGEST = 8000
# Seconds until it is tried again while the database is away.
AWAY = 0.5


@attrs.frozen(kw_only=True)
class Fed:
    """
    The feed has read these events; they are all there is after `after`.
    """

    after: LogPlace
    events: tuple[Event, ...]


@attrs.frozen
class Resume:
    """
    An operator ends the quarantine. Answered when the effects run again, or with StoreUnavailableError.
    """

    reply: Reply[None]


EffectMessage = Fed | Resume


@attrs.frozen(kw_only=True)
class EffectSettings:
    """
    A plugin's budgets: seconds for one call, and for one with a transaction open, events handed over at
    once, seconds to gather them, failures.
    """

    budget: float
    transaction_budget: float
    batch: int
    linger: float
    failures_to_quarantine: int
    backoff: Backoff


@attrs.frozen(kw_only=True)
class EffectContext:
    """
    What the plugin is given with its events; fulfils hookspecs.Context.
    """

    engine: PluginEngine
    attempt: int
    writes: EffectTransaction

    @property
    def plugin(self) -> str:
        """
        The plugin's own name.
        """
        return self.engine.plugin

    @property
    def settings(self) -> Any:
        """
        The plugin's own settings.
        """
        return self.engine.settings

    @property
    def metrics(self) -> PluginMetrics:
        """
        The plugin's own metrics.
        """
        return self.engine.metrics

    async def mark(self, episode: str, user: str, text: str | None) -> None:
        """
        Say something of a person on an episode.
        """
        await self.engine.mark(episode, user, text)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """
        The one transaction of these events; it commits when the hook has returned.
        """
        yield self.writes


@attrs.define(eq=False, kw_only=True)
class EffectActor:
    """
    Own how far one plugin has got.

    A crash loses nothing: the cursor is in the store, and moves with the effects.
    """

    effect: Effect
    mailbox: Mailbox[EffectMessage]
    log: EventLog
    cursors: Cursors
    settings: EffectSettings
    # Where a plugin begins that this database has never seen.
    beginning: LogPlace
    chance: random.Random
    # Calls the plugin's hooks.
    runner: Runner
    # Called when effects have appended events to the log.
    wake_feed: Callable[[], None]
    # Set when the plugin has prepared itself: it gets no event before.
    prepared: trio.Event
    # Told what was handled, or failed: the plugin, the events, when it began, the error.
    on_handled: Callable[[str, Sequence[Event], float, str | None], None] = lambda *_: None
    cursor: Cursor = attrs.field(init=False)
    # Failures in a row; of one event, because a batch that fails is taken apart.
    failures: int = attrs.field(default=0, init=False)
    handled_total: int = attrs.field(default=0, init=False)
    failed_total: int = attrs.field(default=0, init=False)
    last_error: str | None = attrs.field(default=None, init=False)
    # What the feed has brought right behind the cursor; empty when the log must be read.
    _at_hand: list[Event] = attrs.field(factory=list, init=False)
    # Whether nothing is in the log behind what is at hand, as far as the feed has brought it.
    _caught_up: bool = attrs.field(default=False, init=False)
    # What the mailbox had refused when this was last looked at: each was news that is missing here.
    _refused: int = attrs.field(default=0, init=False)
    # When a failure was last told.
    _told_at: float = attrs.field(default=-math.inf, init=False)
    # After a failure events are handed over one at a time, until as many as had failed have passed.
    _singly: int = attrs.field(default=0, init=False)
    _limiter: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(THREADS))

    def __attrs_post_init__(self) -> None:
        self.cursor = Cursor(plugin=self.effect.plugin, place=self.beginning)

    @property
    def quarantined_at(self) -> datetime | None:
        """
        Since when the plugin is switched off, if it is.
        """
        return self.cursor.quarantined_at

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Hand events over until cancelled.
        """
        with self.mailbox.serving():
            task_status.started()
            await self.prepared.wait()
            await self._reopen()
            while True:
                try:
                    await self._step()
                except StoreUnavailableError as error:
                    log.warning("effects wait for the database", plugin=self.effect.plugin, reason=str(error))
                    self._forget()
                    await trio.sleep(AWAY)
                except CursorMovedError:
                    await self._reopen()

    async def _step(self) -> None:
        if self.cursor.quarantined_at is not None:
            message = await self.mailbox.receive()
            if isinstance(message, Resume):
                await self._resume(message)
            return
        if not self._at_hand and not self._caught_up:
            self._refused = self.mailbox.statistics().refused_total
            self._caught_up = True
            self._at_hand = await self.log.after(self.cursor.place, self.settings.batch)
            self._caught_up &= len(self._at_hand) < self.settings.batch
        if not self._at_hand:
            self._take(await self.mailbox.receive())
            await trio.sleep(self.settings.linger)
            for message in self.mailbox.drain_nowait(self.mailbox.capacity):
                self._take(message)
            self._caught_up &= self._refused == self.mailbox.statistics().refused_total
            return
        size = 1 if self._singly else self.settings.batch
        batch, self._at_hand = self._at_hand[:size], self._at_hand[size:]
        await self._hand_over(batch)

    def _take(self, message: EffectMessage) -> None:
        match message:
            case Fed(after=after, events=events):
                last = self._at_hand[-1].place if self._at_hand else self.cursor.place
                if after <= last and len(self._at_hand) < AT_HAND and self.cursor.quarantined_at is None:
                    self._at_hand += [event for event in events if event.place > last]
                else:
                    # There is a hole that only the log can fill.
                    self._caught_up = False
            case Resume(reply):
                # Nothing to end: what it may have meant to end was ended by another.
                reply.set(None)
            case _:
                assert_never(message)

    async def _resume(self, wish: Resume) -> None:
        try:
            await self.cursors.resume(self.effect.plugin)
        except StoreUnavailableError as error:
            wish.reply.fail(error)
            return
        self.cursor = attrs.evolve(self.cursor, quarantined_at=None, reason=None)
        self.failures = 0
        # Threads that hang may never come back; a plugin that was mended must not wait for them.
        self._limiter = trio.CapacityLimiter(THREADS)
        wish.reply.set(None)

    async def _hand_over(self, batch: list[Event]) -> None:
        # What one person is told is said to that person, not to plugins; the cursor passes it.
        events = [event for event in batch if not is_private(event.topic)]
        transaction = self.cursors.begin(self.cursor)
        context = EffectContext(engine=self.effect.engine, attempt=self.failures + 1, writes=transaction)
        done, began = 0, trio.current_time()
        try:
            try:
                if self.effect.many is not None and events:
                    await self._call(self.effect.many, context, tuple(events))
                    done = len(events)
                else:
                    for event in events:
                        if (function := self.effect.of(event.type)) is not None:
                            await self._call(function, context, event)
                        done += 1
                cursor = await transaction.commit(batch[-1])
                if transaction.told:
                    self.wake_feed()
            except (StoreUnavailableError, CursorMovedError):
                raise
            except Exception as error:
                failed = error
            else:
                self.cursor = cursor
                self._passed(len(events))
                self.on_handled(self.effect.plugin, events, began, None)
                return
            # What was done outside the database is done; keep it, if nothing inside was.
            if done and not transaction.used:
                self.cursor = await transaction.commit(events[done - 1])
                self._passed(done)
        finally:
            await transaction.rollback()
        if transaction.used:
            await self._check_alone()
        # What is to be handed over again need not be read again, however often it fails.
        self._at_hand[:0] = [event for event in batch if event.place > self.cursor.place]
        # What a plugin wrote may be refused as late as by the commit.
        culprit = events[min(done, len(events) - 1)]
        self.on_handled(self.effect.plugin, [culprit], began, told(failed))
        await self._failed(events if transaction.used else events[done:], failed, culprit=culprit)

    async def _check_alone(self) -> None:
        """
        Raises CursorMovedError if another node has handled these events: its rows were in the way of these.
        """
        found = await self.cursors.open(self.effect.plugin, self.beginning)
        if found.place != self.cursor.place:
            raise CursorMovedError

    async def _call(self, function: Function, context: EffectContext, given: Event | Sequence[Event]) -> None:
        budget, writes = self.settings.budget, context.writes
        with trio.move_on_after(budget) as scope:

            def shorten() -> None:
                # What has been written in an open transaction holds up the log, and so every other plugin.
                assert writes.began_at is not None
                scope.deadline = min(scope.deadline, writes.began_at + self.settings.transaction_budget)

            writes.on_begin = shorten
            if writes.began_at is not None:
                shorten()
            await self.runner.run(function, context, given, limiter=self._limiter)
        if scope.cancelled_caught:
            raise OverBudgetError(
                f"took longer than its budget of {budget:g} s, "
                f"or {self.settings.transaction_budget:g} s with a transaction open"
            )

    def _passed(self, count: int) -> None:
        self.handled_total += count
        self._singly = max(0, self._singly - count)
        self.failures = 0

    async def _failed(self, remaining: Sequence[Event], error: Exception, *, culprit: Event) -> None:
        self.failed_total += 1
        self.last_error = storable(told(error))[:LONGEST]
        if len(remaining) > 1 and not self._singly:
            # One of them is to blame: hand them over singly, and blame that one.
            self._singly = len(remaining)
            return
        attempt, plugin = self.failures + 1, self.effect.plugin
        # Of one that may fail for ever, not every failure is worth a line and a row.
        if attempt <= TOLD or trio.current_time() >= self._told_at + 1:
            self._told_at = trio.current_time()
            log.warning(
                "an effect failed", plugin=plugin, event_id=culprit.id, attempt=attempt, error=self.last_error
            )
            failure = Failure(
                event_id=culprit.id,
                event_type=culprit.type,
                attempt=attempt,
                error=self.last_error,
                traceback=storable("".join(traceback.format_exception(error)))[-LONGEST:],
            )
            # First write it down: while the database hangs nobody can tell whose fault it is that time runs
            # out.
            await self.cursors.failed(plugin, failure)
        self.failures = attempt
        if self.failures >= self.settings.failures_to_quarantine:
            reason = f"{self.last_error} (event {culprit.id}, {self.failures} attempts)"
            since = await self.cursors.quarantine(plugin, reason)
            self.cursor = attrs.evolve(self.cursor, quarantined_at=since, reason=reason)
            log.error("the plugin is quarantined", plugin=plugin, reason=reason)
            # What comes meanwhile is passed over.
            self._forget()
            return
        await trio.sleep(self.settings.backoff.delay(self.failures - 1, self.chance))

    async def _reopen(self) -> None:
        while True:
            try:
                self.cursor = await self.cursors.open(self.effect.plugin, self.beginning)
            except StoreUnavailableError:
                await trio.sleep(AWAY)
            else:
                self._forget()
                return

    def _forget(self) -> None:
        self._at_hand.clear()
        self._caught_up = False
