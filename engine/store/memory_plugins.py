"""Cursors and plugins' transactions in memory: what plugins write is recorded, not run. Knows no SQL."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import trio

from engine.domain.event import Event, EventDraft, EventId, LogPlace, Request, UserId, user_topic
from engine.domain.world import new_id, now
from engine.errors import EngineError
from engine.store.cursors import LAG_COUNTED, Cursor, CursorMovedError, Failure
from engine.store.events import Author
from engine.store.memory import MemoryTables

# Failures that are kept of each plugin.
FAILURES = 100

Rows = Sequence[Mapping[str, Any]]
# What a statement is to answer: rows, or a function of its parameters that makes them.
Scripted = Rows | Callable[[Any], Rows]


@attrs.frozen
class Statement:
    """
    One statement that a plugin has committed.
    """

    plugin: str
    query: str
    params: Any


@attrs.define(eq=False)
class Script:
    """
    What plugins' statements answer, and what was committed of them.
    """

    committed: list[Statement] = attrs.field(factory=list)
    _answers: list[tuple[str, Scripted]] = attrs.field(factory=list)

    def answer(self, part: str, rows: Scripted) -> None:
        """
        Let statements that contain `part` answer these rows; what was said last goes first.
        """
        self._answers.insert(0, (part, rows))

    def rows(self, query: str, params: Any) -> Rows | None:
        """
        What a statement answers; None when nobody said.
        """
        for part, rows in self._answers:
            if part in query:
                return rows(params) if callable(rows) else rows
        return None


@attrs.define(eq=False, kw_only=True)
class MemoryTransaction:
    """
    What a plugin writes, as `PluginTransaction` and `EffectTransaction`: kept until it commits.
    """

    plugin: str
    tables: MemoryTables
    script: Script
    cursors: dict[str, Cursor] = attrs.field(factory=dict)
    # None for a transaction of no events.
    cursor: Cursor | None = None
    used: bool = attrs.field(default=False, init=False)
    told: bool = attrs.field(default=False, init=False)
    began_at: float | None = attrs.field(default=None, init=False)
    on_begin: Callable[[], None] | None = attrs.field(default=None, init=False)
    _over: bool = attrs.field(default=False, init=False)
    _written: list[Statement] = attrs.field(factory=list, init=False)
    _drafts: list[tuple[UserId, EventDraft]] = attrs.field(factory=list, init=False)

    async def execute(self, query: str, params: Any = ()) -> int:
        await self._begin()
        self._written.append(Statement(self.plugin, query, params))
        rows = self.script.rows(query, params)
        return 1 if rows is None else len(rows)

    async def execute_many(self, query: str, rows: Iterable[Any]) -> None:
        await self._begin()
        self._written += [Statement(self.plugin, query, params) for params in rows]

    async def fetch(self, query: str, params: Any = ()) -> list[Mapping[str, Any]]:
        await self._begin()
        return list(self.script.rows(query, params) or ())

    async def tell_user(self, user: UserId, type: str, data: Mapping[str, Any]) -> None:
        await self._begin()
        self._drafts.append((user, EventDraft(type=type, data=data)))
        self.told = True

    async def commit(self, last: Event) -> Cursor:
        assert self.cursor is not None
        await self.tables.reach()
        if self.cursors[self.plugin].place != self.cursor.place:
            raise CursorMovedError
        moved = attrs.evolve(self.cursors[self.plugin], place=last.place)
        self.cursors[self.plugin] = moved
        self._write()
        self.tables.written()
        return moved

    async def commit_own(self) -> None:
        await self.tables.reach()
        self._write()
        self.tables.written()

    async def rollback(self) -> None:
        self._over = True

    def _write(self) -> None:
        self._over = True
        self.script.committed += self._written
        for user, draft in self._drafts:
            author = Author(user=user, request=Request(mutation_id=f"{self.plugin}:{new_id()}"))
            self.tables.append([(user_topic(user), draft, author)])

    async def _begin(self) -> None:
        if self._over:
            raise EngineError("the transaction has ended: use it within its block only")
        self.used = True
        if self.began_at is None:
            self.began_at = trio.current_time()
            if self.on_begin is not None:
                self.on_begin()
        await self.tables.reach()


@attrs.define(eq=False, kw_only=True)
class MemoryCursors:
    """
    The plugins' cursors and failures, as `Cursors`.
    """

    tables: MemoryTables
    script: Script = attrs.field(factory=Script)
    _cursors: dict[str, Cursor] = attrs.field(factory=dict, init=False)
    _failures: dict[str, list[Failure]] = attrs.field(factory=dict, init=False)

    async def open(self, plugin: str, beginning: LogPlace) -> Cursor:
        await self.tables.reach()
        return self._cursors.setdefault(plugin, Cursor(plugin=plugin, place=beginning))

    async def quarantine(self, plugin: str, reason: str) -> datetime:
        await self.tables.reach()
        since = now()
        self._cursors[plugin] = attrs.evolve(self._cursors[plugin], quarantined_at=since, reason=reason)
        return since

    async def resume(self, plugin: str) -> None:
        await self.tables.reach()
        self._cursors[plugin] = attrs.evolve(self._cursors[plugin], quarantined_at=None, reason=None)

    async def replay(self, plugin: str, event: EventId | None) -> bool:
        await self.tables.reach()
        for one in self.tables.events:
            if plugin in self._cursors and event in (None, one.id):
                place = LogPlace(one.place.xid, one.place.seq - 1)
                self._cursors[plugin] = attrs.evolve(self._cursors[plugin], place=place)
                return True
        return False

    async def failed(self, plugin: str, failure: Failure) -> None:
        await self.tables.reach()
        known = self._failures.setdefault(plugin, [])
        known.insert(0, attrs.evolve(failure, at=now()))
        del known[FAILURES:]

    async def failures(self, plugin: str, limit: int) -> list[Failure]:
        await self.tables.reach()
        return self._failures.get(plugin, [])[:limit]

    async def lag(self, place: LogPlace) -> int:
        await self.tables.reach()
        return min(sum(event.place > place for event in self.tables.events), LAG_COUNTED)

    def begin(self, cursor: Cursor) -> MemoryTransaction:
        """
        The transaction of the events after the cursor.
        """
        return self._transaction(cursor.plugin, cursor)

    def begin_own(self, plugin: str) -> MemoryTransaction:
        """
        A transaction of no events.
        """
        return self._transaction(plugin, None)

    def _transaction(self, plugin: str, cursor: Cursor | None) -> MemoryTransaction:
        return MemoryTransaction(
            plugin=plugin,
            tables=self.tables,
            script=self.script,
            cursors=self._cursors,
            cursor=cursor,
        )
