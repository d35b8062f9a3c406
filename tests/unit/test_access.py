"""Roles: each includes those before it, and a refusal says which role would do."""

import pytest

from engine.domain.access import LEAST_ROLE, Action, Identity, Role, refusal
from engine.domain.event import UserId

ALLOWED = {
    Role.VIEWER: {Action.READ, Action.VIEW},
    Role.EDITOR: {Action.READ, Action.VIEW, Action.CREATE, Action.UPDATE, Action.DELETE},
    Role.OPERATOR: set(Action),
}


def identity(role: Role) -> Identity:
    return Identity(user=UserId("alice@example.com"), name="Alice Smith", role=role)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_a_role_may_do_what_its_row_says_and_nothing_else(role, action):
    """
    viewer < editor < operator, for each action.
    """
    assert (refusal(identity(role), action) is None) == (action in ALLOWED[role])


def test_every_action_has_a_least_role():
    """
    An action that nobody thought of must not be allowed by accident, nor crash a request.
    """
    assert set(LEAST_ROLE) == set(Action)


def test_a_refusal_says_who_may():
    """
    The text is for the person who asked.
    """
    assert refusal(identity(Role.VIEWER), Action.DELETE) == "the role viewer may not delete; editor may"
    assert refusal(identity(Role.EDITOR), Action.OPERATE) == "the role editor may not operate; operator may"


@pytest.mark.parametrize(
    "name, role", [("viewer", Role.VIEWER), ("Editor", Role.EDITOR), ("OPERATOR", Role.OPERATOR)]
)
def test_a_role_is_known_by_its_name_in_any_case(name, role):
    """
    Tokens of other issuers may spell it their way.
    """
    assert Role.named(name) is role


@pytest.mark.parametrize("name", ["", "admin", "viewer ", "1", "__class__"])
def test_an_unknown_role_is_none(name):
    """
    Whoever asks decides what an unknown role is worth.
    """
    assert Role.named(name) is None
