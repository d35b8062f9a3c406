"""The audit trail: every change with its values before and after, immutable, for operators."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.domain.event import Event
from engine.domain.record import audit_of
from engine.hookspecs import Context, hookimpl

INSERT = """
insert into audit_logs (id, user_id, action, resource_type, resource_id, old_values, new_values, event_id,
                        mutation_id, ip_address, user_agent, created_at)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


@hookimpl
async def on_events(context: Context, events: Sequence[Event]) -> None:
    """
    Write one record for each change, exactly once.
    """
    records = [record for event in events if (record := audit_of(event)) is not None]
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
                    _values(record.old_values),
                    _values(record.new_values),
                    record.event_id,
                    record.mutation_id,
                    record.ip_address,
                    record.user_agent,
                    record.at,
                )
                for record in records
            ],
        )


def _values(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else dict(values)
