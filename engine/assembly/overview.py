"""The supervision tree as JSON: every supervisor with its children, and what their mailboxes hold."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from engine.runtime.child import ChildInfo, ChildState
from engine.runtime.mailbox import Mailbox, MailboxStatistics
from engine.runtime.supervisor import Supervisor

# Children of one supervisor that are shown; those that do not run come first.
SHOWN = 500

Mailboxes = Mapping[str, Mailbox[Any]]


def children_of(
    root: Supervisor, below: Mapping[str, Supervisor], mailboxes: Mapping[str, MailboxStatistics]
) -> list[dict[str, Any]]:
    """
    The children of `root`; those that are supervisors, by name, with their own.
    """

    def shown(child: ChildInfo) -> dict[str, Any]:
        found = {**attrs.asdict(child)}
        if (mailbox := mailboxes.get(child.name)) is not None:
            found["mailbox"] = attrs.asdict(mailbox)
        if child.kind == "supervisor" and (supervisor := below.get(child.name)) is not None:
            found |= _bounded(supervisor, shown)
        return found

    return [shown(child) for child in root.children()]


def _bounded(supervisor: Supervisor, shown: Any) -> dict[str, Any]:
    children = supervisor.children()
    first = sorted(children, key=lambda child: child.state is ChildState.RUNNING)[:SHOWN]
    return {"children": list(map(shown, first)), "omitted": len(children) - len(first)}


def counted(supervisors: Iterable[Supervisor]) -> dict[tuple[str, str], int]:
    """
    How many children there are, by kind and state.
    """
    found: dict[tuple[str, str], int] = {}
    for supervisor in supervisors:
        for child in supervisor.children():
            key = (child.kind, child.state.value)
            found[key] = found.get(key, 0) + 1
    return found


def together(totals: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """
    Totals by kind, of several supervisors.
    """
    found: dict[str, int] = {}
    for total in totals:
        for kind, count in total.items():
            found[kind] = found.get(kind, 0) + count
    return found
