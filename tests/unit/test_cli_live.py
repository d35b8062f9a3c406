"""What `greenroom tail` and `watch` make of events and viewers for people."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.live import line_of, plain_json
from gateway.cli.watch import SHOWN, View, changes
from gateway.client import Event, Gap, Position, Presence, State, Viewer

AT = "2026-01-07T12:34:56.000Z"
EPISODE = {"id": "e", "title": "Pilot", "status": "draft"}


def event(name: str, **data: Any) -> Event:
    position = Position(1, "a")
    return Event(
        name=name, data={**data, "timestamp": AT}, id="i", topic="episode:e", position=position, frame={}
    )


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            event("episode_created", episode=EPISODE, createdBy="alice"),
            "12:34:56  episode_created       Pilot  by alice",
        ),
        (
            event("episode_updated", episode=EPISODE, changedFields=["title", "status"], updatedBy="bob"),
            "12:34:56  episode_updated       Pilot  (title, status)  by bob",
        ),
        (
            event("composition_deleted", composition={"name": "Poster"}, deletedBy="bob"),
            "12:34:56  composition_deleted   Poster  by bob",
        ),
        (
            event("job_failed", job={"id": "j", "type": "transcode"}, error="out of disk"),
            "12:34:56  job_failed            transcode  out of disk",
        ),
        (
            event("notification_created", notification={"message": "Episode 'Pilot' created", "id": "n"}),
            "12:34:56  notification_created  Episode 'Pilot' created",
        ),
        (event("weather_changed", sky="blue"), "12:34:56  weather_changed"),
        (
            event("episode_created", episode={"title": "a\nb\x1b[2J\x9b\u202e"}, createdBy="\x07"),
            "12:34:56  episode_created       a�b�[2J��  by �",
        ),
    ],
)
def test_an_event_is_one_line_that_a_terminal_obeys_in_nothing(told: Event, line: str) -> None:
    """
    When, what, of what, and by whom, of every kind of event; what others wrote is only shown.
    """
    assert line_of(told) == line


def viewer(user: str, state: str = "viewing") -> Viewer:
    return Viewer(user=user, name=user.title(), state=state, viewed_at=AT, last_active=AT)


def test_changes_are_told_and_nothing_else() -> None:
    """
    Who stays as they were is not mentioned.
    """
    before = [viewer("ann"), viewer("bob"), viewer("cy")]
    after = [viewer("ann"), viewer("bob", "editing"), viewer("dee\x1b")]
    assert changes(before, after) == ["Bob is editing now", "Dee� is here (viewing)", "Cy left"]
    assert changes(after, after) == []


def drawn(view: View, presence: Presence, state: State = State.LIVE) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(view.render(state, "the line broke", presence))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_view_shows_who_is_there_what_happened_and_how_far_to_trust_it() -> None:
    """
    Markup in a title is no markup; of many events the last ones are shown; a crowd is counted.
    """
    presence = Presence(episode_id="e")
    people = [
        {"userId": user, "userName": user, "state": "viewing", "viewedAt": AT, "lastActive": AT}
        for user in "ab"
    ]
    presence.apply({"viewers": people, "total": 5, "complete": False})
    view = View(title="[red]Pilot[/]")
    first = drawn(view, presence)
    assert "5 here" in first
    assert "and 3 more" in first
    assert "[red]Pilot[/]" in first
    assert "live" in first
    for number in range(SHOWN + 1):
        view.note(event("episode_updated", episode={**EPISODE, "title": f"Title {number}"}, updatedBy="bob"))
    later = drawn(view, presence, State.STALE)
    assert "stale: the line broke" in later
    assert "Title 0 " not in later
    assert "Title 1 " in later
    view.note(Gap(topic="episode:e", snapshot={"episode": {"title": "Recovered"}}, position=None))
    assert "Recovered" in drawn(view, presence)
    view.note(event("episode_deleted", episode=EPISODE, deletedBy="bob"))
    assert "deleted ─" in drawn(view, presence)


def test_a_result_is_json_that_a_terminal_obeys_in_nothing() -> None:
    """
    A job's handler wrote it; what is escaped is the same to programs, and the rest is legible.
    """
    result = {"a": "caf\u00e9 \x1b[2J\x9b31m\u202e\n\ud83d", "b\x07": ["\U0001f600"]}
    text = plain_json(result)
    assert json.loads(text) == result
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "café" in text and "\U0001f600" in text
