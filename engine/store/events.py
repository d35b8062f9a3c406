"""The event log as it is stored: read by topic or in commit order, written with the row it is about."""

from collections.abc import Mapping
from typing import Any

import attrs
from psycopg.types.json import Jsonb

from engine.domain.event import (
    Epoch,
    Event,
    EventDraft,
    EventId,
    LogPlace,
    Offset,
    Request,
    Topic,
    UserId,
    utc_now,
)
from engine.domain.world import new_id
from engine.store.postgres import Database, Row
from engine.store.queries import queries

_SQL = queries("events")
# Beyond any `seq`: the place after the last event of a transaction.
_LAST = 2**63 - 1
# Seconds that a plugin's cursor counts after a node has run the plugin last.
PATIENCE = 30 * 86400.0


@attrs.frozen(kw_only=True)
class Author:
    """
    Who causes an event, and from where.
    """

    user: UserId
    request: Request


@attrs.define(eq=False, kw_only=True)
class EventLog:
    """
    Read committed events: one topic's in offset order, or all in commit order. Cut them, when they are old.
    """

    database: Database
    # Seconds that is kept what a plugin has still to handle, after a node has run it last.
    patience: float = PATIENCE

    async def epoch(self) -> Epoch:
        """
        The lifetime of the order that all logs of this database are in.
        """
        row = await self.database.fetch_one(_SQL["epoch"], {})
        assert row is not None, "the first migration writes it"
        return Epoch(row[0])

    async def end(self) -> LogPlace:
        """
        The place that everything committed so far is at or before, and nothing that can still commit is.
        """
        row = await self.database.fetch_one(_SQL["end"], {})
        assert row is not None
        return LogPlace(row[0], _LAST)

    async def after(
        self, place: LogPlace, limit: int, told: Mapping[LogPlace, Event] | None = None
    ) -> list[Event]:
        """
        The next events in commit order, as far as nothing older can still commit.

        Those that were `told` by who has committed them are not fetched once more.
        """
        params = {"xid": place.xid, "seq": place.seq, "limit": limit}
        if not told:
            return [event_of_row(row) for row in await self.database.fetch(_SQL["after"], params)]
        places = [LogPlace(*row) for row in await self.database.fetch(_SQL["places"], params)]
        known = {place: told[place] for place in places if place in told}
        if len(known) < len(places):
            seqs = [place.seq for place in places if place not in known]
            events = [event_of_row(row) for row in await self.database.fetch(_SQL["at"], {"seqs": seqs})]
            known |= {event.place: event for event in events}
        # What retention has cut in between is not there any more.
        return [known[place] for place in places if place in known]

    async def after_public(self, place: LogPlace, until: LogPlace, limit: int) -> list[Event]:
        """
        The next events that are not one person's, in commit order, up to a place that the feed has reached.
        """
        params = {"xid": place.xid, "seq": place.seq, "limit": limit}
        params |= {"until_xid": until.xid, "until_seq": until.seq}
        return [event_of_row(row) for row in await self.database.fetch(_SQL["after_public"], params)]

    async def newest_public(self, until: LogPlace, limit: int) -> list[Event]:
        """
        The latest events that are not one person's, up to a place that the feed has reached, in commit order.
        """
        params = {"xid": until.xid, "seq": until.seq, "limit": limit}
        rows = await self.database.fetch(_SQL["newest_public"], params)
        return [event_of_row(row) for row in reversed(rows)]

    async def cut(self) -> LogPlace:
        """
        The latest place of what retention has cut.
        """
        row = await self.database.fetch_one(_SQL["cut"], {})
        assert row is not None, "the first migration writes it"
        xid, _, seq = row[0].partition("-")
        return LogPlace(int(xid), int(seq))

    async def cut_by_age(self, age: float, limit: int) -> int:
        """
        Delete the oldest events that are older than `age` seconds and that every plugin has handled, but for
        those that no node has run for long.

        Looks at `limit` events at most; answers how many were deleted.
        """
        row = await self.database.fetch_one(
            _SQL["cut_by_age"], {"age": age, "limit": limit, "patience": self.patience}
        )
        return int(row[0]) if row else 0

    async def cut_by_count(self, topic: Topic, keep: int, limit: int) -> int:
        """
        Delete a topic's events beyond the newest `keep`, `limit` of them at most; answers how many.
        """
        params = {"topic": topic, "keep": keep, "limit": limit, "patience": self.patience}
        row = await self.database.fetch_one(_SQL["cut_by_count"], params)
        return int(row[0]) if row else 0

    async def user_offset(self, user: UserId) -> Offset:
        """
        The latest offset of the log of what one person is told; 0 when nothing ever was.
        """
        row = await self.database.fetch_one(_SQL["user_offset"], {"user": user})
        return Offset(0 if row is None else row[0])

    async def topic_offset(self, topic: Topic) -> Offset:
        """
        The latest offset of the log of a topic that is no episode and no person.
        """
        row = await self.database.fetch_one(_SQL["topic_offset"], {"topic": topic})
        assert row is not None, "a migration writes it"
        return Offset(row[0])

    async def since(self, topic: Topic, offset: Offset, limit: int) -> list[Event]:
        """
        The next events of one topic, in offset order.
        """
        params = {"topic": topic, "offset": offset, "limit": limit}
        return [event_of_row(row) for row in await self.database.fetch(_SQL["since"], params)]


@attrs.frozen(kw_only=True)
class PendingEvent:
    """
    An event on its way into the log: the parameters of its row, and the event once the row is there.
    """

    id: EventId
    topic: Topic
    epoch: Epoch
    draft: EventDraft
    author: Author

    @classmethod
    def of(cls, topic: Topic, draft: EventDraft, author: Author, epoch: Epoch) -> "PendingEvent":
        """
        A new event of the topic.
        """
        return cls(id=EventId(new_id()), topic=topic, epoch=epoch, draft=draft, author=author)

    def params(self) -> dict[str, Any]:
        """
        The parameters that every writing statement shares.
        """
        request = attrs.asdict(self.author.request, filter=lambda _, value: value is not None)
        return {
            "event_id": self.id,
            "topic": self.topic,
            "epoch": self.epoch,
            "type": self.draft.type,
            "data": Jsonb(self.draft.data),
            "user": self.author.user,
            "request": Jsonb(request),
            "at": utc_now(),
        }

    def committed(self, row: Row, params: Mapping[str, Any]) -> Event:
        """
        The event that the statement has answered with `xid, seq, topic_offset`.
        """
        xid, seq, offset = row
        return Event(
            place=LogPlace(xid, seq),
            id=self.id,
            topic=self.topic,
            offset=Offset(offset),
            epoch=self.epoch,
            type=self.draft.type,
            data=self.draft.data,
            user=self.author.user,
            request=self.author.request,
            at=params["at"],
        )


def event_of_row(row: Row) -> Event:
    """
    An event from all its columns, in the order of events.sql.
    """
    xid, seq, event_id, topic, offset, epoch, kind, data, user, request, at = row
    return Event(
        place=LogPlace(xid, seq),
        id=EventId(event_id),
        topic=Topic(topic),
        offset=Offset(offset),
        epoch=Epoch(epoch),
        type=kind,
        data=data,
        user=UserId(user),
        request=Request(**request),
        at=at,
    )
