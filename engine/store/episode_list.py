"""The list of episodes: filter, sort and page by keyset, so that a page is right however much has changed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import attrs

from engine.domain.episode import Episode
from engine.store.episodes import episode_of_row
from engine.store.postgres import Database

COLUMNS: LiteralString = (
    "id::text, title, episode_number, description, status, categories, version, created_by, "
    "created_at, updated_at, log_offset"
)
# What sorts as missing numbers do: last.
NO_NUMBER = 2_147_483_647


@attrs.frozen
class Sort:
    """
    A way to sort: the expression, and the value of it that a page's last episode has.
    """

    expression: LiteralString
    cast: LiteralString

    def value(self, episode: Episode) -> str:
        """
        The sort key of an episode, as text for a cursor.
        """
        match self.expression:
            case "created_at":
                return episode.created_at.astimezone(UTC).isoformat()
            case "updated_at":
                return episode.updated_at.astimezone(UTC).isoformat()
            case "title":
                return episode.title
            case _:
                return str(NO_NUMBER if episode.episode_number is None else episode.episode_number)


SORTS: Mapping[str, Sort] = {
    "created_at": Sort("created_at", "timestamptz"),
    "updated_at": Sort("updated_at", "timestamptz"),
    "title": Sort("title", "text"),
    "episode_number": Sort("coalesce(episode_number, 2147483647)", "int"),
}


@attrs.frozen(kw_only=True)
class ListQuery:
    """
    What to list: filters, the sort's name, its direction, the page's size, and the (key, id) to go on after.
    """

    status: str | None = None
    category: str | None = None
    text: str | None = None
    sort: str = "created_at"
    descending: bool = True
    limit: int = 50
    after: tuple[str, str] | None = None


@attrs.frozen(kw_only=True)
class Page:
    """
    One page, how many there are in all, and the (key, id) that the next page goes on after, if there is one.
    """

    episodes: list[Episode]
    total: int
    next_after: tuple[str, str] | None


@attrs.define(eq=False, kw_only=True)
class EpisodeList:
    """
    Read the list of episodes.
    """

    database: Database

    async def page(self, query: ListQuery) -> Page:
        """
        One page of the list. Both statements run on one connection, in one trip.
        """
        sort = SORTS[query.sort]
        where, params = _where(query)
        direction: LiteralString = "desc" if query.descending else "asc"
        than: LiteralString = "<" if query.descending else ">"
        page_where = where
        if query.after is not None:
            page_where = (
                f"{where} and ({sort.expression}, id) {than} (%(key)s::{sort.cast}, %(after_id)s::uuid)"
            )
            params["key"], params["after_id"] = query.after
        # Only literals are put together here, as the types say; values are parameters.
        order: LiteralString = f"order by {sort.expression} {direction}, id {direction} limit %(limit)s"
        statement: LiteralString = f"select {COLUMNS} from episodes where {page_where} {order}"  # noqa: S608
        params["limit"] = query.limit + 1
        async with self.database.connection() as connection, connection.pipeline():
            rows = await connection.execute(statement, params)
            count = await connection.execute(f"select count(*) from episodes where {where}", params)  # noqa: S608
            episodes = [episode_of_row(row) for row in await rows.fetchall()]
            total = await count.fetchone()
        more = len(episodes) > query.limit
        episodes = episodes[: query.limit]
        return Page(
            episodes=episodes,
            total=total[0] if total else 0,
            next_after=(sort.value(episodes[-1]), episodes[-1].id) if more else None,
        )


def _where(query: ListQuery) -> tuple[LiteralString, dict[str, Any]]:
    where: LiteralString = "deleted_at is null"
    params: dict[str, Any] = {}
    if query.status is not None:
        where += " and status = %(status)s"
        params["status"] = query.status
    if query.category is not None:
        where += " and categories @> array[%(category)s::text]"
        params["category"] = query.category
    if query.text is not None:
        where += r" and (title ilike %(text)s or description ilike %(text)s)"
        params["text"] = "%" + query.text.translate({92: r"\\", 37: r"\%", 95: r"\_"}) + "%"
    return where, params


def parse_key(sort: str, key: str) -> bool:
    """
    Whether a cursor's key is one that this sort can have written: no other may reach the database.
    """
    try:
        match SORTS[sort].cast:
            case "timestamptz":
                at = datetime.fromisoformat(key)
                return at.utcoffset() == timedelta(0) and at.isoformat() == key
            case "int":
                number = int(key)
                return 0 <= number <= NO_NUMBER and str(number) == key
            case _:
                return "\x00" not in key
    except ValueError:
        return False
