"""Requests of one HTTP/1.1 client after each other: whose turn it is, what waits, what follows."""

import pytest
import trio
import trio.testing

from tests.gateway.applications import respond
from tests.gateway.raw_client import HANDSHAKE
from tests.patience import patience

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def poll():
    """
    An application that answers when told to, and listens for the client's end until then.
    """
    release = trio.Event()

    async def poll(scope, receive, send):
        async def listen():
            while (await receive())["type"] == "http.request":
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await release.wait()
            await respond(send, 200, b"polled")

    poll.release = release
    return poll


async def test_a_busy_client_lets_others_have_their_turns(start, nursery):
    """
    Between two requests of one segment everybody else runs.
    """
    turn, turns = 0, []

    async def count():
        nonlocal turn
        while True:
            turn += 1
            await trio.lowlevel.checkpoint()

    async def note(scope, receive, send):
        turns.append(turn)
        await respond(send, 200, b"")

    served = await start({"/": note})
    client = await served.connect()
    nursery.start_soon(count)
    await client.send(GET * 100)
    for _ in range(100):
        assert await client.receive_response() == (200, b"")
    # Not 100: of two who are ready, Trio lets either go first.
    assert len(set(turns)) > 40


async def test_a_stream_to_a_fast_reader_lets_others_have_their_turns(start):
    """
    Each further part of an answer is a checkpoint, though the kernel takes it at once.
    """

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        for _ in range(3):
            with trio.testing.assert_checkpoints():
                await send({"type": "http.response.body", "body": b"more", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    served = await start({"/stream": stream})
    client = await served.connect()
    await client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b" 200 " in await client.receive_head()
    assert (await client.receive(8 + 27 + 5)).endswith(b"more\r\n0\r\n\r\n")


async def test_a_handshake_behind_a_request_waits_for_its_answer_with_its_frames(start, poll):
    """
    Frames that come while the request before the handshake is answered are the WebSocket's.
    """
    served = await start({"/poll": poll})
    client = await served.connect()
    await client.send(b"GET /poll HTTP/1.1\r\nHost: test\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await client.send(HANDSHAKE.format(path="/echo", more="").encode() + client.frame(b"one"))
    await trio.testing.wait_all_tasks_blocked()
    await client.send(client.frame(b"two"))
    await trio.testing.wait_all_tasks_blocked()
    poll.release.set()
    assert await client.receive_response() == (200, b"polled")
    assert b" 101 " in await client.receive_head()
    assert await client.receive_frame() == (1, b"one")
    assert await client.receive_frame() == (1, b"two")


async def test_a_beginning_behind_a_request_has_the_header_s_deadline(start):
    """
    A head that was begun in the segment of the request before it.
    """
    served = await start()
    client = await served.connect()
    await trio.testing.wait_all_tasks_blocked()  # the first header's deadline is the old one
    served.limits.header_timeout = 0.1
    await client.send(GET + b"GET / HT")
    assert await client.receive_response() == (200, b"hello")
    assert (await client.receive_rest()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_head_is_measured_as_a_whole(start, pieces):
    """
    What is just within `max_header` is served, what is beyond it is not, in one segment or several.
    """
    for size, status in [(900, 200), (1100, 431)]:
        served = await start(max_header=1000)
        client = await served.connect()
        head = b"GET / HTTP/1.1\r\nHost: test\r\nX: "
        head += b"x" * (size - len(head) - 4) + b"\r\n\r\n"
        for piece in range(pieces):
            await client.send(head[piece * size // pieces : (piece + 1) * size // pieces])
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.receive_response())[0] == status


async def test_a_stream_that_outlives_the_shutdown_is_the_connection_s_last_answer(start):
    """
    Its head was sent before anybody knew: it is finished, and then nothing is waited for.
    """
    release = trio.Event()

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await release.wait()
        await send({"type": "http.response.body", "body": b""})

    served = await start({"/stream": stream})
    client = await served.connect()
    await client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
    await client.receive_head()
    await served.bystander.stream.aclose()
    served.shutdown.set()
    await trio.testing.wait_all_tasks_blocked()
    release.set()
    assert await client.receive_rest() == b"3\r\none\r\n0\r\n\r\n"
    await client.stream.aclose()
    with patience():
        await served.ended.wait()
