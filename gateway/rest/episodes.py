"""Episodes over REST."""

import base64
import uuid
from datetime import timedelta
from typing import Any

import msgspec
from quart import Blueprint
from quart_schema import document_headers, document_querystring, document_request, document_response, tag

from engine.actors.episode import shown_metas
from engine.domain import episode as decide
from engine.domain.access import Action, Identity
from engine.domain.episode import Episode, EpisodeChange
from engine.domain.event import EpisodeId, Event, Offset, episode_topic, utc_now
from engine.domain.fields import Invalid
from engine.domain.presence import page
from engine.hookspecs import Resource
from engine.store.episode_list import SORTS, ListQuery, parse_key
from engine.store.episodes import Replay
from gateway.protocol import event_frame
from gateway.rest import edge, parameters, schemas
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response, request
from gateway.rest.problems import Problem
from gateway.rest.replays import check_same, idempotency, replayed

# An update is decided again when somebody else was faster; more often than this nobody is.
ATTEMPTS = 20


def blueprint(at: Edge) -> Blueprint:
    """
    The routes under /api/v1/episodes.
    """
    routes = Blueprint("episodes", __name__, url_prefix="/api/v1/episodes")
    store, node = at.node.store, at.node

    @routes.get("")
    @tag(["episodes"])
    @document_querystring(parameters.EpisodeQuery)
    @document_response(schemas.EpisodePage, 200)
    async def list_episodes() -> Response:
        """
        List episodes: filter by status, category and text (q), sort, page by cursor.
        """
        await at.enter(Action.READ, Resource(type="episode"))
        query = _list_query()
        page = await store.episode_list.page(query)
        body = {
            "data": [episode.to_json() for episode in page.episodes],
            "total": page.total,
            "next_cursor": None if page.next_after is None else _cursor(query, page.next_after),
        }
        return answer(body)

    @routes.post("")
    @tag(["episodes"])
    @document_headers(parameters.IdempotencyKey)
    @document_request(schemas.EpisodeFields)
    @document_response(schemas.Episode, 201)
    async def create_episode() -> Response:
        """
        Create an episode. With an Idempotency-Key, doing it again answers the same.
        """
        identity = await at.enter(Action.CREATE, Resource(type="episode"))
        fields = edge.checked(decide.parse_new(given := await edge.body()))
        change = decide.create(EpisodeId(str(uuid.uuid4())), fields, user=identity.user, now=utc_now())
        await _validate(identity, None, change)
        done = await store.episodes.create(change, edge.author(identity), key := idempotency(given))
        if isinstance(done, Replay):
            check_same(done, key)
            return replayed(_created(done.response))
        node.feed.committed(done)
        return _created(change.episode.to_json())

    @routes.get("/<id>")
    @tag(["episodes"])
    @document_headers(parameters.IfNoneMatch)
    @document_response(schemas.Episode, 200)
    async def read_episode(id: str) -> Response:
        """
        Read an episode; its ETag is its version.
        """
        key = _key(id)
        await at.enter(Action.READ, _resource(key))
        episode = await _existing(key)
        if edge.has_version(episode.version):
            return edge.no_content(304, {"ETag": edge.etag(episode.version)})
        return _shown(episode)

    @routes.put("/<id>")
    @tag(["episodes"])
    @document_headers(parameters.IfMatch)
    @document_request(schemas.EpisodeFields)
    @document_response(schemas.Episode, 200)
    async def replace_episode(id: str) -> Response:
        """
        Replace an episode's fields; what is left out takes its default.
        """
        return await _change(_key(id), lambda given: decide.parse_new(given), full=True)

    @routes.patch("/<id>")
    @tag(["episodes"])
    @document_headers(parameters.IfMatch)
    @document_request(schemas.EpisodePatch)
    @document_response(schemas.Episode, 200)
    async def change_episode(id: str) -> Response:
        """
        Change some of an episode's fields.
        """
        return await _change(_key(id), lambda given: decide.parse_patch(given), full=False)

    @routes.delete("/<id>")
    @tag(["episodes"])
    @document_headers(parameters.IfMatch)
    async def delete_episode(id: str) -> Response:
        """
        Delete an episode. Its events stay readable.
        """
        key = _key(id)
        identity = await at.enter(Action.DELETE, _resource(key))
        author = edge.author(identity)
        for _ in range(ATTEMPTS):
            current = await _existing(key)
            at.expect("episode", current.version)
            event = await store.episodes.delete(current, decide.delete(current), author)
            if event is not None:
                node.feed.committed(event)
                return edge.no_content()
        raise _busy(key)

    @routes.get("/<id>/presence")
    @tag(["episodes"])
    @document_response(schemas.Viewers, 200)
    async def read_presence(id: str) -> Response:
        """
        Who is present on an episode now, a page at a time, by user id.
        """
        key = _key(id)
        await at.enter(Action.VIEW, _resource(key))
        given = edge.query("limit", "cursor")
        await _existing(key)
        found = page(
            shown_metas(node.hub, episode_topic(key)),
            now=utc_now(),
            active_for=timedelta(seconds=node.settings.presence.active_for),
            marks=node.plugin_tasks.marks.of(key),
            after=given.get("cursor", ""),
            limit=edge.limit_of(given),
        )
        body = {
            "data": [viewer.to_json(key) for viewer in found.viewers],
            "total": found.total,
            "next_cursor": found.next_after,
        }
        return answer(body)

    @routes.get("/<id>/events")
    @tag(["episodes"])
    @document_querystring(parameters.EventQuery)
    @document_response(schemas.EventPage, 200)
    async def read_events(id: str) -> Response:
        """
        An episode's events after the offset `since` (0: all), as frames; of a deleted episode too.
        """
        key = _key(id)
        await at.enter(Action.READ, _resource(key))
        given = edge.query("since", "limit")
        since = edge.number(given, "since", 0, least=0, most=2**62)
        limit = edge.limit_of(given)
        if await store.episodes.log_offset(key) is None:
            raise _missing(key)
        events = await store.log.since(episode_topic(key), Offset(since), limit + 1)
        shown = events[:limit]
        return answer(
            {
                "data": [event_frame(event) for event in shown],
                "position": {"offset": shown[-1].offset if shown else since, "epoch": store.epoch},
                "more": len(events) > limit,
            }
        )

    async def _change(key: EpisodeId, parse: Any, *, full: bool) -> Response:
        identity = await at.enter(Action.UPDATE, _resource(key))
        fields = edge.checked(parse(await edge.body()))
        if full:
            fields = decide.replacement(fields)
        author = edge.author(identity)
        for _ in range(ATTEMPTS):
            current = await _existing(key)
            at.expect("episode", current.version)
            change = decide.update(current, fields, now=utc_now())
            if change is None:
                return _shown(current)
            await _validate(identity, current, change)
            event: Event | None = await store.episodes.update(change, author)
            if event is not None:
                node.feed.committed(event)
                return _shown(change.episode)
        raise _busy(key)

    async def _existing(key: EpisodeId) -> Episode:
        episode = await store.episodes.get(key)
        if episode is None:
            raise _missing(key)
        return episode

    async def _validate(identity: Identity, before: Episode | None, change: EpisodeChange) -> None:
        errors = await node.plugins.validate_episode(
            identity,
            None if before is None else before.to_json(),
            change.episode.to_json(),
            request().plain_headers(),
        )
        if errors:
            raise Problem.invalid(Invalid(errors))

    return routes


def _key(text: str) -> EpisodeId:
    return EpisodeId(edge.path_id(text, "episode"))


def _resource(key: EpisodeId) -> Resource:
    return Resource(type="episode", id=key, episode_id=key)


def _missing(key: EpisodeId) -> Problem:
    return Problem(404, f"there is no episode {key}")


def _busy(key: EpisodeId) -> Problem:
    return Problem(409, f"episode {key} is changed by too many at once; try again")


def _shown(episode: Episode) -> Response:
    return answer(episode.to_json(), headers={"ETag": edge.etag(episode.version)})


def _created(episode: dict[str, Any]) -> Response:
    headers = {"Location": f"/api/v1/episodes/{episode['id']}", "ETag": edge.etag(episode["version"])}
    return answer(episode, 201, headers)


def _list_query() -> ListQuery:
    given = edge.query("status", "category", "q", "sort", "limit", "cursor")
    sort = given.get("sort", "-created_at")
    name = sort.removeprefix("-")
    if name not in SORTS:
        raise Problem(422, f"sort must be one of {', '.join(SORTS)}, with - in front for descending")
    status = given.get("status")
    if status is not None and status not in decide.STATUSES:
        raise Problem(422, f"status must be one of {', '.join(decide.STATUSES)}")
    cursor = given.get("cursor")
    return ListQuery(
        status=status,
        category=given.get("category"),
        text=given.get("q"),
        sort=name,
        descending=sort.startswith("-"),
        limit=edge.limit_of(given),
        after=None if cursor is None else _after(cursor, sort),
    )


def _cursor(query: ListQuery, after: tuple[str, str]) -> str:
    sort = f"-{query.sort}" if query.descending else query.sort
    return base64.urlsafe_b64encode(msgspec.json.encode([sort, *after])).decode().rstrip("=")


def _after(cursor: str, sort: str) -> tuple[str, str]:
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        made_for, key, episode = msgspec.json.decode(data, type=tuple[str, str, uuid.UUID])
    except (ValueError, msgspec.DecodeError):
        raise Problem(422, "cursor must be a next_cursor that this list has given") from None
    if made_for != sort or not parse_key(sort.removeprefix("-"), key):
        raise Problem(422, "cursor was made for another sort; begin without it")
    return key, str(episode)
