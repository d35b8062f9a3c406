"""The table socket_rooms: where returning Socket.IO clients were present, so that they are again."""

from collections.abc import Mapping
from typing import Any

import attrs
from psycopg.types.json import Jsonb

from engine.domain.event import UserId
from engine.store.postgres import Database
from engine.store.queries import queries

_SQL = queries("socket_rooms")


@attrs.frozen(kw_only=True)
class Kept:
    """
    What is known of a client that returns; no rooms mean that it has left for good.
    """

    rooms: Mapping[str, Mapping[str, Any]] | None


@attrs.define(eq=False, kw_only=True)
class SocketRooms:
    """
    Keep the rooms of clients by the secret that they return with.
    """

    database: Database

    async def keep(self, id: str, user: UserId, rooms: Mapping[str, Mapping[str, Any]] | None) -> None:
        """
        Remember where a client is present: what it was joined with, by episode. Raises StoreUnavailableError.
        """
        given = None if rooms is None else Jsonb(rooms)
        await self.database.execute(_SQL["keep"], {"id": id, "user": user, "rooms": given})

    async def find(self, id: str, user: UserId) -> Kept:
        """
        Where a client was present; nowhere, if nothing was kept. Raises StoreUnavailableError.
        """
        row = await self.database.fetch_one(_SQL["find"], {"id": id, "user": user})
        return Kept(rooms={} if row is None else row[0])

    async def expire(self, age: float) -> None:
        """
        Forget what was kept more than so many seconds ago. Raises StoreUnavailableError.
        """
        await self.database.execute(_SQL["expire"], {"age": age})
