"""Compositions: an episode's layered artwork. Their events stand in the episode's log."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NewType

import attrs

from engine.domain.episode import COUNTED, Episode
from engine.domain.event import EpisodeId, EventDraft, UserId, iso
from engine.domain.fields import Check, Invalid, check_fields, list_of, one_of, said, text

CompositionId = NewType("CompositionId", str)

STATUSES = ("draft", "final", "archived")
KINDS = ("text", "box", "image")
# Where the lines of a text stand; how an image fills its place.
ALIGNS = ("left", "center", "right")
FITS = ("contain", "cover", "fill")
MAX_LAYERS = 100
MAX_NUMBER = 100_000


def _number(value: object) -> object:
    # NaN is not larger than anything, and no JSON either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:
        raise ValueError(f"must be a number from -{MAX_NUMBER} to {MAX_NUMBER}")
    return value


LAYER_FIELDS: Mapping[str, Check] = {
    "kind": one_of(KINDS),
    "x": _number,
    "y": _number,
    "width": _number,
    "height": _number,
    "size": _number,
    "text": text(least=0, most=1000),
    "color": text(least=1, most=50),
    "align": one_of(ALIGNS),
    "image": text(least=1, most=500),
    "fit": one_of(FITS),
}


def _layer(value: object) -> object:
    checked = check_fields(value, LAYER_FIELDS, required=("kind",))
    if isinstance(checked, Invalid):
        raise ValueError(said(checked.errors))
    return checked


FIELDS: Mapping[str, Check] = {
    "name": text(least=1, most=200),
    "layers": list_of(_layer, most=MAX_LAYERS),
    "status": one_of(STATUSES),
}


@attrs.frozen(kw_only=True)
class Composition:
    """
    One composition; `layers` are drawn in their order, each an object with `kind` text, box or image.
    """

    id: CompositionId
    episode_id: EpisodeId
    name: str
    layers: tuple[Mapping[str, Any], ...] = ()
    status: str = "draft"
    version: int = 1
    created_by: UserId
    created_at: datetime
    updated_at: datetime

    def to_json(self) -> dict[str, Any]:
        """
        The composition as REST answers it.
        """
        return {
            "id": self.id,
            "episode_id": self.episode_id,
            "name": self.name,
            "layers": [dict(layer) for layer in self.layers],
            "status": self.status,
            "version": self.version,
            "created_by": self.created_by,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
        }


@attrs.frozen(kw_only=True)
class CompositionChange:
    """
    A decided change: the composition as it will be, and the event that says so.
    """

    composition: Composition
    event: EventDraft


def parse_new(given: object) -> dict[str, Any] | Invalid:
    """
    The fields of a composition to create or to replace another's: `name` is required.
    """
    return check_fields(given, FIELDS, required=("name",))


def parse_patch(given: object) -> dict[str, Any] | Invalid:
    """
    The fields to change, none required.
    """
    return check_fields(given, FIELDS)


def replacement(fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    The fields of a PUT with the default of each that was left out.
    """
    return {"layers": [], "status": "draft", **fields}


def create(
    composition_id: CompositionId, episode: Episode, fields: Mapping[str, Any], *, user: UserId, now: datetime
) -> CompositionChange:
    """
    A new composition of the episode, from checked fields.
    """
    blank = Composition(
        id=composition_id,
        episode_id=episode.id,
        name="",
        created_by=user,
        created_at=now,
        updated_at=now,
    )
    composition = _with(blank, fields)
    return CompositionChange(
        composition=composition, event=_event("composition_created", composition, episode.title)
    )


def update(
    current: Composition, episode: Episode, fields: Mapping[str, Any], *, now: datetime
) -> CompositionChange | None:
    """
    The change that checked fields make; None when they change nothing.
    """
    wanted = _with(current, fields)
    before, after = current.to_json(), wanted.to_json()
    changed = [name for name in FIELDS if before[name] != after[name]]
    if not changed:
        return None
    composition = attrs.evolve(wanted, version=current.version + 1, updated_at=now)
    more = {"changedFields": changed, "before": {name: before[name] for name in (*changed, *COUNTED)}}
    return CompositionChange(
        composition=composition, event=_event("composition_updated", composition, episode.title, more)
    )


def delete(current: Composition, episode: Episode) -> EventDraft:
    """
    The event of deleting a composition.
    """
    return _event("composition_deleted", current, episode.title)


def _event(
    kind: str, composition: Composition, episode_title: str, more: Mapping[str, Any] | None = None
) -> EventDraft:
    episode = {"id": composition.episode_id, "title": episode_title}
    data = {"composition": composition.to_json(), "episode": episode, **(more or {})}
    return EventDraft(type=kind, data=data)


def _with(composition: Composition, fields: Mapping[str, Any]) -> Composition:
    changes = dict(fields)
    if "layers" in changes:
        changes["layers"] = tuple(changes["layers"])
    return attrs.evolve(composition, **changes)
