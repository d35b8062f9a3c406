"""How requests and answers look, for the OpenAPI document. The domain checks; a test holds both together."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Status = Literal["draft", "in_review", "approved", "published", "archived"]
Title = Annotated[str, Meta(min_length=1, max_length=200)]
Category = Annotated[str, Meta(min_length=1, max_length=50)]
Categories = Annotated[list[Category], Meta(max_length=20)]
Number = Annotated[int, Meta(ge=0, le=2_147_483_647)]


class EpisodeFields(Struct):
    """
    What an episode is created from, or replaced by.
    """

    title: Title
    episode_number: Number | None = None
    description: str | None = None
    status: Status = "draft"
    categories: Categories = []


class EpisodePatch(Struct):
    """
    What is to change of an episode.
    """

    title: Title | None = None
    episode_number: Number | None = None
    description: str | None = None
    status: Status | None = None
    categories: Categories | None = None


class Episode(EpisodeFields, kw_only=True):
    """
    An episode as it stands.
    """

    id: str
    version: int
    created_by: str
    created_at: str
    updated_at: str


class EpisodePage(Struct):
    """
    One page of the list.
    """

    data: list[Episode]
    total: int
    next_cursor: str | None


class Layer(Struct):
    """
    One layer of a composition's artwork.
    """

    kind: Literal["text", "box", "image"]
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    size: float | None = None
    text: str | None = None
    color: str | None = None
    image: str | None = None


class CompositionFields(Struct):
    """
    What a composition is created from, or replaced by.
    """

    name: Title
    layers: Annotated[list[Layer], Meta(max_length=100)] = []
    status: Literal["draft", "final", "archived"] = "draft"


class CompositionPatch(Struct):
    """
    What is to change of a composition.
    """

    name: Title | None = None
    layers: Annotated[list[Layer], Meta(max_length=100)] | None = None
    status: Literal["draft", "final", "archived"] | None = None


class Composition(CompositionFields, kw_only=True):
    """
    A composition as it stands.
    """

    id: str
    episode_id: str
    version: int
    created_by: str
    created_at: str
    updated_at: str


class CompositionList(Struct):
    """
    An episode's compositions.
    """

    data: list[Composition]
    total: int


class Activity(Struct, rename="camel"):
    """
    What happened.
    """

    id: str
    user_id: str
    action: Literal["CREATE", "UPDATE", "DELETE", "COMPLETE", "RETRY", "FAILED"]
    resource_type: Literal["episode", "job", "composition"]
    resource_id: str
    metadata: dict[str, Any]
    created_at: str


class ActivityPage(Struct):
    """
    What happened, newest first.
    """

    data: list[Activity]
    next_cursor: int | None


class AuditRecord(Struct, rename="camel"):
    """
    What happened, with the values before and after.
    """

    id: str
    user_id: str
    action: str
    resource_type: str
    resource_id: str
    old_values: dict[str, Any] | None
    new_values: dict[str, Any] | None
    event_id: str
    mutation_id: str
    created_at: str


class AuditPage(Struct):
    """
    The audit trail, newest first.
    """

    data: list[AuditRecord]
    next_cursor: int | None


class Notification(Struct, rename="camel"):
    """
    What one person is told.
    """

    id: str
    user_id: str
    type: str
    title: str
    message: str
    resource_type: str
    resource_id: str
    read_at: str | None
    created_at: str


class NotificationPage(Struct):
    """
    The caller's inbox, newest first.
    """

    data: list[Notification]
    unread: int
    next_cursor: int | None


class Viewer(Struct, rename="camel"):
    """
    A person who is present on an episode.
    """

    id: str
    user_id: str
    user_name: str
    resource_type: str
    resource_id: str
    viewed_at: str
    last_active: str
    is_active: bool
    state: Literal["idle", "viewing", "editing"]


class Viewers(Struct):
    """
    Everyone who is present on an episode.
    """

    data: list[Viewer]
    total: int


class EventPage(Struct):
    """
    An episode's events after a position, as frames; and the position that they lead to.
    """

    data: list[dict[str, Any]]
    position: dict[str, Any]
    more: bool


class Problem(Struct):
    """
    A refusal (RFC 9457).
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, str]] = []
