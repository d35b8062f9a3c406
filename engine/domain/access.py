"""Who may do what: roles and the identity that a token proves. Knows nothing of tokens."""

import enum

import attrs

from engine.domain.event import UserId


class Role(enum.IntEnum):
    """
    What a person may do; each includes the ones before it.
    """

    VIEWER = 1
    EDITOR = 2
    OPERATOR = 3

    @classmethod
    def named(cls, name: str) -> "Role | None":
        """
        The role of that name, in any case; None when there is none.
        """
        return cls.__members__.get(name.upper())


class Action(enum.Enum):
    """
    What somebody wants to do, as `authorize` hooks are asked.
    """

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    VIEW = "view"
    OPERATE = "operate"


LEAST_ROLE = {
    Action.READ: Role.VIEWER,
    Action.VIEW: Role.VIEWER,
    Action.CREATE: Role.EDITOR,
    Action.UPDATE: Role.EDITOR,
    Action.DELETE: Role.EDITOR,
    Action.OPERATE: Role.OPERATOR,
}


@attrs.frozen(kw_only=True)
class Identity:
    """
    An authenticated person; `expires_at` is the token's end in Unix seconds, None when it has none.
    """

    user: UserId
    name: str
    role: Role
    expires_at: float | None = None


def refusal(identity: Identity, action: Action) -> str | None:
    """
    Why the role does not allow the action, or None when it does.
    """
    least = LEAST_ROLE[action]
    if identity.role >= least:
        return None
    return f"the role {identity.role.name.lower()} may not {action.value}; {least.name.lower()} may"
