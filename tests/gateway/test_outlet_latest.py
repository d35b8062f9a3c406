"""What only counts until something newer comes: who is behind gets the latest, once it has caught up."""

from gateway.http.frames import binary_frame, text_frame
from gateway.http.outlet import LatestOutlet
from tests.gateway.test_outlet import connected


async def test_with_nothing_waiting_the_latest_goes_out_like_anything_else():
    """
    A client that keeps up is told every change.
    """
    async with connected() as pair:
        presence = LatestOutlet(outlet=pair.outlet, key="presence")
        assert presence.push(text_frame(b"one")) and presence.push(text_frame(b"two"))
        assert await pair.receive(10) == text_frame(b"one") + text_frame(b"two")


async def test_a_client_that_is_behind_gets_the_latest_of_each_key_after_what_waited():
    """
    However often presence changes meanwhile: it takes no room in the backlog, and events are all there.
    """
    async with connected() as pair:
        expected = pair.fill()
        before = pair.outlet.pending
        for number in range(10_000):
            assert pair.outlet.push_latest("presence a", text_frame(b"a%d" % number))
        assert pair.outlet.push_latest("presence b", text_frame(b"b"))
        assert pair.outlet.pending == before
        assert pair.outlet.push(text_frame(b"event"))
        expected += text_frame(b"event") + text_frame(b"a9999") + text_frame(b"b")
        assert await pair.receive(len(expected)) == expected
        assert pair.outlet.pending == 0
        assert pair.outlet.push_latest("presence a", text_frame(b"direct"))
        assert await pair.receive(8) == text_frame(b"direct")


async def test_a_client_that_is_gone_takes_no_latest():
    """
    The hub drops it, as for any other push.
    """
    async with connected() as pair:
        pair.fill()
        pair.outlet.kill()
        assert not pair.outlet.push_latest("presence", binary_frame(b"x"))
