"""Presence on one resource: which sessions are there, and so which viewers. Pure: no clock, no task."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NewType

import attrs

from engine.domain.event import UserId, iso

SessionId = NewType("SessionId", str)

# From the weakest to the strongest: a viewer shows the strongest state of all its sessions.
STATES = ("idle", "viewing", "editing")


@attrs.frozen(kw_only=True)
class Meta:
    """
    What is known of one session that is present.
    """

    user: UserId
    name: str
    state: str = "viewing"
    joined_at: datetime
    active_at: datetime


@attrs.frozen(kw_only=True)
class Viewer:
    """
    A person who is present: all sessions of one user are one viewer.
    """

    user: UserId
    name: str
    state: str
    viewed_at: datetime
    active_at: datetime

    def to_json(self, resource_id: str) -> dict[str, Any]:
        """
        The viewer as frames and REST show it.
        """
        return {
            "id": f"{resource_id}:{self.user}",
            "userId": self.user,
            "userName": self.name,
            "resourceType": "episode",
            "resourceId": resource_id,
            "viewedAt": iso(self.viewed_at),
            "lastActive": iso(self.active_at),
            "isActive": self.state != "idle",
            "state": self.state,
        }


@attrs.frozen(kw_only=True)
class Diff:
    """
    What changed since the last diff: viewers who came or changed, viewers who went, and how many there are.
    """

    joined: tuple[Viewer, ...]
    left: tuple[Viewer, ...]
    total: int


@attrs.define(eq=False)
class Presence:
    """
    The viewers of one resource, derived from its sessions.

    Rebuilt from the sessions' metas after a crash: nothing here is the only copy.
    """

    _sessions: dict[UserId, dict[SessionId, Meta]] = attrs.field(factory=dict, init=False)
    # What everyone has been told; a diff is the difference to it.
    _shown: dict[UserId, Viewer] = attrs.field(factory=dict, init=False)
    # Users whose sessions changed since the last diff: a diff costs what changed, not what is there.
    _touched: set[UserId] = attrs.field(factory=set, init=False)

    @classmethod
    def rebuilt(cls, metas: Mapping[SessionId, Meta]) -> "Presence":
        """
        The presence that these sessions make, as already told to everyone.
        """
        presence = cls()
        for session, meta in metas.items():
            presence.put(session, meta)
        presence.diff()
        return presence

    def put(self, session: SessionId, meta: Meta) -> None:
        """
        A session came, or changed its state.
        """
        self._sessions.setdefault(meta.user, {})[session] = meta
        self._touched.add(meta.user)

    def drop(self, session: SessionId, user: UserId) -> None:
        """
        A session went. Unknown ones are ignored: a connection may end twice.
        """
        sessions = self._sessions.get(user)
        if sessions is None or sessions.pop(session, None) is None:
            return
        if not sessions:
            del self._sessions[user]
        self._touched.add(user)

    def viewers(self) -> list[Viewer]:
        """
        Everyone who is here now, in the order of their coming.
        """
        viewers = [_viewer(sessions.values()) for sessions in self._sessions.values()]
        return sorted(viewers, key=lambda viewer: (viewer.viewed_at, viewer.user))

    @property
    def total(self) -> int:
        """
        How many viewers are here now.
        """
        return len(self._sessions)

    def diff(self) -> Diff | None:
        """
        What to tell everyone now; None when nothing that shows has changed. Telling is assumed.
        """
        joined, left = [], []
        for user in self._touched:
            sessions = self._sessions.get(user)
            shown = self._shown.pop(user, None)
            if sessions is None:
                if shown is not None:
                    left.append(shown)
                continue
            viewer = _viewer(sessions.values())
            self._shown[user] = viewer
            if shown is None or (shown.state, shown.name) != (viewer.state, viewer.name):
                joined.append(viewer)
        self._touched.clear()
        if not joined and not left:
            return None
        return Diff(joined=tuple(joined), left=tuple(left), total=self.total)


def viewers_of(metas: Iterable[Meta]) -> list[Viewer]:
    """
    The viewers whom these sessions make.
    """
    presence = Presence()
    for number, meta in enumerate(metas):
        presence.put(SessionId(str(number)), meta)
    return presence.viewers()


def _viewer(metas: Iterable[Meta]) -> Viewer:
    sessions = list(metas)
    newest = max(sessions, key=lambda meta: meta.joined_at)
    return Viewer(
        user=newest.user,
        name=newest.name,
        state=max((meta.state for meta in sessions), key=STATES.index),
        viewed_at=min(meta.joined_at for meta in sessions),
        active_at=max(meta.active_at for meta in sessions),
    )
