"""Records: which activity, notification and audit record each event causes, as wire.md's table has it."""

import uuid
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from engine.domain import composition as compositions
from engine.domain import episode as episodes
from engine.domain.composition import CompositionId
from engine.domain.event import (
    EpisodeId,
    Epoch,
    Event,
    EventDraft,
    EventId,
    LogPlace,
    Offset,
    Request,
    UserId,
    episode_topic,
)
from engine.domain.record import activity_of, audit_of, notification_of

ALICE, BOB = UserId("alice@example.com"), UserId("bob@example.com")
NOON = datetime(2026, 1, 7, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90)
AT = "2026-01-07T12:00:00.000Z"
REQUEST = Request(mutation_id="m-1", ip="127.0.0.1", user_agent="Mozilla/5.0")
EPISODE_ID = EpisodeId("6f0e7f5e-52b1-4a52-8f2d-1f0e2a3b4c5d")
COMPOSITION_ID = CompositionId("0b9b3d2e-3a43-4a35-9d52-7e2b0a6a1c11")
EVENT_ID = EventId("11111111-2222-4333-8444-555555555555")

_NEW = {"title": "Pilot", "categories": ["Drama"]}
EPISODE = episodes.create(EPISODE_ID, _NEW, user=ALICE, now=NOON)
EPISODE_UPDATE = episodes.update(EPISODE.episode, {"status": "approved", "title": "One"}, now=LATER)
POSTER = compositions.create(COMPOSITION_ID, EPISODE.episode, {"name": "Poster"}, user=ALICE, now=NOON)
POSTER_UPDATE = compositions.update(POSTER.composition, EPISODE.episode, {"status": "final"}, now=LATER)

DRAFTS = {
    "episode_created": EPISODE.event,
    "episode_updated": EPISODE_UPDATE.event,
    "episode_deleted": episodes.delete(EPISODE.episode),
    "composition_created": POSTER.event,
    "composition_updated": POSTER_UPDATE.event,
    "composition_deleted": compositions.delete(POSTER.composition, EPISODE.episode),
}


def committed(draft: EventDraft) -> Event:
    return Event(
        place=LogPlace(1, 1),
        id=EVENT_ID,
        topic=episode_topic(EPISODE_ID),
        offset=Offset(7),
        epoch=Epoch("x"),
        type=draft.type,
        data=draft.data,
        user=BOB,
        request=REQUEST,
        at=NOON,
    )


# Operation's event, activity, notification, audit: the rows of the table that are not about jobs.
TABLE = [
    ("episode_created", "CREATE", True, True),
    ("episode_updated", "UPDATE", False, True),
    ("episode_deleted", "DELETE", True, True),
    ("composition_created", "CREATE", False, True),
    ("composition_updated", "UPDATE", False, True),
    ("composition_deleted", "DELETE", False, True),
]


@pytest.mark.parametrize("kind, action, notified, audited", TABLE)
def test_an_event_causes_the_records_of_its_row(kind, action, notified, audited):
    """
    Each record names the resource that the event is about, who did it and when.
    """
    event = committed(DRAFTS[kind])
    activity, notification, audit = activity_of(event), notification_of(event), audit_of(event)
    assert activity is not None
    assert activity.action == action
    assert (notification is not None, audit is not None) == (notified, audited)
    resource = kind.split("_")[0]
    resource_id = EPISODE_ID if resource == "episode" else COMPOSITION_ID
    for record in filter(None, (activity, notification, audit)):
        assert (record.resource_type, record.resource_id) == (resource, resource_id)
        assert (record.user, record.at) == (BOB, NOON)
    assert activity.episode_id == EPISODE_ID


@pytest.mark.parametrize(
    "kind", ["job_processor_started", "job_progress", "somebody_waved", "episode_watched"]
)
def test_other_events_cause_no_records(kind):
    """
    What is not in the table leaves no trace, and no plugin stumbles over it.
    """
    event = committed(EventDraft(type=kind, data={}))
    assert (activity_of(event), notification_of(event), audit_of(event)) == (None, None, None)


@pytest.mark.parametrize("make", [activity_of, notification_of, audit_of])
def test_a_record_made_twice_is_the_same_record(make):
    """
    Its id follows from the event's: a second insert is refused, not a second record.
    """
    event = committed(DRAFTS["episode_created"])
    assert make(event) == make(event)
    other = attrs.evolve(event, id=EventId(str(uuid.uuid4())))
    assert make(other).id != make(event).id
    ids = {one(event).id for one in (activity_of, notification_of, audit_of)}
    assert len(ids) == 3
    assert all(str(uuid.UUID(one)) == one for one in ids)


def test_an_activity_looks_as_frontends_expect():
    """
    Its metadata show the resource after the change, or before it was deleted.
    """
    assert activity_of(committed(DRAFTS["episode_created"])).to_json() == {
        "id": activity_of(committed(DRAFTS["episode_created"])).id,
        "userId": BOB,
        "action": "CREATE",
        "resourceType": "episode",
        "resourceId": EPISODE_ID,
        "metadata": {"title": "Pilot", "categories": ["Drama"], "status": "draft"},
        "createdAt": AT,
        "ip_address": "127.0.0.1",
        "user_agent": "Mozilla/5.0",
    }
    assert activity_of(committed(DRAFTS["episode_updated"])).metadata == {
        "title": "One",
        "categories": ["Drama"],
        "status": "approved",
        "changedFields": ["title", "status"],
    }
    assert activity_of(committed(DRAFTS["composition_updated"])).metadata == {
        "title": "Poster",
        "categories": [],
        "status": "final",
        "changedFields": ["status"],
    }


@pytest.mark.parametrize("verb", ["created", "deleted"])
def test_a_notification_looks_as_frontends_expect(verb):
    """
    It tells whoever did it that it was done.
    """
    notification = notification_of(committed(DRAFTS[f"episode_{verb}"]))
    assert notification.to_json() == {
        "id": notification.id,
        "userId": BOB,
        "type": f"episode_{verb}",
        "title": f"Episode {verb}",
        "message": f"Episode 'Pilot' {verb} successfully",
        "resourceType": "episode",
        "resourceId": EPISODE_ID,
        "readAt": None,
        "createdAt": AT,
    }
    read = attrs.evolve(notification, read_at=NOON + timedelta(seconds=1))
    assert read.to_json()["readAt"] == "2026-01-07T12:00:01.000Z"


@pytest.mark.parametrize("kind", DRAFTS)
def test_an_audit_record_holds_the_values_before_and_after(kind):
    """
    Nothing before a creation, nothing after a deletion; an update has both, whole.
    """
    before_update = {"episode": EPISODE.episode.to_json(), "composition": POSTER.composition.to_json()}
    event = committed(DRAFTS[kind])
    resource, verb = kind.split("_")
    record = audit_of(event)
    told = event.data[resource]
    match verb:
        case "created":
            assert (record.old_values, record.new_values) == (None, told)
        case "deleted":
            assert (record.old_values, record.new_values) == (told, None)
        case "updated":
            expected = {**before_update[resource], "version": told["version"] - 1}
            assert dict(record.old_values) == expected
            assert record.new_values == told
    assert (record.event_id, record.mutation_id) == (EVENT_ID, "m-1")
    assert (record.ip_address, record.user_agent) == ("127.0.0.1", "Mozilla/5.0")


def test_an_audit_record_as_operators_see_it():
    """
    With everything that finds the request and the event again.
    """
    record = audit_of(committed(DRAFTS["episode_created"]))
    assert record.to_json() == {
        "id": record.id,
        "userId": BOB,
        "action": "CREATE",
        "resourceType": "episode",
        "resourceId": EPISODE_ID,
        "oldValues": None,
        "newValues": EPISODE.episode.to_json(),
        "eventId": EVENT_ID,
        "mutationId": "m-1",
        "ip_address": "127.0.0.1",
        "user_agent": "Mozilla/5.0",
        "createdAt": AT,
    }
