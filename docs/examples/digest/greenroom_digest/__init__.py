"""A daily digest, as a job: counts what happened and tells whoever wants to know, exactly once."""

from collections.abc import Iterable, Mapping
from typing import Any

from engine.hookspecs import Discard, FieldError, JobContext, JobHandler, UserId, hookimpl

MOST_PEOPLE = 500
MOST_HOURS = 24 * 31

COUNTED = """
select resource_type, action, count(*)::int as count
from activity_logs
where created_at > now() - make_interval(hours => %(hours)s)
group by resource_type, action
order by resource_type, action
"""


@hookimpl
def job_handlers() -> Iterable[JobHandler]:
    # One digest at a time: what is submitted while one waits is that one.
    return [JobHandler(type="digest.daily", run=digest, check=check, unique=lambda payload: "digest")]


def check(payload: Mapping[str, Any]) -> Iterable[FieldError]:
    """
    `people`: whom to tell. `hours`: how far to look back, 24 if nothing is said.
    """
    people, hours = payload.get("people"), payload.get("hours", 24)
    if not isinstance(people, list) or not 0 < len(people) <= MOST_PEOPLE:
        yield FieldError("people", f"must be a list of 1 to {MOST_PEOPLE} people's ids")
    elif not all(isinstance(person, str) and person for person in people):
        yield FieldError("people", "must hold ids of people, texts that are not empty")
    if type(hours) is not int or not 0 < hours <= MOST_HOURS:
        yield FieldError("hours", f"must be a whole number from 1 to {MOST_HOURS}")


async def digest(context: JobContext) -> dict[str, Any]:
    """
    Count and tell, in the job's one transaction: everybody is told, and the job is done, or neither.
    """
    payload = context.job.payload
    hours = payload.get("hours", 24)
    async with context.transaction() as transaction:
        rows = await transaction.fetch(COUNTED, {"hours": hours})
        counts = [dict(row) for row in rows]
        if not counts:
            raise Discard(f"nothing has happened in {hours} hours")
        for person in payload["people"]:
            await transaction.tell_user(UserId(person), "digest", {"hours": hours, "counts": counts})
    return {"told": len(payload["people"]), "counts": counts}
