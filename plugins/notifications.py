"""The notification inbox: tells people what came of what they did."""

from collections.abc import Sequence

from engine.domain.event import Event
from engine.domain.record import notification_of
from engine.hookspecs import Context, hookimpl

INSERT = """
insert into notifications (id, user_id, type, title, message, resource_type, resource_id, created_at)
values (%s, %s, %s, %s, %s, %s, %s, %s)
"""


@hookimpl
async def on_events(context: Context, events: Sequence[Event]) -> None:
    """
    Write one notification for each event that somebody is to be told of, exactly once, and tell them.
    """
    records = [record for event in events if (record := notification_of(event)) is not None]
    if not records:
        return
    async with context.transaction() as transaction:
        await transaction.execute_many(
            INSERT,
            [
                (
                    record.id,
                    record.user,
                    record.type,
                    record.title,
                    record.message,
                    record.resource_type,
                    record.resource_id,
                    record.at,
                )
                for record in records
            ],
        )
        for record in records:
            await transaction.tell_user(
                record.user, "notification_created", {"notification": record.to_json()}
            )
