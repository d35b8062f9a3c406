"""Episodes: what a right one is, and which event a change causes. Pure: it decides, the store commits."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from engine.domain.event import EpisodeId, EventDraft, Offset, UserId, iso
from engine.domain.fields import Check, Invalid, check_fields, list_of, one_of, text, whole_number

STATUSES = ("draft", "in_review", "approved", "published", "archived")

# What every change changes besides; `before` has it too, so that it is the whole difference.
COUNTED = ("version", "updated_at")

FIRST_OFFSET = Offset(1)

FIELDS: Mapping[str, Check] = {
    "title": text(least=1, most=200),
    "episode_number": whole_number(least=0, most=2_147_483_647, optional=True),
    "description": text(least=0, most=10_000, optional=True),
    "status": one_of(STATUSES),
    "categories": list_of(text(least=1, most=50), most=20, unique=True),
}


@attrs.frozen(kw_only=True)
class Episode:
    """
    One episode as it stands; `version` counts its changes from 1, `log_offset` is its log's latest offset.
    """

    id: EpisodeId
    title: str
    episode_number: int | None = None
    description: str | None = None
    status: str = "draft"
    categories: tuple[str, ...] = ()
    version: int = 1
    created_by: UserId
    created_at: datetime
    updated_at: datetime
    log_offset: Offset = FIRST_OFFSET

    def to_json(self) -> dict[str, Any]:
        """
        The episode as REST answers it.
        """
        return {
            "id": self.id,
            "title": self.title,
            "episode_number": self.episode_number,
            "description": self.description,
            "status": self.status,
            "categories": list(self.categories),
            "version": self.version,
            "created_by": self.created_by,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
        }


@attrs.frozen(kw_only=True)
class EpisodeChange:
    """
    A decided change: the episode as it will be, and the event that says so.
    """

    episode: Episode
    event: EventDraft


def parse_new(given: object) -> dict[str, Any] | Invalid:
    """
    The fields of an episode to create, or to replace another's (PUT): `title` is required.
    """
    return check_fields(given, FIELDS, required=("title",))


def parse_patch(given: object) -> dict[str, Any] | Invalid:
    """
    The fields to change (PATCH), none required.
    """
    return check_fields(given, FIELDS)


def replacement(fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    The fields of a PUT with the default of each that was left out.
    """
    defaults: dict[str, Any] = {
        "episode_number": None,
        "description": None,
        "status": "draft",
        "categories": [],
    }
    return {**defaults, **fields}


def create(episode_id: EpisodeId, fields: Mapping[str, Any], *, user: UserId, now: datetime) -> EpisodeChange:
    """
    A new episode from checked fields.
    """
    blank = Episode(id=episode_id, title="", created_by=user, created_at=now, updated_at=now)
    episode = _with(blank, fields)
    return EpisodeChange(
        episode=episode, event=EventDraft(type="episode_created", data={"episode": episode.to_json()})
    )


def update(current: Episode, fields: Mapping[str, Any], *, now: datetime) -> EpisodeChange | None:
    """
    The change that checked fields make to an episode; None when they change nothing.
    """
    wanted = _with(current, fields)
    before, after = current.to_json(), wanted.to_json()
    changed = [name for name in FIELDS if before[name] != after[name]]
    if not changed:
        return None
    episode = attrs.evolve(wanted, version=current.version + 1, updated_at=now)
    data = {
        "episode": episode.to_json(),
        "changedFields": changed,
        "before": {name: before[name] for name in (*changed, *COUNTED)},
    }
    return EpisodeChange(episode=episode, event=EventDraft(type="episode_updated", data=data))


def delete(current: Episode) -> EventDraft:
    """
    The event of deleting an episode; its log stays readable.
    """
    return EventDraft(type="episode_deleted", data={"episode": current.to_json()})


def _with(episode: Episode, fields: Mapping[str, Any]) -> Episode:
    changes = dict(fields)
    if "categories" in changes:
        changes["categories"] = tuple(changes["categories"])
    return attrs.evolve(episode, **changes)
