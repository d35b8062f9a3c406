"""The store in memory, for engines on a virtual clock: the same promises, no database, gone at its end."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from engine.domain.composition import Composition, CompositionChange, CompositionId
from engine.domain.episode import Episode, EpisodeChange
from engine.domain.event import (
    EpisodeId,
    Epoch,
    Event,
    EventDraft,
    LogPlace,
    Offset,
    Topic,
    UserId,
    episode_topic,
    is_private,
    user_topic,
)
from engine.domain.world import now
from engine.errors import StoreUnavailableError
from engine.store.episode_list import ListQuery, Page
from engine.store.episodes import Idempotency, Replay
from engine.store.events import Author, PendingEvent
from engine.store.records import RecordPage

_LAST = 2**63 - 1
EPOCH = Epoch("00000000-0000-4000-8000-000000000001")
NOTHING_CUT = LogPlace(0, 0)


@attrs.define(eq=False)
class MemoryTables:
    """
    Own everything that is kept, and whether it can be reached.

    Broken, everything raises StoreUnavailableError; with `loses_answers` it does so after a write was made,
    so that nobody knows whether it was.
    """

    epoch: Epoch = EPOCH
    broken: bool = False
    loses_answers: bool = False
    events: list[Event] = attrs.field(factory=list)
    episodes: dict[EpisodeId, Episode] = attrs.field(factory=dict)
    compositions: dict[CompositionId, Composition] = attrs.field(factory=dict)
    cut: LogPlace = NOTHING_CUT
    # Told of every event as it is committed.
    on_commit: Callable[[Event], None] = lambda event: None
    _topics: dict[Topic, list[Event]] = attrs.field(factory=lambda: defaultdict(list))
    _xid: int = 1
    _keys: dict[tuple[UserId, str], Replay] = attrs.field(factory=dict)

    async def reach(self) -> None:
        """
        Go to the store: let others run meanwhile. Raises StoreUnavailableError.
        """
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise StoreUnavailableError("the simulated store is away")

    def written(self) -> None:
        """
        Come back from a write that was made. Raises StoreUnavailableError.
        """
        if self.loses_answers:
            raise StoreUnavailableError("the simulated store went away; nobody knows whether it has written")

    def append(self, drafts: Sequence[tuple[Topic, EventDraft, Author]]) -> list[Event]:
        """
        Commit events together.
        """
        self._xid += 1
        events = []
        for seq, (topic, draft, author) in enumerate(drafts, len(self.events) + 1):
            pending = PendingEvent.of(topic, draft, author, self.epoch)
            log = self._topics[topic]
            log.append(pending.committed((self._xid, seq, len(log) + 1), {"at": now()}))
            events.append(log[-1])
            self._count_up(topic, log[-1].offset)
        self.events += events
        for event in events:
            self.on_commit(event)
        return events

    def _count_up(self, topic: Topic, offset: Offset) -> None:
        kind, _, key = topic.partition(":")
        if kind == "episode" and (episode := self.episodes.get(EpisodeId(key))) is not None:
            self.episodes[episode.id] = attrs.evolve(episode, log_offset=offset)

    def offset(self, topic: Topic) -> Offset:
        """
        The latest offset of a topic's log.
        """
        return Offset(len(self._topics.get(topic, ())))

    def of_topic(self, topic: Topic) -> list[Event]:
        """
        A topic's log; the event of an offset stands one before it.
        """
        return self._topics.get(topic, [])

    @property
    def end(self) -> LogPlace:
        """
        The place behind everything.
        """
        return LogPlace(self._xid, _LAST)

    def replayed(self, user: UserId, key: str) -> Replay | None:
        """
        What was answered to a key.
        """
        return self._keys.get((user, key))

    def keep_key(self, user: UserId, idempotency: Idempotency, response: dict[str, Any]) -> None:
        """
        Remember what is answered to a key.
        """
        self._keys[user, idempotency.key] = Replay(fingerprint=idempotency.fingerprint, response=response)


@attrs.define(eq=False)
class MemoryLog:
    """
    The event log, as `EventLog`. Nothing is committed late here, so everything that is there may be read.
    """

    tables: MemoryTables
    # Seconds that the log is kept for a plugin that no node runs; nothing is cut here.
    patience: float = 0.0

    async def epoch(self) -> Epoch:
        await self.tables.reach()
        return self.tables.epoch

    async def end(self) -> LogPlace:
        await self.tables.reach()
        return self.tables.end

    async def after(
        self, place: LogPlace, limit: int, told: Mapping[LogPlace, Event] | None = None
    ) -> list[Event]:
        await self.tables.reach()
        return self._behind(place)[:limit]

    async def after_public(self, place: LogPlace, until: LogPlace, limit: int) -> list[Event]:
        await self.tables.reach()
        found = [
            event for event in self._behind(place) if event.place <= until and not is_private(event.topic)
        ]
        return found[:limit]

    async def newest_public(self, until: LogPlace, limit: int) -> list[Event]:
        await self.tables.reach()
        return [one for one in self.tables.events if one.place <= until and not is_private(one.topic)][
            -limit:
        ]

    async def cut(self) -> LogPlace:
        await self.tables.reach()
        return self.tables.cut

    async def cut_by_age(self, age: float, limit: int) -> int:
        """
        Nothing is cut: a simulation is short.
        """
        await self.tables.reach()
        return 0

    async def cut_by_count(self, topic: Topic, keep: int, limit: int) -> int:
        """
        Nothing is cut.
        """
        await self.tables.reach()
        return 0

    async def user_offset(self, user: UserId) -> Offset:
        await self.tables.reach()
        return self.tables.offset(user_topic(user))

    async def topic_offset(self, topic: Topic) -> Offset:
        await self.tables.reach()
        return self.tables.offset(topic)

    async def since(self, topic: Topic, offset: Offset, limit: int) -> list[Event]:
        await self.tables.reach()
        return self.tables.of_topic(topic)[offset : offset + limit]

    def _behind(self, place: LogPlace) -> list[Event]:
        """
        What is committed behind a place; places grow, so the newest are looked at first.
        """
        events = self.tables.events
        first = len(events)
        while first and events[first - 1].place > place:
            first -= 1
        return events[first:]


@attrs.define(eq=False)
class MemoryEpisodes:
    """
    Episodes, as `Episodes`.
    """

    tables: MemoryTables

    async def get(self, episode_id: EpisodeId) -> Episode | None:
        await self.tables.reach()
        return self.tables.episodes.get(episode_id)

    async def log_offset(self, episode_id: EpisodeId) -> Offset | None:
        await self.tables.reach()
        return self.tables.offset(episode_topic(episode_id)) or None

    async def create(
        self, change: EpisodeChange, author: Author, idempotency: Idempotency | None = None
    ) -> Event | Replay:
        await self.tables.reach()
        if idempotency and (known := self.tables.replayed(author.user, idempotency.key)) is not None:
            return known
        if idempotency:
            self.tables.keep_key(author.user, idempotency, dict(change.episode.to_json()))
        self.tables.episodes[change.episode.id] = change.episode
        return self._commit(change.episode.id, change.event, author)

    async def update(self, change: EpisodeChange, author: Author) -> Event | None:
        await self.tables.reach()
        current = self.tables.episodes.get(change.episode.id)
        if current is None or current.version != change.episode.version - 1:
            return None
        self.tables.episodes[current.id] = change.episode
        return self._commit(current.id, change.event, author)

    async def delete(self, episode: Episode, event: EventDraft, author: Author) -> Event | None:
        await self.tables.reach()
        current = self.tables.episodes.get(episode.id)
        if current is None or current.version != episode.version:
            return None
        del self.tables.episodes[episode.id]
        return self._commit(episode.id, event, author)

    def _commit(self, id: EpisodeId, draft: EventDraft, author: Author) -> Event:
        [event] = self.tables.append([(episode_topic(id), draft, author)])
        self.tables.written()
        return event


@attrs.define(eq=False)
class MemoryCompositions:
    """
    Compositions, as `Compositions`.
    """

    tables: MemoryTables

    async def get(self, episode_id: EpisodeId, composition_id: CompositionId) -> Composition | None:
        await self.tables.reach()
        found = self.tables.compositions.get(composition_id)
        return found if found is not None and found.episode_id == episode_id else None

    async def list(self, episode_id: EpisodeId, limit: int) -> list[Composition]:
        await self.tables.reach()
        return [one for one in self.tables.compositions.values() if one.episode_id == episode_id][:limit]

    async def create(self, change: CompositionChange, author: Author) -> Event | None:
        return await self._write(change.composition, 0, change.event, author)

    async def update(self, change: CompositionChange, author: Author) -> Event | None:
        return await self._write(change.composition, change.composition.version - 1, change.event, author)

    async def delete(self, composition: Composition, event: EventDraft, author: Author) -> Event | None:
        written = await self._write(composition, composition.version, event, author)
        if written is not None:
            del self.tables.compositions[composition.id]
        return written

    async def _write(
        self, composition: Composition, expected: int, draft: EventDraft, author: Author
    ) -> Event | None:
        await self.tables.reach()
        episode = self.tables.episodes.get(composition.episode_id)
        current = self.tables.compositions.get(composition.id)
        if episode is None or (0 if current is None else current.version) != expected:
            return None
        self.tables.compositions[composition.id] = composition
        [event] = self.tables.append([(episode_topic(episode.id), draft, author)])
        self.tables.written()
        return event


@attrs.define(eq=False)
class MemoryEpisodeList:
    """
    The list of episodes, as `EpisodeList`; always the newest first, which is what snapshots show.
    """

    tables: MemoryTables

    async def page(self, query: ListQuery) -> Page:
        await self.tables.reach()
        newest = sorted(self.tables.episodes.values(), key=lambda one: (one.created_at, one.id), reverse=True)
        return Page(episodes=newest[: query.limit], total=len(newest), next_after=None)


@attrs.define(eq=False)
class MemoryRecords:
    """
    Records, as `Records`: none, because those who write them do it in SQL.
    """

    tables: MemoryTables

    async def notifications(
        self, user: UserId, *, limit: int, before: int | None = None, unread: bool = False
    ) -> tuple[RecordPage[Any], int]:
        await self.tables.reach()
        return RecordPage([], None), 0


@attrs.define(eq=False)
class MemoryPresence:
    """
    The table of viewers, as `PresenceRows`.
    """

    tables: MemoryTables
    rows: dict[tuple[EpisodeId, UserId], Any] = attrs.field(factory=dict)

    async def begin(self) -> None:
        await self.tables.reach()
        self.rows.clear()

    async def heartbeat(self, silence: float) -> None:
        await self.tables.reach()

    async def write(self, viewers: Mapping[tuple[EpisodeId, UserId], Any]) -> None:
        await self.tables.reach()
        for key, viewer in viewers.items():
            if viewer is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = viewer
        self.tables.written()
