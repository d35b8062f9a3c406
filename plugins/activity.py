"""The activity log: what happened to episodes and compositions, for everyone who works on them."""

from collections.abc import Sequence

from engine.domain.event import Event
from engine.domain.record import activity_of
from engine.hookspecs import Context, hookimpl

INSERT = """
insert into activity_logs (id, user_id, action, resource_type, resource_id, episode_id, metadata,
                           ip_address, user_agent, created_at)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


@hookimpl
async def on_events(context: Context, events: Sequence[Event]) -> None:
    """
    Write one record for each change, exactly once.
    """
    records = [record for event in events if (record := activity_of(event)) is not None]
    if not records:
        return
    async with context.transaction() as transaction:
        await transaction.execute_many(
            INSERT,
            [
                (
                    record.id,
                    record.user,
                    record.action,
                    record.resource_type,
                    record.resource_id,
                    record.episode_id,
                    dict(record.metadata),
                    record.ip_address,
                    record.user_agent,
                    record.at,
                )
                for record in records
            ],
        )
