"""Those who write to a simulated engine, and how they are told that they may not."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.domain.access import Identity, Role
from engine.domain.event import Request, UserId
from engine.domain.fields import FieldError, Invalid
from engine.domain.world import new_id
from engine.errors import EngineError
from engine.store.events import Author


class RefusedError(EngineError):
    """
    A plugin, or the engine itself, refuses a write; `errors` has the bad fields.
    """

    def __init__(self, text: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(text)
        self.errors = tuple(errors)


def identity(user: str, role: str) -> Identity:
    """
    A person, by id and role.
    """
    known = Role.named(role)
    if known is None:
        raise ValueError(f"role must be viewer, editor or operator, not {role!r}")
    return Identity(user=UserId(user), name=user.partition("@")[0].title(), role=known)


def author(user: str) -> Author:
    """
    A person who writes, in a request of its own.
    """
    return Author(user=UserId(user), request=Request(mutation_id=new_id()))


def checked(fields: Mapping[str, Any] | Invalid) -> Mapping[str, Any]:
    """
    The fields, if they are good. Raises RefusedError.
    """
    if isinstance(fields, Invalid):
        raise RefusedError("; ".join(f"{one.field}: {one.message}" for one in fields.errors), fields.errors)
    return fields
