"""Much at once for a client that is not behind: a replay may be more than what may wait, and take longer."""

import pytest
import trio
import trio.testing

from gateway.engineio.outlet import EngineOutlet
from gateway.http.frames import binary_frame, frames_of, payloads, text_frame
from gateway.http.queue_outlet import QueueOutlet
from gateway.http.wire import PIECE
from tests.gateway.test_outlet import TOO_SLOW, connected

FRAMES = [binary_frame(b"%04d" % number * 250) for number in range(300)]
REPLAY = b"".join(FRAMES)


async def test_a_replay_larger_than_the_limit_is_not_too_slow():
    """
    Whoever missed much and reads gets it, and what comes behind it within the limit.
    """
    async with connected(limit=10_000) as pair:
        assert pair.outlet.push(REPLAY)
        assert pair.outlet.push(binary_frame(bytes(9000)))
        assert await pair.receive(len(REPLAY)) == REPLAY
        assert await pair.receive(9004) == binary_frame(bytes(9000))
        assert pair.outlet.is_open and pair.slow == []


async def test_behind_a_replay_the_limit_holds():
    """
    Nobody may use it to have more wait than that: whole frames, then 4413.
    """
    async with connected(limit=10_000) as pair:
        assert pair.outlet.push(REPLAY)
        assert pair.outlet.push(binary_frame(bytes(9000)))
        assert not pair.outlet.push(binary_frame(bytes(9000)))
        received = await pair.receive_rest()
        assert received.endswith(TOO_SLOW)
        whole = len(received.removesuffix(TOO_SLOW))
        assert whole % len(FRAMES[0]) == 0
        assert 0 < whole <= 2 * PIECE
        assert REPLAY.startswith(received.removesuffix(TOO_SLOW))


async def test_a_slow_line_has_the_deadline_for_each_piece_of_a_replay(autojump_clock):
    """
    Three times as long as the deadline in all, and what was pushed meanwhile is not late for that.
    """
    async with connected(limit=10_000, deadline=5) as pair:
        assert pair.outlet.push(REPLAY)
        assert pair.outlet.push(b"live")
        received = b""
        while len(received) < len(REPLAY) + 4:
            await trio.sleep(1)
            received += await pair.receive(min(20_000, len(REPLAY) + 4 - len(received)))
        assert received == REPLAY + b"live"
        assert pair.outlet.is_open and pair.slow == []


async def test_a_client_that_stops_within_a_replay_is_too_slow(autojump_clock):
    """
    At the deadline of the piece that it does not take; what is dropped are whole frames.
    """
    async with connected(limit=10_000, deadline=5) as pair:
        assert pair.outlet.push(REPLAY)
        received = await pair.receive(100_000)
        await trio.sleep(4.9)
        assert pair.outlet.is_open
        await trio.sleep(0.2)
        assert not pair.outlet.is_open
        received += await pair.receive_rest()
        assert received.endswith(TOO_SLOW)
        assert len(received.removesuffix(TOO_SLOW)) % len(FRAMES[0]) == 0


def test_pieces_are_whole_frames():
    """
    As many as are no longer than a piece; a frame that is longer by itself is one.
    """
    assert [bytes(piece) for piece in frames_of(REPLAY, len(FRAMES[0]) * 2 + 1)] == [
        FRAMES[number] + FRAMES[number + 1] for number in range(0, 300, 2)
    ]
    odd = text_frame(b"") + binary_frame(bytes(70_000)) + text_frame(b"x" * 125)
    assert [len(piece) for piece in frames_of(odd, 10)] == [2, 70_010, 127]


@pytest.mark.parametrize(
    "outlet",
    [QueueOutlet(limit=1000, split=payloads), EngineOutlet(limit=1000)],
    ids=["TLS and HTTP/2", "polling"],
)
async def test_where_bytes_are_queued_the_same_holds(outlet):
    """
    A replay onto nothing does not count; what comes behind it does.
    """
    assert outlet.push(REPLAY)
    assert outlet.push(binary_frame(bytes(800)))
    assert outlet.push(binary_frame(bytes(150)))
    assert [outlet.push(binary_frame(bytes(400))) for _ in range(2)][-1] is False
