"""The outlet on real sockets: order, bounds, and what a client sees that is too slow for them."""

import socket
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.frames import binary_frame, close_frame, text_frame
from gateway.http.outlet import Outlet
from tests.patience import patience

TOO_SLOW = close_frame(4413, "too slow: reconnect and recover")


@attrs.define(eq=False)
class Pair:
    """
    An outlet and the client at the other end of its socket.
    """

    outlet: Outlet
    client: trio.SocketStream
    far: socket.socket
    nursery: trio.Nursery
    ends: list
    slow: list

    def fill(self):
        """
        Push until the kernel takes no more; return what was pushed.
        """
        pushed = b""
        while not self.outlet.pending:
            frame = binary_frame(b"%06d" % len(pushed) * 100)
            assert self.outlet.push(frame)
            pushed += frame
        return pushed

    async def receive(self, size):
        data = b""
        with patience():
            while len(data) < size:
                chunk = await self.client.receive_some(min(4096, size - len(data)))
                assert chunk, f"closed after {len(data)} of {size} bytes"
                data += chunk
        return data

    async def receive_rest(self):
        data = b""
        with patience():
            while chunk := await self.client.receive_some():
                data += chunk
        return data


# The clock may jump in these tests: what one end of a socket pair sends, the other has at once.
@asynccontextmanager
async def connected(**options):
    near, far = socket.socketpair()
    near.setblocking(False)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = trio.SocketStream(trio.socket.from_stdlib_socket(far))
    ends, slow = [], []
    with near:
        async with client, trio.open_nursery() as nursery:
            limits = {"limit": 10_000, "deadline": 60, "is_open": True, **options}
            outlet = Outlet(
                socket=near,
                nursery=nursery,
                on_end=lambda: (ends.append(1), near.shutdown(socket.SHUT_WR)),
                on_slow=lambda: slow.append(1),
                **limits,
            )
            yield Pair(outlet, client, far, nursery, ends, slow)
            nursery.cancel_scope.cancel()


async def test_what_is_pushed_arrives_at_once_and_leaves_no_backlog():
    """
    With room in the socket a push is one send: no task, nothing pending.
    """
    async with connected() as pair:
        assert pair.outlet.push(text_frame(b"one")) and pair.outlet.push(text_frame(b"two"))
        assert pair.outlet.pending == 0
        assert not pair.nursery.child_tasks
        assert await pair.receive(10) == b"\x81\x03one\x81\x03two"


async def test_a_backlog_is_delivered_in_order_and_the_direct_way_is_taken_again():
    """
    Pushes and writes made while the client stalls arrive in the order in which they were made.
    """
    async with connected() as pair:
        expected = pair.fill()
        written = trio.Event()

        async def pong():
            await pair.outlet.write(b"\x8a\x04pong")
            written.set()

        pair.nursery.start_soon(pong)
        await trio.testing.wait_all_tasks_blocked()
        assert not written.is_set()
        assert pair.outlet.push(text_frame(b"after"))
        expected += b"\x8a\x04pong" + text_frame(b"after")
        assert await pair.receive(len(expected)) == expected
        await trio.testing.wait_all_tasks_blocked()
        assert written.is_set()
        assert pair.outlet.pending == 0
        assert not pair.nursery.child_tasks


async def test_a_write_waits_for_its_own_bytes_only():
    """
    A writer is not kept by what others push after it.
    """
    async with connected(limit=1_000_000) as pair:
        expected = pair.fill()
        written = trio.Event()

        async def write():
            await pair.outlet.write(b"\x8a\x00")
            written.set()

        pair.nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(100):
            pair.outlet.push(binary_frame(bytes(5000)))
        await pair.receive(len(expected) + 2)
        await trio.testing.wait_all_tasks_blocked()
        assert written.is_set()
        assert pair.outlet.pending > 0


async def test_a_write_larger_than_the_limit_is_not_too_slow():
    """
    Whoever waits for its own bytes is held back already; pushes beside it keep their own limit.
    """
    async with connected(limit=1000) as pair:
        big = binary_frame(bytes(200_000))
        pair.nursery.start_soon(pair.outlet.write, big)
        await trio.testing.wait_all_tasks_blocked()
        assert pair.outlet.push(binary_frame(bytes(900)))
        assert await pair.receive(len(big) + 904) == big + binary_frame(bytes(900))
        assert pair.outlet.is_open and pair.slow == []


async def test_a_client_over_the_limit_gets_whole_frames_and_then_4413():
    """
    The frame begun is completed, the rest dropped, the close frame is last, and the owner is told once.
    """
    async with connected() as pair:
        frames = []
        while True:
            frames.append(binary_frame(b"%04d" % len(frames) * 200))
            if not pair.outlet.push(frames[-1]):
                break
        assert not pair.outlet.is_open
        assert not pair.outlet.push(frames[0])
        assert pair.outlet.pending < len(frames[0]) + len(TOO_SLOW) + 1
        assert pair.slow == [1] and pair.ends == []
        received = await pair.receive_rest()
        assert received.endswith(TOO_SLOW)
        body = received.removesuffix(TOO_SLOW)
        assert b"".join(frames).startswith(body)
        assert len(body) % len(frames[0]) == 0
        assert 0 < len(body) < len(frames) * len(frames[0])
        await trio.testing.wait_all_tasks_blocked()
        assert pair.slow == [1] and pair.ends == [1]


async def test_a_backlog_that_grows_old_is_too_slow_however_small(autojump_clock):
    """
    Few bytes that nobody takes are dropped at the deadline; taking some of the oldest is not enough.
    """
    async with connected(deadline=5, limit=1_000_000) as pair:
        assert pair.outlet.push(binary_frame(bytes(100_000)))
        for _ in range(4):
            await trio.sleep(1)
            await pair.receive(4096)
        await trio.sleep(0.9)
        assert pair.outlet.is_open
        await trio.sleep(0.2)
        assert not pair.outlet.is_open
        assert pair.slow == [1]
        assert (await pair.receive_rest()).endswith(TOO_SLOW)


async def test_a_client_that_keeps_up_late_but_in_time_is_not_too_slow(autojump_clock):
    """
    The deadline is each byte's own: a backlog may last for ever if no byte of it does.
    """
    async with connected(deadline=10, limit=100_000) as pair:
        for _ in range(10):
            while pair.outlet.pending < 20_000:
                assert pair.outlet.push(binary_frame(bytes(500)))
            await trio.sleep(3)
            await pair.receive(8000)
            await trio.testing.wait_all_tasks_blocked()
            assert pair.outlet.pending > 0
        assert pair.outlet.is_open


async def test_a_client_that_does_not_even_take_the_close_frame_is_cut_off(autojump_clock):
    """
    The grace is short, and then the socket is shut down.
    """
    async with connected(deadline=5, grace=1) as pair:
        pair.fill()
        await trio.sleep(5.5)
        assert pair.slow == [1] and pair.ends == []
        await trio.sleep(0.6)
        assert pair.ends == [1]
        assert TOO_SLOW not in await pair.receive_rest()


async def test_the_grace_begins_when_the_limit_is_met(autojump_clock):
    """
    Over the limit in bytes, nobody waits for the deadline in seconds too.
    """
    async with connected(deadline=60, grace=1) as pair:
        while pair.outlet.push(binary_frame(bytes(1000))):
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1.1)
        assert pair.ends == [1]


async def test_a_writer_learns_that_its_bytes_were_dropped(autojump_clock):
    """
    A write dropped with the backlog, and any write after that, is broken.
    """
    async with connected() as pair:
        pair.fill()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _():
                with pytest.raises(trio.BrokenResourceError):
                    await pair.outlet.write(b"\x8a\x00")

            await trio.testing.wait_all_tasks_blocked()
            while pair.outlet.push(binary_frame(bytes(1000))):
                pass
        with pytest.raises(trio.BrokenResourceError):
            await pair.outlet.write(b"\x8a\x00")


async def test_writing_to_a_dead_client_is_a_checkpoint():
    """
    A loop around a broken write cannot freeze the others.
    """
    async with connected() as pair:
        pair.outlet.kill()
        with trio.testing.assert_checkpoints(), pytest.raises(trio.BrokenResourceError):
            await pair.outlet.write(b"\x8a\x00")


@pytest.mark.parametrize("stalled", [False, True])
async def test_kill_ends_at_once(stalled):
    """
    The client sees the end, the owner hears of it once, and no task stays.
    """
    async with connected() as pair:
        if stalled:
            pair.fill()
            await trio.testing.wait_all_tasks_blocked()
        pair.outlet.kill()
        pair.outlet.kill()
        assert pair.ends == [1]
        assert not pair.outlet.is_open and pair.outlet.pending == 0
        assert not pair.outlet.push(text_frame(b"late"))
        await trio.testing.wait_all_tasks_blocked()
        assert not pair.nursery.child_tasks
        await pair.receive_rest()


@pytest.mark.parametrize("stalled", [False, True])
async def test_a_client_that_vanished_is_gone_not_slow(stalled):
    """
    The next push says so; with a backlog, the drain finds it out.
    """
    async with connected() as pair:
        if stalled:
            pair.fill()
            await trio.testing.wait_all_tasks_blocked()
        await pair.client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not pair.outlet.push(text_frame(b"late"))
        assert pair.ends == [1] and pair.slow == []


async def test_cancelled_amid_a_frame_the_outlet_is_dead():
    """
    Nothing may follow half a frame.
    """
    async with connected() as pair:
        pair.fill()
        await trio.testing.wait_all_tasks_blocked()
        pair.nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert not pair.outlet.push(text_frame(b"late"))
            assert pair.ends == [1]


async def test_nothing_is_pushed_before_the_handshake():
    """
    Until the 101 is written, `write` is the only way.
    """
    async with connected(is_open=False) as pair:
        assert not pair.outlet.push(text_frame(b"early"))
        await pair.outlet.write(b"HTTP/1.1 101 \r\n\r\n")
        pair.outlet.is_open = True
        assert pair.outlet.push(text_frame(b"now"))
        assert await pair.receive(22) == b"HTTP/1.1 101 \r\n\r\n\x81\x03now"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 9000)),
        st.tuples(st.just("write"), st.integers(0, 20_000)),
        st.tuples(st.just("read"), st.integers(1, 20_000)),
        st.tuples(st.just("pause"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_client_receives_whole_frames_in_order_and_loses_only_a_tail(steps):
    """
    Whatever is pushed, written and read when: a prefix of what was accepted, then perhaps 4413, never more.
    """

    async def run():
        async with connected() as pair:
            sent, received, ends, rejected = b"", b"", [0], False

            async def write(frame):
                try:
                    await pair.outlet.write(frame)
                except trio.BrokenResourceError:
                    assert pair.slow == [1]

            for number, (step, size) in enumerate(steps):
                frame = binary_frame(number.to_bytes(2, "big") + bytes(size))
                if step == "read":
                    with suppress(BlockingIOError):  # and no checkpoint, so that the drain comes late
                        received += pair.far.recv(size)
                elif step == "pause":
                    await trio.testing.wait_all_tasks_blocked()
                elif rejected:
                    assert not pair.outlet.push(frame)
                elif step == "push":
                    accepted = pair.outlet.push(frame)
                    rejected = not accepted
                    sent += frame
                    ends.append(len(sent))
                else:
                    pair.nursery.start_soon(write, frame)
                    await trio.testing.wait_all_tasks_blocked()
                    sent += frame
                    ends.append(len(sent))
            if rejected:
                received += await pair.receive_rest()
                assert received.endswith(TOO_SLOW)
                received = received.removesuffix(TOO_SLOW)
                assert len(received) in ends
                assert sent.startswith(received)
            else:
                received += await pair.receive(len(sent) - len(received))
                assert received == sent
                assert pair.slow == []

    trio.run(run)


def test_frames_are_those_of_the_protocol():
    """
    Length in one byte, two or eight (RFC 6455, section 5.2).
    """
    assert text_frame(b"x" * 125)[:2] == b"\x81\x7d"
    assert text_frame(b"x" * 126)[:4] == b"\x81\x7e\x00\x7e"
    assert binary_frame(bytes(65536))[:10] == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"


def test_a_close_reason_too_long_is_cut_at_a_character():
    """
    A control frame holds 125 bytes, and its reason must stay UTF-8.
    """
    frame = close_frame(4400, "é" * 100)
    assert frame[1] <= 125
    assert frame[4:].decode() == "é" * 61
