"""The lease on a simulated engine, whose database is played by a few lines."""

import greenroom_edit_lease as lease
import pytest

from engine.testing import Refused, RefusedError, simulate


class Table:
    """
    What the statements do, for one episode; time is the engine's.
    """

    def __init__(self, engine):
        self.engine = engine
        self.holder, self.token, self.ends = None, 0, -1.0
        engine.script.answer("insert into edit_leases", self.acquire)
        engine.script.answer("select holder", lambda params: self.row() if self.is_held else [])
        engine.script.answer("interval(secs => %(lasts)s)\nwhere episode_id", self.renew)
        engine.script.answer("set expires_at = now()\n", self.release)

    @property
    def is_held(self):
        return self.ends > self.engine.now

    def row(self):
        return [{"holder": self.holder, "token": self.token, "expires_at": f"{self.ends:.0f}"}]

    def acquire(self, params):
        if self.is_held and self.holder != params["user"]:
            return []
        self.token += not self.is_held
        self.holder, self.ends = params["user"], self.engine.now + params["lasts"]
        return self.row()

    def renew(self, params):
        if not self.is_held or (self.holder, self.token) != (params["user"], params["token"]):
            return []
        self.ends = self.engine.now + params["lasts"]
        return self.row()

    def release(self, params):
        row = self.renew(params)
        self.ends = self.engine.now
        return row


def run(scenario, **options):
    return simulate(scenario, plugins={"edit-lease": lease}, options=options)


def test_one_edits_and_the_others_see_who_and_wait():
    """
    Until it is given back.
    """

    async def scenario(engine):
        Table(engine)
        episode = (await engine.create("Pilot")).id
        ann, bob = engine.client("ann@example.com", "editor"), engine.client("bob@example.com", "editor")
        await ann.be_present(episode)
        await bob.be_present(episode)
        given = await ann.call("edit-lease.acquire", {"episode": episode})
        refused = await bob.call("edit-lease.acquire", {"episode": episode})
        assert (refused.code, "ann@example.com is editing" in refused.message) == ("held", True)
        await engine.advance(1)
        [seen] = [one for one in bob.viewers[-1].joined if one.user == "ann@example.com"]
        assert seen.marks == {"edit-lease": f"editing until {given['expires_at']}"}

        token = {"x-edit-lease": str(given["token"])}
        await engine.change(episode, user="ann@example.com", headers=token, title="Ann's")
        with pytest.raises(RefusedError, match=r"ann@.* is editing"):
            await engine.change(episode, user="bob@example.com", title="Bob's")
        await ann.call("edit-lease.release", {"episode": episode, "token": given["token"]})
        assert (await bob.call("edit-lease.acquire", {"episode": episode}))["token"] == given["token"] + 1

    run(scenario)


def test_a_tab_that_slept_cannot_write_with_its_old_token():
    """
    Not even when its person holds the lease anew.
    """

    async def scenario(engine):
        Table(engine)
        episode = (await engine.create("Pilot")).id
        ann = engine.client("ann@example.com", "editor")
        old = await ann.call("edit-lease.acquire", {"episode": episode})
        await engine.advance(3600)
        new = await ann.call("edit-lease.acquire", {"episode": episode})
        assert new["token"] > old["token"]
        with pytest.raises(RefusedError, match="must be the token of your lease"):
            await engine.change(
                episode, user="ann@example.com", headers={"x-edit-lease": str(old["token"])}, title="Late"
            )
        lost = await ann.call("edit-lease.renew", {"episode": episode, "token": old["token"]})
        assert lost == Refused("lost", "the lease is not yours any more; acquire it again")

    run(scenario)


def test_without_a_lease_one_may_write_unless_it_is_required():
    """
    As the operator has it.
    """

    async def scenario(engine):
        Table(engine)
        episode = (await engine.create("Pilot")).id
        await engine.change(episode, title="Second take")

    run(scenario)
    with pytest.raises(ExceptionGroup) as caught:
        run(scenario, **{"plugins.edit-lease.required": True})
    assert caught.group_contains(RefusedError, match="take the lease first")


def test_what_is_no_wish_is_refused_with_what_would_be_right():
    """
    `args` is whatever a client sends.
    """

    async def scenario(engine):
        ann = engine.client("ann@example.com")
        for args in (None, [], {"episode": "x"}, {"episode": 5}):
            assert (await ann.call("edit-lease.acquire", args)).code == "bad_args"
        episode = (await engine.create("Pilot")).id
        assert (await ann.call("edit-lease.renew", {"episode": episode, "token": "1"})).code == "bad_args"
        assert (await ann.call("edit-lease.steal", {})).code == "unknown_call"

    run(scenario)
