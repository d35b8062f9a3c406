"""Activity, notifications and audit as they are read. They are written by the plugins of the same names."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

from engine.domain.event import EpisodeId, UserId, utc_now
from engine.domain.record import Activity, AuditRecord, Notification
from engine.store.postgres import Database, Row
from engine.store.queries import queries

_SQL = queries("records")
T = TypeVar("T")


@attrs.frozen
class RecordPage(Generic[T]):
    """
    Records, newest first, and the number to ask for what is older; None when there is nothing older.
    """

    records: Sequence[T]
    next_before: int | None


@attrs.define(eq=False, kw_only=True)
class Records:
    """
    Read what happened; mark notifications as read.
    """

    database: Database

    async def activity(
        self, *, limit: int, before: int | None = None, episode: EpisodeId | None = None
    ) -> RecordPage[Activity]:
        """
        What happened, of one episode or of all.
        """
        params = {"episode_id": episode, "before": before, "limit": limit + 1}
        rows = await self.database.fetch(_SQL["activity"], params)
        return _page(rows, limit, [_activity(row) for row in rows[:limit]])

    async def audit(self, *, limit: int, before: int | None = None) -> RecordPage[AuditRecord]:
        """
        What happened, as operators see it.
        """
        rows = await self.database.fetch(_SQL["audit"], {"before": before, "limit": limit + 1})
        return _page(rows, limit, [_audit(row) for row in rows[:limit]])

    async def notifications(
        self, user: UserId, *, limit: int, before: int | None = None, unread: bool = False
    ) -> tuple[RecordPage[Notification], int]:
        """
        One person's inbox, and how many of it are unread in all.
        """
        params = {"user": user, "before": before, "limit": limit + 1, "unread": unread}
        async with self.database.connection() as connection, connection.pipeline():
            found = await connection.execute(_SQL["notifications"], params)
            counted = await connection.execute(_SQL["unread"], params)
            rows, count = await found.fetchall(), await counted.fetchone()
        page = _page(rows, limit, [_notification(row) for row in rows[:limit]])
        return page, count[0] if count else 0

    async def read_notification(self, user: UserId, notification_id: str) -> Notification | None:
        """
        Mark one as read; None when this person has no such notification.
        """
        params = {"user": user, "id": notification_id, "at": utc_now()}
        row = await self.database.fetch_one(_SQL["read_one"], params)
        return None if row is None else _notification(row)

    async def read_notifications(self, user: UserId) -> int:
        """
        Mark all of one person's as read; answers how many were not.
        """
        return await self.database.execute(_SQL["read_all"], {"user": user, "at": utc_now()})


def _page(rows: Sequence[Row], limit: int, records: Sequence[T]) -> RecordPage[T]:
    return RecordPage(records, rows[limit - 1][0] if len(rows) > limit else None)


def _activity(row: Row) -> Activity:
    _, record_id, user, action, kind, resource_id, episode_id, metadata, at, ip, agent = row
    return Activity(
        id=record_id,
        user=UserId(user),
        action=action,
        resource_type=kind,
        resource_id=resource_id,
        episode_id=episode_id,
        metadata=metadata,
        at=at,
        ip_address=ip,
        user_agent=agent,
    )


def _audit(row: Row) -> AuditRecord:
    _, record_id, user, action, kind, resource_id, old, new, event_id, mutation_id, ip, agent, at = row
    return AuditRecord(
        id=record_id,
        user=UserId(user),
        action=action,
        resource_type=kind,
        resource_id=resource_id,
        old_values=old,
        new_values=new,
        event_id=event_id,
        mutation_id=mutation_id,
        ip_address=ip,
        user_agent=agent,
        at=at,
    )


def _notification(row: Row) -> Notification:
    _, record_id, user, kind, title, message, resource_type, resource_id, read_at, at = row
    return Notification(
        id=record_id,
        user=UserId(user),
        type=kind,
        title=title,
        message=message,
        resource_type=resource_type,
        resource_id=resource_id,
        read_at=read_at,
        at=at,
    )
