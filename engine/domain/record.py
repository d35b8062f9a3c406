"""Records that follow from events: activity, notifications, audit; a pure function for each."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from engine.domain.event import Event, UserId, iso

ACTIONS = {"created": "CREATE", "updated": "UPDATE", "deleted": "DELETE"}
JOB_ACTIONS = {"job_completed": "COMPLETE", "job_retry": "RETRY", "job_failed": "FAILED"}


@attrs.frozen(kw_only=True)
class Activity:
    """
    What happened, for everyone who works on the resource.
    """

    id: str
    user: UserId
    action: str
    resource_type: str
    resource_id: str
    episode_id: str | None
    metadata: Mapping[str, Any]
    at: datetime
    ip_address: str | None
    user_agent: str | None

    def to_json(self) -> dict[str, Any]:
        """
        The record as REST answers it.
        """
        return {
            "id": self.id,
            "userId": self.user,
            "action": self.action,
            "resourceType": self.resource_type,
            "resourceId": self.resource_id,
            "metadata": dict(self.metadata),
            "createdAt": iso(self.at),
            "ip_address": self.ip_address,
            "user_agent": self.user_agent,
        }


@attrs.frozen(kw_only=True)
class Notification:
    """
    What one person is told in the inbox.
    """

    id: str
    user: UserId
    type: str
    title: str
    message: str
    resource_type: str
    resource_id: str
    read_at: datetime | None = None
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """
        The record as REST answers it.
        """
        return {
            "id": self.id,
            "userId": self.user,
            "type": self.type,
            "title": self.title,
            "message": self.message,
            "resourceType": self.resource_type,
            "resourceId": self.resource_id,
            "readAt": iso(self.read_at) if self.read_at else None,
            "createdAt": iso(self.at),
        }


@attrs.frozen(kw_only=True)
class AuditRecord:
    """
    What happened, for operators: immutable, with the values before and after.
    """

    id: str
    user: UserId
    action: str
    resource_type: str
    resource_id: str
    old_values: Mapping[str, Any] | None
    new_values: Mapping[str, Any] | None
    event_id: str
    mutation_id: str
    ip_address: str | None
    user_agent: str | None
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """
        The record as REST answers it.
        """
        return {
            "id": self.id,
            "userId": self.user,
            "action": self.action,
            "resourceType": self.resource_type,
            "resourceId": self.resource_id,
            "oldValues": self.old_values,
            "newValues": self.new_values,
            "eventId": self.event_id,
            "mutationId": self.mutation_id,
            "ip_address": self.ip_address,
            "user_agent": self.user_agent,
            "createdAt": iso(self.at),
        }


def activity_of(event: Event) -> Activity | None:
    """
    The activity record that the event causes, if any.

    Its id follows from the event's: a record made twice is the same record.
    """
    if (what := _resource(event)) is None:
        return None
    kind, action, resource = what
    metadata = {
        "title": resource.get("title", resource.get("name", resource.get("type"))),
        "categories": resource.get("categories", []),
        "status": resource.get("status", resource.get("state")),
    }
    # Which of them there are depends on the action.
    for name in ("changedFields", "error", "retryCount"):
        if name in event.data:
            metadata[name] = event.data[name]
    return Activity(
        id=_id(event, "activity"),
        user=event.user,
        action=action,
        resource_type=kind,
        resource_id=str(resource["id"]),
        episode_id=_episode_id(event),
        metadata=metadata,
        at=event.at,
        ip_address=event.request.ip,
        user_agent=event.request.user_agent,
    )


def notification_of(event: Event) -> Notification | None:
    """
    The notification that the event causes: creating and deleting an episode is confirmed to whoever did it,
    and the end of a job to whoever submitted it.
    """
    match event.type:
        case "episode_created" | "episode_deleted":
            episode = _mapping(event.data["episode"])
            verb = event.type.removeprefix("episode_")
            message = f"Episode '{episode['title']}' {verb} successfully"
            return _notification(event, episode, "episode", f"Episode {verb}", message)
        case "job_completed":
            job = _mapping(event.data["job"])
            message = f"Job '{job['type']}' completed successfully"
            return _notification(event, job, "job", "Job completed", message, job["submitted_by"])
        case "job_failed":
            job = _mapping(event.data["job"])
            message = f"Job '{job['type']}' failed: {event.data['error']}"
            return _notification(event, job, "job", "Job failed", message, job["submitted_by"])
        case _:
            return None


def _notification(
    event: Event,
    resource: Mapping[str, Any],
    kind: str,
    title: str,
    message: str,
    user: str | None = None,
) -> Notification:
    return Notification(
        id=_id(event, "notification"),
        user=event.user if user is None else UserId(user),
        type=event.type,
        title=title,
        message=message,
        resource_type=kind,
        resource_id=str(resource["id"]),
        at=event.at,
    )


def audit_of(event: Event) -> AuditRecord | None:
    """
    The audit record that the event causes, if any.
    """
    # Of jobs, those that failed for good; that one did its work, its activity tells.
    if (what := _resource(event)) is None or what[1] in ("COMPLETE", "RETRY"):
        return None
    kind, action, resource = what
    if "error" in event.data:
        resource = {**resource, "error": event.data["error"]}
    old: Mapping[str, Any] | None = None
    if action == "UPDATE":
        old = {**resource, **_mapping(event.data["before"])}
    elif action == "DELETE":
        old = resource
    return AuditRecord(
        id=_id(event, "audit"),
        user=event.user,
        action=action,
        resource_type=kind,
        resource_id=str(resource["id"]),
        old_values=old,
        new_values=None if action == "DELETE" else resource,
        event_id=event.id,
        mutation_id=event.request.mutation_id,
        ip_address=event.request.ip,
        user_agent=event.request.user_agent,
        at=event.at,
    )


def _resource(event: Event) -> tuple[str, str, Mapping[str, Any]] | None:
    if event.type in JOB_ACTIONS:
        return "job", JOB_ACTIONS[event.type], _mapping(event.data["job"])
    kind, _, verb = event.type.rpartition("_")
    if kind not in ("episode", "composition") or verb not in ACTIONS:
        return None
    return kind, ACTIONS[verb], _mapping(event.data[kind])


def _episode_id(event: Event) -> str | None:
    if (job := event.data.get("job")) is not None:
        episode_id = _mapping(job)["episode_id"]
        return None if episode_id is None else str(episode_id)
    episode = event.data.get("episode")
    return str(_mapping(episode)["id"]) if episode else None


def _mapping(value: object) -> Mapping[str, Any]:
    assert isinstance(value, Mapping)
    return value


def _id(event: Event, kind: str) -> str:
    return str(uuid.uuid5(uuid.UUID(event.id), kind))
