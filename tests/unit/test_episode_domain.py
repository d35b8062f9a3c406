"""Episodes: which fields are right, and which event a change causes."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import episode as decide
from engine.domain.event import (
    EpisodeId,
    Epoch,
    Event,
    EventId,
    LogPlace,
    Offset,
    Position,
    Request,
    Topic,
    UserId,
    episode_topic,
    iso,
    utc_now,
)
from engine.domain.fields import Invalid

ALICE = UserId("alice@example.com")
NOON = datetime(2026, 1, 7, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90)
ID = EpisodeId("6f0e7f5e-52b1-4a52-8f2d-1f0e2a3b4c5d")


def created(**fields):
    return decide.create(ID, {"title": "Pilot", **fields}, user=ALICE, now=NOON)


def bad_fields(given, parse=decide.parse_new):
    found = parse(given)
    assert isinstance(found, Invalid)
    return [error.field for error in found.errors]


def test_a_new_episode_has_version_1_and_the_first_offset_of_its_log():
    """
    What was left out has its default; who and when come from the request.
    """
    episode = created().episode
    assert (episode.version, episode.log_offset) == (1, 1)
    assert episode.to_json() == {
        "id": ID,
        "title": "Pilot",
        "episode_number": None,
        "description": None,
        "status": "draft",
        "categories": [],
        "version": 1,
        "created_by": ALICE,
        "created_at": "2026-01-07T12:00:00.000Z",
        "updated_at": "2026-01-07T12:00:00.000Z",
    }


def test_creating_is_told_with_the_whole_episode():
    """
    The event holds what was created, as JSON.
    """
    change = created(categories=["Drama"], episode_number=1)
    assert change.event.type == "episode_created"
    assert change.event.data == {"episode": change.episode.to_json()}
    assert json.loads(json.dumps(change.event.data)) == change.event.data


def test_an_update_names_the_fields_that_changed_and_what_they_were():
    """
    Fields that were given but are as before are not named; the version counts up, the time moves.
    """
    before = created(episode_number=1).episode
    change = decide.update(
        before, {"title": "Pilot", "status": "in_review", "categories": ["Drama"]}, now=LATER
    )
    assert change is not None
    assert (change.episode.version, change.episode.updated_at, change.episode.created_at) == (2, LATER, NOON)
    assert change.event.type == "episode_updated"
    assert change.event.data == {
        "episode": change.episode.to_json(),
        "changedFields": ["status", "categories"],
        "before": {"status": "draft", "categories": [], "version": 1, "updated_at": iso(NOON)},
    }


def test_an_update_that_changes_nothing_is_none():
    """
    No version, no event, nobody is disturbed.
    """
    episode = created(categories=["Drama"]).episode
    assert decide.update(episode, {}, now=LATER) is None
    assert decide.update(episode, {"title": "Pilot", "categories": ["Drama"]}, now=LATER) is None


def test_deleting_is_told_with_the_episode_as_it_was():
    """
    Whoever hears of it can still say what is gone.
    """
    episode = created().episode
    draft = decide.delete(episode)
    assert (draft.type, draft.data) == ("episode_deleted", {"episode": episode.to_json()})


def test_a_replacement_takes_defaults_for_what_is_left_out():
    """
    PUT says everything: what it does not say is empty afterwards.
    """
    before = created(episode_number=1, description="First", status="approved", categories=["Drama"]).episode
    change = decide.update(before, decide.replacement({"title": "New"}), now=LATER)
    assert change is not None
    after = change.episode
    assert (after.title, after.episode_number, after.description) == ("New", None, None)
    assert (after.status, after.categories) == ("draft", ())


def test_only_a_patch_may_leave_out_the_title():
    """
    POST and PUT need it.
    """
    assert bad_fields({}) == ["title"]
    assert decide.parse_patch({}) == {}


@pytest.mark.parametrize(
    "field, right",
    [
        ("title", "x" * 200),
        ("title", "  Pilot  "),
        ("episode_number", 0),
        ("episode_number", 2_147_483_647),
        ("episode_number", None),
        ("description", None),
        ("description", ""),
        ("description", "x" * 10_000),
        ("categories", []),
        ("categories", [f"c{number}" for number in range(20)]),
        ("categories", ["x" * 50]),
        *(("status", status) for status in ("draft", "in_review", "approved", "published", "archived")),
    ],
)
def test_values_at_the_bounds_are_right(field, right):
    """
    The bounds that frontends are told.
    """
    assert not isinstance(decide.parse_patch({field: right}), Invalid)


@pytest.mark.parametrize(
    "field, wrong",
    [
        ("title", ""),
        ("title", "   "),
        ("title", "x" * 201),
        ("title", None),
        ("episode_number", -1),
        ("episode_number", 2_147_483_648),
        ("episode_number", 1.5),
        ("episode_number", "1"),
        ("description", 5),
        ("description", "x" * 10_001),
        ("status", "done"),
        ("status", None),
        ("categories", None),
        ("categories", "Drama"),
        ("categories", [f"c{number}" for number in range(21)]),
        ("categories", [""]),
        ("categories", ["x" * 51]),
        ("categories", ["Drama", "Drama"]),
        ("id", ID),
        ("version", 3),
        ("created_by", ALICE),
    ],
)
def test_values_beyond_the_bounds_and_fields_of_ours_are_refused(field, wrong):
    """
    Also those that the database would refuse, so that no statement fails; and what clients do not set.
    """
    assert bad_fields({field: wrong}, decide.parse_patch) == [field]


titles = st.text(min_size=1, max_size=200).map(str.strip).filter(lambda text: text and "\0" not in text)
patches = st.fixed_dictionaries(
    {},
    optional={
        "title": titles,
        "episode_number": st.none() | st.integers(0, 9),
        "description": st.none() | st.just("text"),
        "status": st.sampled_from(decide.STATUSES),
        "categories": st.lists(st.sampled_from("abc"), unique=True),
    },
)


@given(patches, st.lists(patches, max_size=6))
def test_the_log_of_an_episode_can_be_read_backwards(first, more):
    """
    An update's `before`, put over its episode, is the episode before it; versions and events are in step.
    """
    episode = created(**first).episode
    for fields in more:
        assert decide.parse_patch(fields) == fields
        change = decide.update(episode, fields, now=LATER)
        if change is None:
            assert all(episode.to_json()[name] == value for name, value in fields.items())
            continue
        told = change.event.data
        assert list(told["before"]) == [*told["changedFields"], "version", "updated_at"]
        assert {**told["episode"], **told["before"]} == episode.to_json()
        assert {name: told["episode"][name] for name in fields} == fields
        assert change.episode.version == episode.version + 1
        episode = change.episode


def test_an_event_knows_its_position_and_its_topic():
    """
    The position is what a client returns with.
    """
    event = Event(
        place=LogPlace(1, 1),
        id=EventId("e"),
        topic=episode_topic(ID),
        offset=Offset(7),
        epoch=Epoch("x"),
        type="episode_created",
        data={},
        user=ALICE,
        request=Request(mutation_id="m"),
        at=NOON,
    )
    assert event.position == Position(Offset(7), Epoch("x"))
    assert event.topic == Topic(f"episode:{ID}")


def test_places_are_ordered_by_transaction_first():
    """
    `seq` alone would put an event before one that readers saw earlier.
    """
    assert LogPlace(1, 9) < LogPlace(2, 1) < LogPlace(2, 2)


def test_times_are_shown_in_utc_with_milliseconds():
    """
    As the wire has them; the present time is cut to what will be shown.
    """
    assert iso(NOON) == "2026-01-07T12:00:00.000Z"
    assert iso(datetime.fromisoformat("2026-01-07T13:00:00.1239+01:00")) == "2026-01-07T12:00:00.123Z"
    assert utc_now().microsecond % 1000 == 0
    assert datetime.fromisoformat(iso(now := utc_now())) == now
