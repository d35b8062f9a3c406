"""Checks of single fields: what passes, and that every mistake is named at once, with what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.fields import (
    FieldError,
    Invalid,
    check_fields,
    list_of,
    one_of,
    text,
    whole_number,
)

TITLE = text(least=1, most=5)
CHECKS = {
    "title": TITLE,
    "number": whole_number(least=0, most=9, optional=True),
    "status": one_of(("draft", "done")),
}


def message(check, value):
    with pytest.raises(ValueError) as raised:
        check(value)
    return str(raised.value)


@pytest.mark.parametrize(
    "value, kept", [("a", "a"), ("  a b ", "a b"), ("äöüß€", "äöüß€"), ("🎬" * 5, "🎬" * 5)]
)
def test_a_text_is_kept_without_the_blanks_at_its_ends(value, kept):
    """
    Length is counted in characters, not bytes, of what is kept.
    """
    assert TITLE(value) == kept


@pytest.mark.parametrize(
    "value", ["", "   ", "\t\n", "123456", None, 7, 1.5, True, ["a"], {"a": 1}, b"a"], ids=repr
)
def test_a_text_that_is_none_or_too_short_or_too_long_is_refused_with_the_rule(value):
    """
    The message says what would be right.
    """
    assert message(TITLE, value).startswith("must be a string of 1 to 5 characters")


def test_a_text_cannot_hold_what_the_database_cannot():
    """
    PostgreSQL stores no NUL: said here, not by an error 500.
    """
    assert "NUL" in message(TITLE, "a\x00b")


def test_only_an_optional_text_may_be_null():
    """
    Null means "none", an empty string an empty text.
    """
    optional = text(least=0, most=5, optional=True)
    assert optional(None) is None
    assert optional("  ") == ""
    assert message(optional, 3).endswith("or null")


@pytest.mark.parametrize("value", [0, 9, None])
def test_a_number_in_range_or_null_passes(value):
    """
    The bounds belong to the range.
    """
    assert CHECKS["number"](value) == value


@pytest.mark.parametrize("value", [-1, 10, 10**30, 1.0, "1", True, False, [], {}], ids=repr)
def test_what_is_not_a_whole_number_in_range_is_refused(value):
    """
    Neither booleans nor floats pass as integers.
    """
    assert message(CHECKS["number"], value) == "must be an integer from 0 to 9, or null"
    assert message(whole_number(least=0, most=9), value) == "must be an integer from 0 to 9"


def test_only_an_optional_number_may_be_null():
    """
    And the rule does not offer it elsewhere.
    """
    assert message(whole_number(least=0, most=9), None) == "must be an integer from 0 to 9"


@pytest.mark.parametrize("value", ["Draft", "", None, 1, ["draft"], {"draft": 1}], ids=repr)
def test_a_word_that_is_not_one_of_the_words_is_refused_with_the_list(value):
    """
    Exact spelling; values that cannot be compared to a word are refused like others.
    """
    assert CHECKS["status"]("draft") == "draft"
    assert message(CHECKS["status"], value) == "must be one of draft, done"


def test_a_list_names_the_item_that_is_wrong():
    """
    The position, counted from 0, and the item's own rule.
    """
    check = list_of(TITLE, most=3)
    assert check([" a", "b "]) == ["a", "b"]
    assert check([]) == []
    assert message(check, ["a", ""]) == "item 1 must be a string of 1 to 5 characters, not 0"
    for value in (["a"] * 4, ("a",), "a", None, {"a": 1}):
        assert message(check, value) == "must be a list of at most 3 items"


def test_a_list_of_different_items_compares_what_is_kept():
    """
    "a" and "a " are one category.
    """
    check = list_of(TITLE, most=3, unique=True)
    assert check(["a", "b"]) == ["a", "b"]
    assert message(check, ["a", "a "]) == "must not name anything twice"


def test_every_mistake_is_named_at_once():
    """
    Missing, unknown and bad fields in one answer, so that a form is corrected in one go.
    """
    found = check_fields({"number": -1, "status": "x", "colour": "red"}, CHECKS, required=("title",))
    assert found == Invalid(
        (
            FieldError("title", "is required"),
            FieldError("number", "must be an integer from 0 to 9, or null"),
            FieldError("status", "must be one of draft, done"),
            FieldError("colour", "is not known here; known are title, number, status"),
        )
    )


@pytest.mark.parametrize("given", [None, [], "title", 3, [["title", "a"]]], ids=repr)
def test_what_is_not_an_object_is_refused_as_a_whole(given):
    """
    One error, for no field in particular.
    """
    assert check_fields(given, CHECKS) == Invalid((FieldError("", "must be a JSON object"),))


def test_right_fields_come_back_checked_and_only_those_that_were_given():
    """
    A patch must be able to tell what was not said from what was said to be null.
    """
    assert check_fields({"title": " a ", "number": None}, CHECKS) == {"title": "a", "number": None}
    assert check_fields({}, CHECKS) == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_whatever_is_given_is_checked_or_refused_but_never_a_crash(value):
    """
    Every check knows every kind of JSON value.
    """
    checks = {**CHECKS, "list": list_of(TITLE, most=2, unique=True)}
    for name in checks:
        found = check_fields({name: value}, checks)
        assert isinstance(found, Invalid) or found.keys() == {name}
