"""Presence: several sessions of one person are one viewer, and diffs alone keep a client's copy right."""

from datetime import UTC, datetime, timedelta

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.domain.event import UserId
from engine.domain.presence import STATES, Diff, Meta, Presence, SessionId, page

ALICE, BOB = UserId("alice@example.com"), UserId("bob@example.com")
A1, A2, A3, B1 = SessionId("a1"), SessionId("a2"), SessionId("a3"), SessionId("b1")
NOON = datetime(2026, 1, 7, 12, tzinfo=UTC)


def meta(user=ALICE, name="Alice", state="viewing", *, joined=0, active=0):
    return Meta(
        user=user,
        name=name,
        state=state,
        joined_at=NOON + timedelta(seconds=joined),
        active_at=NOON + timedelta(seconds=active),
    )


def rebuilt(metas):
    presence = Presence()
    presence.rebuild(metas, NOON)
    return presence


def viewers(metas):
    return rebuilt(metas).viewers(NOON)


def told(diff):
    assert diff is not None
    return [viewer.user for viewer in diff.joined], [viewer.user for viewer in diff.left], diff.total


def test_a_second_session_of_a_viewer_is_nobody_new():
    """
    Nobody is told that Alice opened another tab, or closed one of two.
    """
    presence = Presence()
    presence.put(A1, meta())
    assert told(presence.diff(NOON)) == ([ALICE], [], 1)
    presence.put(A2, meta(joined=1))
    assert presence.diff(NOON) is None
    presence.drop(A1, ALICE)
    assert presence.diff(NOON) is None
    presence.drop(A2, ALICE)
    assert told(presence.diff(NOON)) == ([], [ALICE], 0)


def test_a_viewer_shows_the_strongest_state_and_the_newest_name_of_its_sessions():
    """
    Present since the first session came, active as lately as any.
    """
    first = meta(state="idle", joined=0, active=9)
    second = meta(name="Alice S.", state="editing", joined=5, active=6)
    third = meta(name="Al", state="viewing", joined=2, active=7)
    (viewer,) = viewers({A1: first, A2: second, A3: third})
    assert (viewer.name, viewer.state) == ("Alice S.", "editing")
    assert (viewer.viewed_at, viewer.active_at) == (first.joined_at, first.active_at)


def test_whoever_comes_and_goes_between_two_diffs_is_not_told():
    """
    Diffs are coalesced: a reload of the page is silence.
    """
    presence = Presence()
    presence.put(A1, meta())
    presence.drop(A1, ALICE)
    assert presence.diff(NOON) is None
    presence.put(A1, meta())
    presence.diff(NOON)
    presence.drop(A1, ALICE)
    presence.put(A2, meta(joined=1))
    assert presence.diff(NOON) is None


def test_a_changed_state_is_told_as_joined_and_a_heartbeat_is_not():
    """
    What shows is told; being active a little later does not show.
    """
    presence = Presence()
    presence.put(A1, meta())
    presence.diff(NOON)
    presence.put(A1, meta(active=30))
    assert presence.diff(NOON) is None
    presence.put(A1, meta(state="editing", active=31))
    diff = presence.diff(NOON)
    assert told(diff) == ([ALICE], [], 1)
    assert [viewer.state for viewer in diff.joined] == ["editing"]


def test_dropping_what_is_not_there_changes_nothing():
    """
    A connection may end twice.
    """
    presence = Presence()
    presence.drop(A1, ALICE)
    presence.put(A1, meta())
    presence.diff(NOON)
    presence.drop(A2, ALICE)
    presence.drop(B1, BOB)
    assert presence.diff(NOON) is None
    assert presence.total == 1


def test_what_was_rebuilt_counts_as_told():
    """
    After a crash only what is new is a diff.
    """
    presence = rebuilt({A1: meta(), B1: meta(BOB, "Bob", joined=1)})
    assert presence.diff(NOON) is None
    assert [viewer.user for viewer in presence.viewers(NOON)] == [ALICE, BOB]
    presence.drop(A1, ALICE)
    assert told(presence.diff(NOON)) == ([], [ALICE], 1)


def test_a_viewer_looks_as_frontends_expect():
    """
    The presence record, with the state added.
    """
    (viewer,) = viewers({A1: meta(active=2)})
    assert viewer.to_json("e1") == {
        "id": f"e1:{ALICE}",
        "userId": ALICE,
        "userName": "Alice",
        "resourceType": "episode",
        "resourceId": "e1",
        "viewedAt": "2026-01-07T12:00:00.000Z",
        "lastActive": "2026-01-07T12:00:02.000Z",
        "isActive": True,
        "state": "viewing",
    }
    (idle,) = viewers({A1: meta(state="idle")})
    assert not idle.to_json("e1")["isActive"]


@attrs.define
class Oracle:
    """
    Presence the slow way: all sessions in one list, everything computed anew.
    """

    sessions: dict = attrs.field(factory=dict)

    def shown(self):
        users = {one.user for one in self.sessions.values()}
        return {user: self._shown(user) for user in users}

    def _shown(self, user):
        metas = [one for one in self.sessions.values() if one.user == user]
        newest = max(one.joined_at for one in metas)
        names = [one.name for one in metas if one.joined_at == newest]
        return names[0], STATES[max(STATES.index(one.state) for one in metas)]


@attrs.define
class Copy:
    """
    What a client knows that was told everyone once, and diffs since.
    """

    viewers: dict = attrs.field(factory=dict)
    names: tuple = ()

    def apply(self, diff: Diff | None):
        if diff is None:
            return
        # One who left and came back between two diffs is the same, but not the first any more.
        assert diff.joined or diff.left or diff.names != self.names
        self.names = diff.names
        for viewer in diff.left:
            del self.viewers[viewer.user]
        for viewer in diff.joined:
            self.viewers[viewer.user] = (viewer.name, viewer.state)
        assert diff.total == len(self.viewers)


# Few, so that the same come and go again; a session belongs to one user for ever.
SESSIONS = [(SessionId(f"{user}{number}"), UserId(user)) for user in "ab" for number in range(2)]
puts = st.tuples(
    st.just("put"), st.sampled_from(SESSIONS), st.sampled_from(STATES), st.sampled_from(["x", "y"])
)
drops = st.tuples(st.just("drop"), st.sampled_from(SESSIONS))
diffs = st.tuples(st.just("diff"))


@example(
    [
        ("put", (SessionId("a1"), UserId("a")), "editing", "y"),
        ("put", (SessionId("b0"), UserId("b")), "idle", "x"),
        ("diff",),
        ("drop", (SessionId("a1"), UserId("a"))),
        ("put", (SessionId("a0"), UserId("a")), "editing", "y"),
    ]
)
@settings(max_examples=300, deadline=None)
@given(st.lists(puts | drops | diffs, max_size=40))
def test_a_client_that_applies_the_diffs_knows_who_is_there(steps):
    """
    Whatever happens between two diffs: after each the client's copy is what the sessions make.
    """
    presence, oracle, client = Presence(), Oracle(), Copy()
    for number, step in enumerate([*steps, ("diff",)]):
        match step:
            case "put", (session, user), state, name:
                before = oracle.sessions.get(session)
                # As sessions do: the time of coming stays when the state changes.
                joined = number if before is None else (before.joined_at - NOON).seconds
                put = meta(user, name, state, joined=joined, active=number)
                oracle.sessions[session] = put
                presence.put(session, put)
            case "drop", (session, user):
                oracle.sessions.pop(session, None)
                presence.drop(session, user)
            case ("diff",):
                client.apply(presence.diff(NOON))
                assert client.viewers == oracle.shown()
                assert presence.diff(NOON) is None
        shown = {viewer.user: (viewer.name, viewer.state) for viewer in presence.viewers(NOON)}
        assert shown == oracle.shown()
        assert presence.total == len(shown)
    by_user = {viewer.user: viewer for viewer in viewers(oracle.sessions)}
    assert by_user == {viewer.user: viewer for viewer in presence.viewers(NOON)}


def test_a_viewer_of_whom_nothing_is_heard_is_shown_as_not_active_until_it_is():
    """
    Silence shows, once; the next sign of life shows too.
    """
    presence = Presence(active_for=timedelta(seconds=90))
    presence.put(A1, meta())
    presence.diff(NOON)
    presence.notice_silence(NOON + timedelta(seconds=90))
    assert presence.diff(NOON + timedelta(seconds=90)) is None
    late = NOON + timedelta(seconds=91)
    presence.notice_silence(late)
    diff = presence.diff(late)
    assert told(diff) == ([ALICE], [], 1)
    assert not diff.joined[0].is_active
    presence.notice_silence(late)
    assert presence.diff(late) is None
    presence.put(A1, meta(active=91))
    assert presence.diff(late).joined[0].is_active


def test_a_diff_shows_a_bounded_number_of_changes_and_says_so():
    """
    However many come at once, a message is of bounded size; who keeps the table gets all of it.
    """
    presence = Presence(most=3)
    for number in range(5):
        presence.put(SessionId(str(number)), meta(UserId(f"user{number}"), f"User {number}", joined=number))
    diff = presence.diff(NOON)
    assert (len(diff.joined), len(diff.changed), diff.total, diff.complete) == (3, 5, 5, False)
    assert diff.names == ("User 0", "User 1")
    presence.drop(SessionId("0"), UserId("user0"))
    diff = presence.diff(NOON)
    assert (len(diff.left), diff.total, diff.complete) == (1, 4, True)
    assert diff.names == ("User 1", "User 2")


@given(st.sets(st.integers(0, 50)), st.integers(1, 20))
def test_pages_show_everyone_once(users, limit):
    """
    Page after page by user id, until there is no next.
    """
    metas = {SessionId(f"{user}-{tab}"): meta(UserId(f"u{user:02}")) for user in users for tab in range(2)}
    seen, after = [], ""
    while True:
        found = page(metas, now=NOON, active_for=timedelta(90), after=after, limit=limit)
        seen += [viewer.user for viewer in found.viewers]
        assert found.total == len(users)
        if found.next_after is None:
            break
        assert len(found.viewers) == limit
        after = found.next_after
    assert seen == sorted(f"u{user:02}" for user in users)
