"""Presence on one resource: which sessions are there, and so which viewers. Pure: no clock, no task."""

from collections.abc import Callable, Container, Mapping
from datetime import datetime, timedelta
from itertools import islice
from types import MappingProxyType
from typing import Any, NewType

import attrs

from engine.domain.event import UserId, iso

SessionId = NewType("SessionId", str)

# From the weakest to the strongest: a viewer shows the strongest state of all its sessions.
STATES = ("idle", "viewing", "editing")

# "Viewing with: Alice, Bob and 2 others".
NAMES = 2
DEFAULT_ACTIVE_FOR = timedelta(seconds=90)
DEFAULT_MOST = 20

MarksOf = Callable[[UserId], Mapping[str, str]]
NO_MARKS: Mapping[str, str] = MappingProxyType({})


def no_marks(user: UserId) -> Mapping[str, str]:
    """
    Nobody says anything of anybody.
    """
    return NO_MARKS


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
    # A viewer of whom nothing was heard for a while is shown, but not as active.
    is_active: bool = True
    # What plugins say of this person here, by plugin.
    marks: Mapping[str, str] = NO_MARKS

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
            "isActive": self.is_active,
            "state": self.state,
            **({"marks": dict(self.marks)} if self.marks else {}),
        }


@attrs.frozen(kw_only=True)
class Diff:
    """
    What changed since the last diff: viewers who came or changed, viewers who went, and how many there are.

    `names` are the first two by their coming. A diff of more than `most` changes is not `complete`: it
    shows as many, and who needs the list asks for it.
    """

    # All changes, for whoever keeps the list; what everyone is shown of them is bounded.
    changed: tuple[Viewer, ...]
    gone: tuple[Viewer, ...]
    total: int
    most: int
    names: tuple[str, ...] = ()

    @property
    def joined(self) -> tuple[Viewer, ...]:
        """
        Who came or changed, as far as everyone is shown it.
        """
        return self.changed[: self.most]

    @property
    def left(self) -> tuple[Viewer, ...]:
        """
        Who went, as far as everyone is shown it.
        """
        return self.gone[: self.most]

    @property
    def complete(self) -> bool:
        """
        Whether everyone is shown all of it.
        """
        return max(len(self.changed), len(self.gone)) <= self.most


@attrs.define(eq=False)
class Presence:
    """
    The viewers of one resource, derived from its sessions.

    `active_for`: how long after the last sign of life a session is active. `most`: changes in one diff.

    Rebuilt from the sessions' metas after a crash: nothing here is the only copy.
    """

    active_for: timedelta = DEFAULT_ACTIVE_FOR
    most: int = DEFAULT_MOST
    # What plugins say of a person, asked anew for each diff.
    marks: MarksOf = no_marks
    # By user, in the order of their coming.
    _sessions: dict[UserId, dict[SessionId, Meta]] = attrs.field(factory=dict, init=False)
    # What everyone has been told; a diff is the difference to it.
    _shown: dict[UserId, Viewer] = attrs.field(factory=dict, init=False)
    _shown_names: tuple[str, ...] = attrs.field(default=(), init=False)
    # Users whose sessions changed since the last diff: a diff costs what changed, not what is there.
    # In that order, so that the same changes make the same diff.
    _touched: dict[UserId, None] = attrs.field(factory=dict, init=False)

    def rebuild(self, metas: Mapping[SessionId, Meta], now: datetime) -> None:
        """
        Take the sessions that are there, as already told to everyone.
        """
        for session, meta in sorted(metas.items(), key=lambda item: item[1].joined_at):
            self.put(session, meta)
        self.diff(now)

    def put(self, session: SessionId, meta: Meta) -> None:
        """
        A session came, or changed its state.
        """
        self._sessions.setdefault(meta.user, {})[session] = meta
        self._touched[meta.user] = None

    def drop(self, session: SessionId, user: UserId) -> None:
        """
        A session went. Unknown ones are ignored: a connection may end twice.
        """
        sessions = self._sessions.get(user)
        if sessions is None or sessions.pop(session, None) is None:
            return
        if not sessions:
            del self._sessions[user]
        self._touched[user] = None

    def touch(self, user: UserId) -> None:
        """
        What plugins say of somebody has changed. Who is not here is ignored.
        """
        if user in self._sessions:
            self._touched[user] = None

    def meta(self, session: SessionId, user: UserId) -> Meta | None:
        """
        What is known of a session, if it is present.
        """
        return self._sessions.get(user, {}).get(session)

    def viewers(self, now: datetime, most: int | None = None) -> list[Viewer]:
        """
        Who is here now, in the order of their coming; the first `most`, or everyone.
        """
        return [self._viewer(sessions, now) for sessions in islice(self._sessions.values(), most)]

    def notice_silence(self, now: datetime) -> None:
        """
        Find those who are shown as active and are no more, or the reverse, for the next diff.
        """
        for user, shown in self._shown.items():
            # Who has gone since the last diff is in the next one anyway.
            sessions = self._sessions.get(user)
            if sessions is not None and self._viewer(sessions, now).is_active != shown.is_active:
                self._touched[user] = None

    def absent(self, there: Container[SessionId]) -> list[tuple[SessionId, UserId]]:
        """
        Which sessions are not among those that are there, with their users: nobody has told that they went.
        """
        return [
            (session, user)
            for user, sessions in self._sessions.items()
            for session in sessions
            if session not in there
        ]

    @property
    def total(self) -> int:
        """
        How many viewers are here now.
        """
        return len(self._sessions)

    def diff(self, now: datetime) -> Diff | None:
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
            viewer = self._viewer(sessions, now)
            self._shown[user] = viewer
            if shown is None or _shows(shown) != _shows(viewer):
                joined.append(viewer)
        if not self._touched:
            return None
        self._touched.clear()
        names = tuple(viewer.name for viewer in self.viewers(now, NAMES))
        # Who left and came back since the last diff has lost the place among the first.
        if not joined and not left and names == self._shown_names:
            return None
        self._shown_names = names
        return Diff(
            changed=tuple(joined),
            gone=tuple(left),
            total=self.total,
            most=self.most,
            names=names,
        )

    def _viewer(self, sessions: Mapping[SessionId, Meta], now: datetime) -> Viewer:
        metas = sessions.values()
        newest = max(metas, key=lambda meta: meta.joined_at)
        state = max((meta.state for meta in metas), key=STATES.index)
        active_at = max(meta.active_at for meta in metas)
        return Viewer(
            user=newest.user,
            name=newest.name,
            state=state,
            viewed_at=min(meta.joined_at for meta in metas),
            active_at=active_at,
            is_active=state != "idle" and now - active_at <= self.active_for,
            marks=self.marks(newest.user),
        )


@attrs.frozen(kw_only=True)
class ViewerPage:
    """
    Some of those who are here, by their user ids; the last of them if there are more; and how many in all.
    """

    viewers: list[Viewer]
    next_after: UserId | None
    total: int


def page(
    metas: Mapping[SessionId, Meta],
    *,
    now: datetime,
    active_for: timedelta,
    after: str,
    limit: int,
    marks: MarksOf = no_marks,
) -> ViewerPage:
    """
    The viewers whom these sessions make whose user ids come after `after`, `limit` of them at most.
    """
    presence = Presence(active_for=active_for, marks=marks)
    for session, meta in metas.items():
        presence.put(session, meta)
    everyone = sorted(presence.viewers(now), key=lambda viewer: viewer.user)
    rest = [viewer for viewer in everyone if viewer.user > after]
    shown = rest[:limit]
    return ViewerPage(
        viewers=shown,
        next_after=shown[-1].user if len(rest) > limit else None,
        total=len(everyone),
    )


def _shows(viewer: Viewer) -> tuple[str, str, bool, Mapping[str, str]]:
    return viewer.state, viewer.name, viewer.is_active, viewer.marks
