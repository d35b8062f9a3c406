"""Many new episodes in a transaction that somebody else commits: rows and events in one statement."""

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from engine.domain.episode import EpisodeChange
from engine.domain.event import Epoch, Event, episode_topic
from engine.store.events import Author, PendingEvent
from engine.store.queries import queries
from engine.store.trio_psycopg import TrioConnection

_SQL = queries("episodes")
# Episodes that one statement creates at most: it holds all their texts twice.
BATCH = 200


async def create_episodes(
    connection: TrioConnection, changes: Sequence[EpisodeChange], author: Author, epoch: Epoch
) -> list[Event]:
    """
    Write the episodes, each with the event and the log that it would have by itself.

    Answers the events in the order given, which is their order in the log, too. They are committed when the
    connection's transaction is.
    """
    events: list[Event] = []
    for first in range(0, len(changes), BATCH):
        events += await _create(connection, changes[first : first + BATCH], author, epoch)
    return events


async def _create(
    connection: TrioConnection, changes: Sequence[EpisodeChange], author: Author, epoch: Epoch
) -> list[Event]:
    pending = [
        PendingEvent.of(episode_topic(change.episode.id), change.event, author, epoch) for change in changes
    ]
    params = pending[0].params()
    params["episodes"] = Jsonb([_row(one, change) for one, change in zip(pending, changes, strict=True)])
    rows = await (await connection.execute(_SQL["create_many"], params)).fetchall()
    return [
        one.committed(row, {"at": change.episode.created_at})
        for one, change, row in zip(pending, changes, rows, strict=True)
    ]


def _row(pending: PendingEvent, change: EpisodeChange) -> dict[str, Any]:
    episode = change.episode
    return {
        "id": episode.id,
        "title": episode.title,
        "episode_number": episode.episode_number,
        "description": episode.description,
        "status": episode.status,
        "categories": list(episode.categories),
        "version": episode.version,
        "log_offset": episode.log_offset,
        "at": episode.created_at.isoformat(),
        "event_id": pending.id,
        "type": pending.draft.type,
        "data": pending.draft.data,
    }
