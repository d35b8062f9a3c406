"""What became of a write: the events of one request, and what each plugin has made of them."""

import attrs

from engine.domain.event import Event
from engine.store.events import event_of_row
from engine.store.postgres import Database
from engine.store.queries import queries

_SQL = queries("mutations")


@attrs.frozen(kw_only=True)
class Outcome:
    """
    What one plugin has made of one event; `failures` counts the attempts that are remembered.
    """

    plugin: str
    handled: bool
    quarantined: bool
    failures: int
    last_error: str | None


@attrs.define(eq=False, kw_only=True)
class Mutations:
    """
    Read by mutation id: the request's id, which its client may have chosen.
    """

    database: Database

    async def events(self, mutation: str, limit: int) -> list[Event]:
        """
        The events that were committed under the id and are still in the log, oldest first.
        """
        rows = await self.database.fetch(_SQL["events"], {"id": mutation, "limit": limit})
        return [event_of_row(row) for row in rows]

    async def outcomes(self, event: Event) -> list[Outcome]:
        """
        What every plugin that has a cursor has made of the event.
        """
        params = {"xid": event.place.xid, "seq": event.place.seq, "event": event.id}
        return [
            Outcome(plugin=row[0], handled=row[1], quarantined=row[2], failures=row[3], last_error=row[4])
            for row in await self.database.fetch(_SQL["effects"], params)
        ]
