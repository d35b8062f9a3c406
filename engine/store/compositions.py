"""Compositions as they are stored: each change is one statement, in the log of the episode they belong to."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from psycopg.types.json import Jsonb

from engine.domain.composition import Composition, CompositionChange, CompositionId
from engine.domain.event import EpisodeId, Epoch, Event, EventDraft, UserId, episode_topic
from engine.store.events import Author, PendingEvent
from engine.store.postgres import Database, Row
from engine.store.queries import queries

_SQL = queries("compositions")


@attrs.frozen(kw_only=True)
class CompositionImage:
    """
    A drawn composition: the version that was drawn, and the picture, which is None for whoever has it.
    """

    version: int
    digest: str
    png: bytes | None


@attrs.define(eq=False, kw_only=True)
class Compositions:
    """
    Read and write compositions. A write answers its event; None means that somebody else was faster.
    """

    database: Database
    epoch: Epoch

    async def get(self, episode_id: EpisodeId, composition_id: CompositionId) -> Composition | None:
        """
        One composition of the episode, or None.
        """
        row = await self.database.fetch_one(_SQL["get"], {"id": composition_id, "episode_id": episode_id})
        return None if row is None else _composition(row)

    async def list(self, episode_id: EpisodeId, limit: int) -> list[Composition]:
        """
        The episode's compositions, oldest first.
        """
        rows = await self.database.fetch(_SQL["list"], {"episode_id": episode_id, "limit": limit})
        return [_composition(row) for row in rows]

    async def rendered(self, episode_id: EpisodeId) -> Mapping[CompositionId, int]:
        """
        Of the episode's compositions that were drawn, the version that was.
        """
        rows = await self.database.fetch(_SQL["rendered"], {"episode_id": episode_id})
        return {CompositionId(composition_id): version for composition_id, version in rows}

    async def image(
        self, composition_id: CompositionId, known: Sequence[str] = ()
    ) -> CompositionImage | None:
        """
        The composition as it was last drawn; None when it never was.

        Without the picture, if its digest is among the `known` ones.
        """
        params = {"id": composition_id, "known": list(known)}
        async with self.database.connection() as connection:
            # In binary, or the picture would be sent as twice as much text.
            cursor = await connection.cursor().execute(_SQL["image"], params, binary=True)
            row = await cursor.fetchone()
        return None if row is None else CompositionImage(version=row[0], digest=row[1], png=row[2])

    async def create(self, change: CompositionChange, author: Author) -> Event | None:
        """
        Commit a new composition; None when its episode is gone.
        """
        return await self._write("create", change.composition, 1, change.event, author)

    async def update(self, change: CompositionChange, author: Author) -> Event | None:
        """
        Commit a change if the composition is still at the version that the change was decided on.
        """
        version = change.composition.version - 1
        return await self._write("update", change.composition, version, change.event, author)

    async def delete(self, composition: Composition, event: EventDraft, author: Author) -> Event | None:
        """
        Delete the composition if it is still as given.
        """
        return await self._write("delete", composition, composition.version, event, author)

    async def _write(
        self, name: str, composition: Composition, version: int, draft: EventDraft, author: Author
    ) -> Event | None:
        pending = PendingEvent.of(episode_topic(composition.episode_id), draft, author, self.epoch)
        params: dict[str, Any] = {
            **pending.params(),
            "id": composition.id,
            "episode_id": composition.episode_id,
            "name": composition.name,
            "layers": Jsonb(list(composition.layers)),
            "status": composition.status,
            "version": version,
        }
        if name != "delete":
            params["at"] = composition.updated_at
        row = await self.database.fetch_one(_SQL[name], params)
        return None if row is None else pending.committed(row, params)


def _composition(row: Row) -> Composition:
    composition_id, episode_id, name, layers, status, version, created_by, created_at, updated_at = row
    return Composition(
        id=CompositionId(composition_id),
        episode_id=EpisodeId(episode_id),
        name=name,
        layers=tuple(layers),
        status=status,
        version=version,
        created_by=UserId(created_by),
        created_at=created_at,
        updated_at=updated_at,
    )
