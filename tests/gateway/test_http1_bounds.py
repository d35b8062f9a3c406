"""What a request may take, in time and in bytes, and what becomes of whoever takes more."""

from contextlib import suppress

import pytest
import trio
import trio.testing

from gateway.http.wire import RECEIVE
from tests.gateway.applications import respond
from tests.patience import patience, undisturbed

POST = b"POST /take HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture
def taker():
    """
    An application that takes a body and answers with its size; what it heard is noted.
    """
    heard = []

    async def take(scope, receive, send):
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message["body"])
            if not message["more_body"]:
                await respond(send, 200, b"%d" % size)
                break
        heard.append((message["type"], size))

    take.heard = heard
    return take


async def test_a_body_that_trickles_is_cut_off_however_its_bytes_come(start_either, logs, taker):
    """
    Single bytes do not move the deadline: so much of a body is due within it, or the rest.
    """
    served = await start_either({"/take": taker}, body_timeout=0.3)
    client = await served.connect()
    await client.send(POST + b"Content-Length: 1000000\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError), patience():
        while True:
            await client.send(b"x")
            await trio.sleep(0.01)
    assert taker.heard[0][0] == "http.disconnect"
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_slow_body_that_keeps_coming_is_taken(start_either, taker):
    """
    Longer in all than the deadline of a piece, and whole.
    """
    served = await start_either({"/take": taker}, body_timeout=0.5)

    async def trickle():
        client = await served.connect()
        await client.send(POST + b"Content-Length: 160000\r\n\r\n")
        for _ in range(8):
            await trio.sleep(0.1)
            await client.send(bytes(20_000))
        assert await client.receive_response() == (200, b"160000")

    await undisturbed(trickle)


async def test_the_time_that_the_application_takes_is_not_the_client_s(start):
    """
    A body that waits for its application is not late.
    """
    release = trio.Event()

    async def busy(scope, receive, send):
        await receive()
        await release.wait()
        assert (await receive())["body"] == b"second"
        await respond(send, 200, b"")

    served = await start({"/take": busy}, body_timeout=0.2)
    client = await served.connect()
    await client.send(POST + b"Content-Length: 11\r\n\r\nfirst")
    await trio.sleep(0.5)
    await client.send(b"second")
    await trio.testing.wait_all_tasks_blocked()
    release.set()
    assert await client.receive_response() == (200, b"")


@pytest.mark.parametrize(
    "flood",
    [b"1;" + b"x" * 20_000 + b"\r\n", b"0\r\n" + b"X: y\r\n" * 4000, b"0\r\nX: " + b"y" * 20_000],
    ids=["extensions", "trailers", "one trailer"],
)
async def test_what_surrounds_a_body_has_a_bound(start, logs, taker, flood):
    """
    Chunk extensions and trailers, which nobody sees, are no way to send for ever.
    """
    served = await start({"/take": taker}, max_header=8192)
    client = await served.connect()
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await client.send(flood)
    assert await client.receive_response() == (400, b"")
    assert await client.receive_rest() == b""
    assert taker.heard == [("http.disconnect", 0)]
    assert logs.tracebacks() == []


async def test_a_body_of_tiny_chunks_is_a_body(start, taker):
    """
    A byte a chunk is silly, not wrong.
    """
    served = await start({"/take": taker}, max_header=8192)
    client = await served.connect()
    await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(20):
        await client.send(b"1\r\nx\r\n" * 1000)
    await client.send(b"0\r\n\r\n")
    assert await client.receive_response() == (200, b"20000")


@pytest.mark.parametrize("answers", [True, False])
async def test_a_body_over_the_limit_is_read_no_further(start, logs, nursery, answers):
    """
    The application may refuse it in its own words; if it does not, it is refused all the same.
    """
    taken = []

    async def take(scope, receive, send):
        async def listen():
            while (message := await receive())["type"] == "http.request":
                taken.append(len(message["body"]))

        async with trio.open_nursery() as listening:
            listening.start_soon(listen)
            if answers:
                await trio.testing.wait_all_tasks_blocked()
                await respond(send, 413, b"my own words")

    served = await start({"/take": take}, max_body=100_000, body_timeout=60 if answers else 0.2)
    client = await served.connect()
    await client.send(POST + b"Content-Length: 10000000\r\n\r\n")
    nursery.start_soon(send_until_cut, client, bytes(10_000_000))
    assert await client.receive_response() == (413, b"my own words" if answers else b"")
    assert 100_000 < sum(taken) <= 100_000 + RECEIVE
    await client.stream.aclose()
    await served.wait_all_ended()
    assert logs.tracebacks() == []


async def test_a_body_that_the_application_does_not_receive_is_not_read(start):
    """
    Backpressure: what nobody wants yet waits in the kernel.
    """
    asked = trio.Event()
    sizes = []

    async def lazy(scope, receive, send):
        await asked.wait()
        sizes.append(len((await receive())["body"]))
        await respond(send, 200, b"")

    served = await start({"/take": lazy})
    client = await served.connect()
    await client.send(POST + b"Content-Length: 1000000\r\n\r\n" + bytes(200_000))
    await trio.testing.wait_all_tasks_blocked()
    asked.set()
    assert await client.receive_response() == (200, b"")
    assert sum(sizes) <= 2 * RECEIVE


async def test_a_stream_to_a_reader_that_stalls_is_cut_and_its_application_told(start, logs):
    """
    An application that streams waits for its reader, at most until the write deadline.
    """
    sent = []

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            sent.append(100_000)
        sent.append((await receive())["type"])

    served = await start({"/stream": stream}, write_timeout=0.3)
    client = await served.connect(receive_buffer=4096)
    await client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert sum(sent) < 20_000_000
    await served.wait_all_ended()
    assert sent[-1] == "http.disconnect"
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_late_body_does_not_cut_an_answer_that_is_on_its_way(start):
    """
    The reader's deadline is not the writer's, though both wait for one socket.
    """

    async def both(scope, receive, send):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(respond, send, 200, bytes(5_000_000))
            await trio.testing.wait_all_tasks_blocked()
            assert (await receive())["type"] == "http.disconnect"

    served = await start({"/take": both}, body_timeout=0.1)
    client = await served.connect(receive_buffer=4096)
    await client.send(POST + b"Content-Length: 5\r\n\r\n")
    await trio.sleep(0.7)
    assert b"\r\nconnection: close\r\n" in await client.receive_head()
    assert len(await client.receive_rest()) == 5_000_000


async def test_nothing_follows_a_part_that_was_given_up(start):
    """
    An application that loses patience amid a write cannot go on behind the half of it.
    """
    given_up = trio.Event()

    async def impatient(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(0.1):
            await send({"type": "http.response.body", "body": b"x" * 5_000_000, "more_body": True})
        given_up.set()
        await send({"type": "http.response.body", "body": b"THE END"})

    served = await start({"/impatient": impatient})
    client = await served.connect(receive_buffer=4096)
    await client.send(b"GET /impatient HTTP/1.1\r\nHost: test\r\n\r\n")
    with patience():
        await given_up.wait()
    answer = await client.receive_rest()
    assert b"THE END" not in answer
    assert len(answer) < 5_000_000


async def test_a_slow_reader_that_keeps_reading_gets_everything(start):
    """
    The write deadline is each piece's own: all of it may take longer.
    """

    async def big(scope, receive, send):
        await respond(send, 200, bytes(3_000_000))

    served = await start({"/big": big}, write_timeout=0.5)

    async def read():
        client = await served.connect(receive_buffer=65536)
        await client.send(b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n")
        await client.receive_head()
        began = trio.current_time()
        for _ in range(30):
            await client.receive(100_000)
            await trio.sleep(0.04)
        assert trio.current_time() - began > 1

    await undisturbed(read)


async def send_until_cut(client, data):
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await client.stream.send_all(data)
