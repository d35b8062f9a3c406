"""An episode's compositions over REST."""

import re
import uuid

from quart import Blueprint
from quart_schema import document_headers, document_request, document_response, tag

from engine.domain import composition as decide
from engine.domain.access import Action, Identity
from engine.domain.composition import Composition, CompositionId
from engine.domain.episode import Episode
from engine.domain.event import EpisodeId, utc_now
from engine.hookspecs import Resource
from gateway.rest import edge, parameters, schemas
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response, request
from gateway.rest.problems import Problem

ATTEMPTS = 20
MAX_COMPOSITIONS = 1000
# The entity tag of a picture: the version that was drawn, and what came of it.
_PICTURE = re.compile(r'"\d+-([0-9a-f]+)"')


def blueprint(at: Edge) -> Blueprint:
    """
    The routes under /api/v1/episodes/{id}/compositions.
    """
    routes = Blueprint("compositions", __name__, url_prefix="/api/v1/episodes/<episode_id>/compositions")
    store, node = at.node.store, at.node

    @routes.get("")
    @tag(["compositions"])
    @document_response(schemas.CompositionList, 200)
    async def list_compositions(episode_id: str) -> Response:
        """
        List an episode's compositions, oldest first, each with the version that was last drawn of it.
        """
        episode, _ = await _enter(Action.READ, episode_id)
        found = await store.compositions.list(episode.id, MAX_COMPOSITIONS)
        drawn = await store.compositions.rendered(episode.id)
        shown = [{**one.to_json(), "rendered_version": drawn.get(one.id)} for one in found]
        return answer({"data": shown, "total": len(shown)})

    @routes.post("")
    @tag(["compositions"])
    @document_request(schemas.CompositionFields)
    @document_response(schemas.Composition, 201)
    async def create_composition(episode_id: str) -> Response:
        """
        Create a composition of an episode.
        """
        episode, identity = await _enter(Action.CREATE, episode_id)
        fields = edge.checked(decide.parse_new(await edge.body()))
        key = CompositionId(str(uuid.uuid4()))
        change = decide.create(key, episode, fields, user=identity.user, now=utc_now())
        event = await store.compositions.create(change, edge.author(identity))
        if event is None:
            raise _no_episode(episode.id)
        node.feed.committed(event)
        location = f"/api/v1/episodes/{episode.id}/compositions/{key}"
        return _shown(change.composition, 201, {"Location": location})

    @routes.get("/<id>")
    @tag(["compositions"])
    @document_headers(parameters.IfNoneMatch)
    @document_response(schemas.Composition, 200)
    async def read_composition(episode_id: str, id: str) -> Response:
        """
        Read a composition; its ETag is its version.
        """
        episode, _ = await _enter(Action.READ, episode_id, id)
        composition = await _existing(episode.id, id)
        if edge.has_version(composition.version):
            return edge.no_content(304, {"ETag": edge.etag(composition.version)})
        return _shown(composition)

    @routes.put("/<id>")
    @tag(["compositions"])
    @document_headers(parameters.IfMatch)
    @document_request(schemas.CompositionFields)
    @document_response(schemas.Composition, 200)
    async def replace_composition(episode_id: str, id: str) -> Response:
        """
        Replace a composition's fields; what is left out takes its default.
        """
        return await _change(episode_id, id, full=True)

    @routes.patch("/<id>")
    @tag(["compositions"])
    @document_headers(parameters.IfMatch)
    @document_request(schemas.CompositionPatch)
    @document_response(schemas.Composition, 200)
    async def change_composition(episode_id: str, id: str) -> Response:
        """
        Change some of a composition's fields.
        """
        return await _change(episode_id, id, full=False)

    @routes.delete("/<id>")
    @tag(["compositions"])
    @document_headers(parameters.IfMatch)
    async def delete_composition(episode_id: str, id: str) -> Response:
        """
        Delete a composition.
        """
        episode, identity = await _enter(Action.DELETE, episode_id, id)
        for _ in range(ATTEMPTS):
            current = await _existing(episode.id, id)
            at.expect("composition", current.version)
            draft = decide.delete(current, episode)
            event = await store.compositions.delete(current, draft, edge.author(identity))
            if event is not None:
                node.feed.committed(event)
                return edge.no_content()
        raise _busy(id)

    @routes.get("/<id>/image")
    @tag(["compositions"])
    @document_headers(parameters.IfNoneMatch)
    @document_response(schemas.Png, 200)
    async def read_image(episode_id: str, id: str) -> Response:
        """
        The composition as it was last drawn, by a job of the type composition.render. X-Rendered-Version is
        the version that was drawn, X-Composition-Version the one there is now.
        """
        episode, _ = await _enter(Action.READ, episode_id, id)
        composition = await _existing(episode.id, id)
        image = await store.compositions.image(composition.id, _digests())
        if image is None:
            raise Problem(
                404,
                f"composition {composition.id} has not been drawn; POST /api/v1/jobs with the type "
                f'composition.render and the payload {{"composition_id": "{composition.id}"}} draws it',
            )
        headers = {
            "ETag": f'"{image.version}-{image.digest}"',
            "X-Rendered-Version": str(image.version),
            "X-Composition-Version": str(composition.version),
        }
        if image.png is None:
            return edge.no_content(304, headers)
        return Response(image.png, 200, {"Content-Type": "image/png", **headers})

    async def _change(episode_id: str, id: str, *, full: bool) -> Response:
        episode, identity = await _enter(Action.UPDATE, episode_id, id)
        given = await edge.body()
        fields = edge.checked(decide.parse_new(given) if full else decide.parse_patch(given))
        if full:
            fields = decide.replacement(fields)
        for _ in range(ATTEMPTS):
            current = await _existing(episode.id, id)
            at.expect("composition", current.version)
            change = decide.update(current, episode, fields, now=utc_now())
            if change is None:
                return _shown(current)
            event = await store.compositions.update(change, edge.author(identity))
            if event is not None:
                node.feed.committed(event)
                return _shown(change.composition)
        raise _busy(id)

    async def _enter(action: Action, episode_id: str, id: str | None = None) -> tuple[Episode, Identity]:
        key = EpisodeId(edge.path_id(episode_id, "episode"))
        composition = None if id is None else edge.path_id(id, "composition")
        identity = await at.enter(action, Resource(type="composition", id=composition, episode_id=key))
        episode = await store.episodes.get(key)
        if episode is None:
            raise _no_episode(key)
        return episode, identity

    async def _existing(episode: EpisodeId, id: str) -> Composition:
        key = CompositionId(edge.path_id(id, "composition"))
        composition = await store.compositions.get(episode, key)
        if composition is None:
            raise Problem(404, f"episode {episode} has no composition {key}")
        return composition

    return routes


def _shown(composition: Composition, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return answer(composition.to_json(), status, {"ETag": edge.etag(composition.version), **(headers or {})})


def _digests() -> list[str]:
    """
    The pictures that the client has, as `If-None-Match` says.
    """
    return _PICTURE.findall(request().header(b"if-none-match") or "")


def _no_episode(key: EpisodeId) -> Problem:
    return Problem(404, f"there is no episode {key}")


def _busy(id: str) -> Problem:
    return Problem(409, f"composition {id} is changed by too many at once; try again")
