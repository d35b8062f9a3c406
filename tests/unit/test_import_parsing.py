"""Files of episodes: what is read of them, and that every mistake is told by its line and field."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.episode import STATUSES, parse_new
from plugins.imports.parsing import MAX_EPISODES, MAX_TEXT, MAX_TOLD, Refused, parse, suffix_of


def parsed(suffix, text):
    found = parse(suffix, text.encode(), lambda fraction: None)
    assert not isinstance(found, Refused), str(found)
    return [episode.fields for episode in found]


def mistakes(suffix, text):
    data = text if isinstance(text, bytes) else text.encode()
    found = parse(suffix, data, lambda fraction: None)
    assert isinstance(found, Refused), found
    head, *told = str(found).split("\n")
    assert head.endswith("nothing was imported")
    return told


def test_each_line_of_a_csv_file_is_an_episode():
    """
    An empty cell is a field left out, categories are separated by semicolons, quotes may span lines.
    """
    text = (
        "\ufeffTitle, episode_number,categories,status,description\r\n"
        'Pilot,1,Drama; Crime ,in_review,"One, and\r\ntwo"\r\n'
        "\r\n"
        " Second ,,,,\r\n"
    )
    assert parsed(".csv", text) == [
        {
            "title": "Pilot",
            "episode_number": 1,
            "categories": ["Drama", "Crime"],
            "status": "in_review",
            "description": "One, and\r\ntwo",
        },
        {"title": "Second"},
    ]


def test_each_object_of_a_json_array_is_an_episode():
    """
    With the fields that REST takes, as REST takes them.
    """
    episodes = [
        {"title": "Pilot", "episode_number": None, "categories": ["Drama"]},
        {"title": "Zwei\n🎬", "description": ""},
    ]
    assert parsed(".json", json.dumps(episodes, indent=1)) == episodes
    assert parsed(".json", json.dumps(episodes, ensure_ascii=False)) == episodes


def test_all_mistakes_of_a_file_are_told_at_once_by_line_and_field():
    """
    The line is the one in which the episode begins, whatever line breaks stand in quotes before it.
    """
    text = 'title,episode_number,status\n"A\nB",x,\n,1,done\nC,2\n'
    assert mistakes(".csv", text) == [
        "line 2: episode_number must be an integer from 0 to 2147483647, or null",
        "line 4: title is required",
        "line 4: status must be one of draft, in_review, approved, published, archived",
        "line 5: has 2 cells, and the header 3; quote a cell that has a comma in it",
    ]
    text = '[\n {"title": "A"},\n {"title":\n "", "x": 1},\n 7,\n {"title": "B", "title": "C"}]'
    assert mistakes(".json", text) == [
        "line 3: title must be a string of 1 to 200 characters, not 0",
        "line 3: x is not known here; known are title, episode_number, description, status, categories",
        "line 5: must be a JSON object",
        "line 6: 'title' is given twice",
    ]


@pytest.mark.parametrize(
    "suffix, text, says",
    [
        (".csv", "", "line 1: must be a header that names the columns"),
        (".csv", "titel;number\nPilot;1\n", "line 1: column 1 is 'titel;number', which is none of title"),
        (".csv", "episode_number\n1\n", "line 1: title is required as a column"),
        (".csv", "title,title\nA,B\n", "line 1: title stands twice in the header"),
        (".csv", "title" + ",x" * 50, "line 1: has 51 columns"),
        (".csv", 'title\n"A"B\n', "line 2: is no CSV"),
        (".csv", 'title\nA\n"B\n', "line 3: is no CSV: unexpected end"),
        (".csv", "title\nA\n" + "B" * 200_000, "line 3: is no CSV: field larger than field limit"),
        (".csv", b"title\nA\n\xff\n", "line 3: byte 9 of the file is no UTF-8"),
        (".csv", "title\n", "line 1: there is no episode in this file"),
        (".csv", "title\nA\x00B\n", "line 2: title must not contain the NUL character"),
        (".json", "", "line 1: must be one JSON array"),
        (".json", '{"title": "A"}', "line 1: must be one JSON array"),
        (".json", "[]", "line 1: there is no episode in this file"),
        (".json", "[\n", "line 2: is no JSON at column 1: expecting value"),
        (".json", '[{"title": "A"},\n]', "line 2: is no JSON at column 1: expecting value"),
        (".json", '[{"title": "A"}\n{"title": "B"}]', "line 2: must go on with a comma"),
        (".json", '[{"title": "A"}]\n[]', "line 2: nothing must stand behind the array"),
        (".json", '[{"title": "\\ud800"}]', "line 1: has half of a surrogate pair"),
        (".json", '[\n{"title": "A", "episode_number": ' + "9" * 5000 + "}]", "line 2: has a number"),
        (".json", '[{"title": "A", "episode_number": NaN}]', "line 1: episode_number must be an integer"),
        (".json", "[" * 100_000, "line 1: is nested too deeply"),
        (".json", json.dumps([{f"x{n}": n for n in range(60)}]), "line 1: has 60 fields; known are title"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_what_would_be_right(suffix, text, says):
    """
    One line in which reading ended, or the header that nothing can be read without.
    """
    assert says in mistakes(suffix, text)[0]


def test_no_more_mistakes_are_told_than_somebody_reads():
    """
    But all are counted.
    """
    told = mistakes(".csv", b"title\n" + b'"\x00"\n' * 400)
    assert len(told) == MAX_TOLD + 1
    assert told[-1] == "and 350 more"
    for text in (b"title,status\n" + b"A,done\n" * 400, b"t\x00,".replace(b"\x00", b"x" * 99) * 45):
        told = mistakes(".csv", text)
        assert told[-1].startswith("and ") and len("\n".join(told)) < MAX_TEXT + 100
        assert int(told[-1].split()[1]) + len(told) - 1 == (400 if b"status" in text else 47)


def test_no_more_episodes_are_read_than_one_file_may_have():
    """
    The transaction that creates them holds up the log for everybody.
    """
    assert len(parsed(".csv", "title\n" + "A\n" * MAX_EPISODES)) == MAX_EPISODES
    (told,) = mistakes(".csv", "title\n" + "A\n" * (MAX_EPISODES + 500))
    assert told == "line 5002: is beyond the 5,000 episodes that one file may have; split it"


def test_it_is_told_how_far_the_checking_has_got_and_may_be_ended_there():
    """
    Rising from nothing towards all; what the listener raises ends the work.
    """
    seen = []
    parse(".csv", b"title\n" + b"A\n" * 1000, seen.append)
    assert seen == [step / 10 for step in range(10)]

    def enough(fraction):
        raise TimeoutError(str(fraction))

    with pytest.raises(TimeoutError, match=r"0\.0"):
        parse(".csv", b"title\nA\n", enough)


@pytest.mark.parametrize("path, suffix", [("a.csv", ".csv"), ("b/A.JSON", ".json"), ("a.xlsx", None)])
def test_the_end_of_the_name_says_what_a_file_is(path, suffix):
    """
    In any case of its letters.
    """
    assert suffix_of(path) == suffix


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
TITLES = TEXT.filter(lambda text: text.strip())
CATEGORIES = st.lists(
    TITLES.filter(lambda text: ";" not in text).map(str.strip), max_size=5, unique=True
).map(list)
EPISODES = st.lists(
    st.fixed_dictionaries(
        {"title": TITLES},
        optional={
            "episode_number": st.integers(0, 2_147_483_647),
            "description": TITLES,
            "status": st.sampled_from(STATUSES),
            "categories": CATEGORIES.filter(bool),
        },
    ),
    min_size=1,
    max_size=5,
)


@given(EPISODES)
def test_what_was_written_is_read_whatever_characters_are_in_it(episodes):
    """
    CSV as Python's csv module and so as spreadsheets write it, and JSON, mean the same episodes.
    """
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["title", "episode_number", "description", "status", "categories"])
    writer.writeheader()
    writer.writerows({**one, "categories": ";".join(one.get("categories", []))} for one in episodes)
    expected = [parse_new(one) for one in episodes]
    assert parsed(".csv", file.getvalue()) == expected
    assert parsed(".json", json.dumps(episodes)) == expected


@given(st.sampled_from([".csv", ".json"]), st.binary(max_size=200) | TEXT.map(str.encode))
def test_whatever_stands_in_a_file_is_read_or_refused(suffix, data):
    """
    Never a crash.
    """
    found = parse(suffix, data, lambda fraction: None)
    assert isinstance(found, Refused | list)
