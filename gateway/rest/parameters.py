"""What a query or a header may ask for, for the OpenAPI document. The routes themselves check it."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.rest.schemas import Status

Limit = Annotated[int, Meta(ge=1, le=200, description="How many at most.")]
Older = Annotated[int, Meta(ge=1, description="The `next_cursor` of the page before.")]


class EpisodeQuery(Struct):
    """
    What to list, and how.
    """

    status: Status | UnsetType = UNSET
    category: Annotated[str, Meta(description="One of the episode's categories, exactly.")] | UnsetType = (
        UNSET
    )
    q: Annotated[str, Meta(description="A part of title or description, in any case.")] | UnsetType = UNSET
    sort: Literal[
        "created_at",
        "-created_at",
        "episode_number",
        "-episode_number",
        "title",
        "-title",
        "updated_at",
        "-updated_at",
    ] = "-created_at"
    limit: Limit = 50
    cursor: Annotated[str, Meta(description="The `next_cursor` of the page before.")] | UnsetType = UNSET


class RecordQuery(Struct):
    """
    Which page of records.
    """

    limit: Limit = 50
    cursor: Older | UnsetType = UNSET


class NotificationQuery(RecordQuery):
    """
    Which page of the inbox.
    """

    unread: Annotated[Literal[0, 1], Meta(description="1: only what was not read.")] = 0


class EventQuery(Struct):
    """
    Which events of the log.
    """

    since: Annotated[int, Meta(ge=0, description="The offset after which to begin.")] = 0
    limit: Limit = 50


class IfMatch(Struct):
    """
    Change this version only.
    """

    tag: Annotated[str, Meta(description="ETags of the versions that may be changed; others are 412.")] = (
        field(default="*", name="If-Match")
    )


class IfNoneMatch(Struct):
    """
    Answer unless it is this version.
    """

    tag: (
        Annotated[str, Meta(description="The ETag that is at hand; the same is answered with 304.")]
        | UnsetType
    ) = field(default=UNSET, name="If-None-Match")


class IdempotencyKey(Struct):
    """
    Create once, however often it is asked for.
    """

    key: (
        Annotated[str, Meta(max_length=200, description="The same key again creates nothing.")] | UnsetType
    ) = field(default=UNSET, name="Idempotency-Key")
