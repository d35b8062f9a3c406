"""Episodes as they are stored: each change is one statement, the row and its event, both or neither."""

from typing import Any

import attrs
from psycopg import errors
from psycopg.types.json import Jsonb

from engine.domain.episode import Episode, EpisodeChange
from engine.domain.event import EpisodeId, Epoch, Event, EventDraft, Offset, UserId, episode_topic
from engine.store.events import Author, PendingEvent
from engine.store.postgres import Database, Row
from engine.store.queries import queries

_SQL = queries("episodes")


@attrs.frozen(kw_only=True)
class Idempotency:
    """
    A client's key for one creation, and the fingerprint of what it asked for.
    """

    key: str
    fingerprint: str


@attrs.frozen(kw_only=True)
class Replay:
    """
    What was answered to an earlier request with the same key.
    """

    fingerprint: str
    response: dict[str, Any]


@attrs.define(eq=False, kw_only=True)
class Episodes:
    """
    Read and write episodes. A write answers its event; None means that somebody else was faster.
    """

    database: Database
    epoch: Epoch

    async def get(self, episode_id: EpisodeId) -> Episode | None:
        """
        The episode as it stands; None when it does not exist or was deleted.
        """
        row = await self.database.fetch_one(_SQL["get"], {"id": episode_id})
        return None if row is None else episode_of_row(row)

    async def log_offset(self, episode_id: EpisodeId) -> Offset | None:
        """
        The latest offset of the episode's log, of a deleted one too; None when there never was one.
        """
        row = await self.database.fetch_one(_SQL["log_offset"], {"id": episode_id})
        return None if row is None else Offset(row[0])

    async def create(
        self, change: EpisodeChange, author: Author, idempotency: Idempotency | None = None
    ) -> Event | Replay:
        """
        Commit a new episode, or answer what the same key has already done.
        """
        episode = change.episode
        pending = PendingEvent.of(episode_topic(episode.id), change.event, author, self.epoch)
        params = {
            **pending.params(),
            **_columns(episode),
            "at": episode.created_at,
            "key": idempotency and idempotency.key,
            "fingerprint": idempotency and idempotency.fingerprint,
            "response": Jsonb(change.event.data["episode"]) if idempotency else None,
        }
        try:
            row = await self.database.fetch_one(_SQL["create"], params)
        except errors.UniqueViolation as error:
            if idempotency is None or error.diag.constraint_name != "idempotency_keys_pkey":
                raise
            return await self._replay(author.user, idempotency.key)
        assert row is not None
        return pending.committed(row, params)

    async def update(self, change: EpisodeChange, author: Author) -> Event | None:
        """
        Commit a change if the episode is still at the version that the change was decided on.
        """
        return await self._write("update", change.episode, change.episode.version - 1, change.event, author)

    async def delete(self, episode: Episode, event: EventDraft, author: Author) -> Event | None:
        """
        Delete the episode if it is still as given; its log stays.
        """
        return await self._write("delete", episode, episode.version, event, author)

    async def _write(
        self, name: str, episode: Episode, version: int, draft: EventDraft, author: Author
    ) -> Event | None:
        pending = PendingEvent.of(episode_topic(episode.id), draft, author, self.epoch)
        params = {**_columns(episode), **pending.params(), "version": version}
        if name == "update":
            params["at"] = episode.updated_at
        row = await self.database.fetch_one(_SQL[name], params)
        return None if row is None else pending.committed(row, params)

    async def _replay(self, user: UserId, key: str) -> Replay:
        row = await self.database.fetch_one(_SQL["replay"], {"user": user, "key": key})
        assert row is not None, "a key that was in the way is there"
        return Replay(fingerprint=row[0], response=row[1])


def _columns(episode: Episode) -> dict[str, Any]:
    return {
        "id": episode.id,
        "title": episode.title,
        "episode_number": episode.episode_number,
        "description": episode.description,
        "status": episode.status,
        "categories": list(episode.categories),
        "version": episode.version,
        "log_offset": episode.log_offset,
    }


def episode_of_row(row: Row) -> Episode:
    (episode_id, title, number, description, status, categories, version, created_by, created_at) = row[:9]
    updated_at, log_offset = row[9:]
    return Episode(
        id=EpisodeId(episode_id),
        title=title,
        episode_number=number,
        description=description,
        status=status,
        categories=tuple(categories),
        version=version,
        created_by=UserId(created_by),
        created_at=created_at,
        updated_at=updated_at,
        log_offset=Offset(log_offset),
    )
