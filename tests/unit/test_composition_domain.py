"""Compositions: which layers are right, and that their events stand in the episode's log."""

from datetime import UTC, datetime, timedelta

import pytest

from engine.domain import composition as decide
from engine.domain import episode as episodes
from engine.domain.composition import CompositionId
from engine.domain.event import EpisodeId, UserId
from engine.domain.fields import Invalid

ALICE = UserId("alice@example.com")
NOON = datetime(2026, 1, 7, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90)
BOX = {"kind": "box", "x": 1, "y": 2.5, "width": 10, "height": 20, "color": "#fff"}
TEXT = {"kind": "text", "text": "", "size": 12}

EPISODE = episodes.create(
    EpisodeId("6f0e7f5e-52b1-4a52-8f2d-1f0e2a3b4c5d"), {"title": "Pilot"}, user=ALICE, now=NOON
).episode


def created(**fields):
    key = CompositionId("0b9b3d2e-3a43-4a35-9d52-7e2b0a6a1c11")
    return decide.create(key, EPISODE, {"name": "Poster", **fields}, user=ALICE, now=NOON)


def test_a_new_composition_is_a_draft_without_layers():
    """
    It belongs to its episode, and its event says to which.
    """
    change = created()
    assert change.composition.to_json() == {
        "id": "0b9b3d2e-3a43-4a35-9d52-7e2b0a6a1c11",
        "episode_id": EPISODE.id,
        "name": "Poster",
        "layers": [],
        "status": "draft",
        "version": 1,
        "created_by": ALICE,
        "created_at": "2026-01-07T12:00:00.000Z",
        "updated_at": "2026-01-07T12:00:00.000Z",
    }
    assert change.event.type == "composition_created"
    assert change.event.data == {
        "composition": change.composition.to_json(),
        "episode": {"id": EPISODE.id, "title": "Pilot"},
    }


def test_an_update_names_the_fields_that_changed_and_what_they_were():
    """
    Layers are one field: their order is part of the picture.
    """
    before = created(layers=[BOX, TEXT]).composition
    change = decide.update(before, EPISODE, {"name": "Poster", "layers": [TEXT, BOX]}, now=LATER)
    assert change is not None
    assert change.composition.layers == (TEXT, BOX)
    assert (change.composition.version, change.composition.updated_at) == (2, LATER)
    assert change.event.type == "composition_updated"
    assert change.event.data["changedFields"] == ["layers"]
    before_it = {"layers": [BOX, TEXT], "version": 1, "updated_at": "2026-01-07T12:00:00.000Z"}
    assert change.event.data["before"] == before_it


def test_an_update_that_changes_nothing_is_none():
    """
    Also if the layers are spelled out once more.
    """
    composition = created(layers=[BOX]).composition
    assert decide.update(composition, EPISODE, {}, now=LATER) is None
    assert decide.update(composition, EPISODE, {"layers": [dict(BOX)]}, now=LATER) is None


def test_a_replacement_takes_defaults_for_what_is_left_out():
    """
    PUT says everything.
    """
    before = created(layers=[BOX], status="final").composition
    change = decide.update(before, EPISODE, decide.replacement({"name": "New"}), now=LATER)
    assert change is not None
    assert (change.composition.layers, change.composition.status) == ((), "draft")


def test_deleting_is_told_with_the_composition_as_it_was():
    """
    And with the episode that it is gone from.
    """
    composition = created().composition
    draft = decide.delete(composition, EPISODE)
    assert draft.type == "composition_deleted"
    assert draft.data["composition"] == composition.to_json()
    assert draft.data["episode"] == {"id": EPISODE.id, "title": "Pilot"}


@pytest.mark.parametrize("layers", [[], [BOX, TEXT], [{"kind": "image", "image": "a.png"}], [TEXT] * 100])
def test_right_layers_pass_as_they_are(layers):
    """
    Everything but the kind may be left out.
    """
    assert decide.parse_patch({"layers": layers}) == {"layers": layers}


@pytest.mark.parametrize(
    "layers, says",
    [
        ([TEXT] * 101, "at most 100"),
        ({"kind": "box"}, "must be a list"),
        ([BOX, "box"], "item 1 must be a JSON object"),
        ([{"x": 1}], "item 0 kind is required"),
        ([{"kind": "circle"}], "item 0 kind must be one of text, box, image"),
        ([{"kind": "box", "x": True}], "item 0 x must be a number"),
        ([{"kind": "box", "x": 100_001}], "item 0 x must be a number from -100000 to 100000"),
        ([{"kind": "box", "x": float("inf")}], "item 0 x must be a number"),
        ([{"kind": "box", "x": float("nan")}], "item 0 x must be a number"),
        ([{"kind": "text", "text": "x" * 1001}], "item 0 text must be"),
        ([{"kind": "box", "onclick": "x"}], "item 0 onclick is not known here"),
        (
            [{"kind": "box", "color": "", "x": "1"}],
            "color must be a string of 1 to 50 characters, not 0; x must",
        ),
    ],
)
def test_a_wrong_layer_is_refused_by_its_number_and_its_field(layers, says):
    """
    All mistakes of a layer at once.
    """
    found = decide.parse_patch({"layers": layers})
    assert isinstance(found, Invalid)
    (error,) = found.errors
    assert error.field == "layers"
    assert says in error.message


@pytest.mark.parametrize(
    "given", [{"name": ""}, {"name": "x" * 201}, {"status": "published"}, {"episode_id": "x"}]
)
def test_wrong_fields_are_refused(given):
    """
    Its states are not an episode's, and it cannot be moved to another one.
    """
    found = decide.parse_patch(given)
    assert isinstance(found, Invalid)
    assert [error.field for error in found.errors] == list(given)


def test_only_a_patch_may_leave_out_the_name():
    """
    POST and PUT need it.
    """
    found = decide.parse_new({"layers": []})
    assert isinstance(found, Invalid)
    assert [error.field for error in found.errors] == ["name"]
    assert decide.parse_patch({}) == {}
