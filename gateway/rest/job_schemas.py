"""How jobs look over REST, for the OpenAPI document. The domain checks; a test holds both together."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.rest.parameters import Limit, Older
from gateway.rest.schemas import TEXT

State = Literal["queued", "running", "retry", "completed", "failed", "cancelled"]
Type = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$",
        description="One of the types that a plugin of the node runs, or of jobs.external_types.",
    ),
]
Priority = Annotated[int, Meta(ge=0, le=9, description="9 first.")]
Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


class NewJob(Struct, forbid_unknown_fields=True):
    """
    A job to be run. What its payload must hold depends on its type.
    """

    type: Type
    payload: dict[str, Any] = {}
    episode_id: Id | None = None
    priority: Priority = 0
    delay: Annotated[float, Meta(ge=0, le=31_536_000, description="Seconds until it is due.")] = 0.0
    unique_key: (
        Annotated[
            str,
            Meta(
                min_length=1, max_length=200, pattern=TEXT, description="At most one unfinished job has it."
            ),
        ]
        | UnsetType
        | None
    ) = UNSET
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    timeout: Annotated[float, Meta(gt=0, le=604_800, description="Seconds for one attempt.")] | UnsetType = (
        UNSET
    )


class Job(Struct):
    """
    A job as it stands.
    """

    id: str
    type: str
    state: State
    priority: int
    payload: dict[str, Any]
    result: Any
    error: str | None
    attempt: int
    max_attempts: int
    timeout: float
    progress: float | None
    message: str | None
    next_run_at: str
    unique_key: str | None
    episode_id: str | None
    source: str
    submitted_by: str
    cancel_requested: bool
    created_at: str
    updated_at: str
    started_at: str | None
    finished_at: str | None


class JobWithHistory(Job, kw_only=True):
    """
    A job as it stands, and its events, as frames, oldest first; at most the newest 200.
    """

    history: list[dict[str, Any]]


class JobPage(Struct):
    """
    Jobs, newest first.
    """

    data: list[Job]
    next_cursor: int | None


class Purged(Struct):
    """
    How many jobs were deleted.
    """

    deleted: int


class JobQuery(Struct):
    """
    Which jobs.
    """

    state: State | UnsetType = UNSET
    type: str | UnsetType = UNSET
    episode: Annotated[Id, Meta(description="The id of the episode that they belong to.")] | UnsetType = UNSET
    limit: Limit = 50
    cursor: Older | UnsetType = UNSET


class EpisodeJobQuery(Struct):
    """
    Which of an episode's jobs.
    """

    state: State | UnsetType = UNSET
    type: str | UnsetType = UNSET
    limit: Limit = 50
    cursor: Older | UnsetType = UNSET


class PurgeQuery(Struct):
    """
    Which jobs are to be deleted.
    """

    older_than: Annotated[int, Meta(ge=0, description="Seconds since they ended, at least.")]
    state: Literal["completed", "failed", "cancelled"] | UnsetType = UNSET
