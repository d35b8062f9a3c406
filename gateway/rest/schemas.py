"""How requests and answers look, for the OpenAPI document. The domain checks; a test holds both together."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

# Text as the domain keeps it: no blank at its ends, which it trims, and no NUL, which it refuses.
TEXT = r"^(?!\s)(?![\s\S]*\s$)[^\u0000]*$"

Status = Literal["draft", "in_review", "approved", "published", "archived"]
Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=TEXT)]
Description = Annotated[str, Meta(max_length=10_000, pattern=TEXT)]
Category = Annotated[str, Meta(min_length=1, max_length=50, pattern=TEXT)]
Categories = Annotated[list[Category], Meta(max_length=20, extra_json_schema={"uniqueItems": True})]
Number = Annotated[int, Meta(ge=0, le=2_147_483_647)]


class EpisodeFields(Struct, forbid_unknown_fields=True):
    """
    What an episode is created from, or replaced by.
    """

    title: Title
    episode_number: Number | None = None
    description: Description | None = None
    status: Status = "draft"
    categories: Categories = []


class EpisodePatch(Struct, forbid_unknown_fields=True):
    """
    What is to change of an episode.
    """

    title: Title | UnsetType = UNSET
    episode_number: Number | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    categories: Categories | UnsetType = UNSET


class Episode(EpisodeFields, kw_only=True, forbid_unknown_fields=False):
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


Coordinate = Annotated[float, Meta(ge=-100_000, le=100_000)]


class Layer(Struct, forbid_unknown_fields=True):
    """
    One layer of a composition's artwork.
    """

    kind: Literal["text", "box", "image"]
    x: Coordinate | UnsetType = UNSET
    y: Coordinate | UnsetType = UNSET
    width: Coordinate | UnsetType = UNSET
    height: Coordinate | UnsetType = UNSET
    size: Coordinate | UnsetType = UNSET
    text: Annotated[str, Meta(max_length=1000, pattern=TEXT)] | UnsetType = UNSET
    color: Category | UnsetType = UNSET
    align: Literal["left", "center", "right"] | UnsetType = UNSET
    image: Annotated[str, Meta(min_length=1, max_length=500, pattern=TEXT)] | UnsetType = UNSET
    fit: Literal["contain", "cover", "fill"] | UnsetType = UNSET


Layers = Annotated[list[Layer], Meta(max_length=100)]
CompositionStatus = Literal["draft", "final", "archived"]


class CompositionFields(Struct, forbid_unknown_fields=True):
    """
    What a composition is created from, or replaced by.
    """

    name: Title
    layers: Layers = []
    status: CompositionStatus = "draft"


class CompositionPatch(Struct, forbid_unknown_fields=True):
    """
    What is to change of a composition.
    """

    name: Title | UnsetType = UNSET
    layers: Layers | UnsetType = UNSET
    status: CompositionStatus | UnsetType = UNSET


class Composition(CompositionFields, kw_only=True, forbid_unknown_fields=False):
    """
    A composition as it stands.
    """

    id: str
    episode_id: str
    version: int
    created_by: str
    created_at: str
    updated_at: str


class ListedComposition(Composition, kw_only=True):
    """
    A composition as the list has it: `rendered_version` is the one whose picture there is, if there is one.
    """

    rendered_version: int | None


class CompositionList(Struct):
    """
    An episode's compositions.
    """

    data: list[ListedComposition]
    total: int


class Png(Struct):
    """
    A picture; this is no JSON.
    """


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
    ip_address: str | None = field(name="ip_address")
    user_agent: str | None = field(name="user_agent")


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
    ip_address: str | None = field(name="ip_address")
    user_agent: str | None = field(name="user_agent")
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
    # What plugins say of the viewer, by plugin; absent if none does.
    marks: dict[str, str] | UnsetType = UNSET


class Viewers(Struct):
    """
    Everyone who is present on an episode.
    """

    data: list[Viewer]
    total: int
    next_cursor: str | None


class Position(Struct):
    """
    A place in an episode's log.
    """

    offset: int
    epoch: str


class Frame(Struct):
    """
    An event, as a WebSocket gets it.
    """

    event: str
    data: dict[str, Any]
    namespace: str
    broadcast: bool
    id: str
    topic: str
    offset: int
    epoch: str


class EventPage(Struct):
    """
    An episode's events after a position, as frames; and the position that they lead to.
    """

    data: list[Frame]
    position: Position
    more: bool


class ReadAll(Struct):
    """
    How many notifications were marked as read.
    """

    read: int


class WaysIn(Struct):
    """
    Whether the console may be entered by name, and if not, why.
    """

    local: bool
    reason: str


class SignIn(Struct, forbid_unknown_fields=True):
    """
    Who somebody wants to be. Without a `user`, the name is one.
    """

    name: Title
    role: Literal["viewer", "editor", "operator"] = "editor"
    user: Title | UnsetType = UNSET


class SignedIn(Struct):
    """
    A token, and until when it is good, in Unix seconds.
    """

    token: str
    user: str
    name: str
    role: Literal["viewer", "editor", "operator"]
    expires_at: float


class FieldError(Struct):
    """
    One bad field, and what would be right.
    """

    field: str
    message: str


class Problem(Struct):
    """
    A refusal (RFC 9457).
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] = []
