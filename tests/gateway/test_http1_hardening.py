"""What one HTTP/1.1 client can do to the server: end itself, as documented, and nothing else."""

import pytest
import trio
import trio.testing

from tests.gateway.applications import refuse_unread, respond
from tests.patience import patience


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /" + b"x" * 200_000, 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 200_000, 431),
    ],
    ids=["TLS hello", "two hosts", "no host", "negative length", "endless target", "endless header"],
)
async def test_what_is_no_request_is_refused_and_closed(start, logs, sent, status):
    """
    Garbage gets 400, a header over the limit 431; then the connection ends.
    """
    served = await start(max_header=8192)
    client = await served.connect()
    await client.send(sent)
    assert await client.receive_response() == (status, b"")
    assert await client.receive_rest() == b""
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_pipelined_requests_are_answered_in_turn_and_garbage_after_them_refused(start, logs):
    """
    What is good in a segment is served; the rest gets 400 and the end.
    """
    served = await start()
    client = await served.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 2 + b"\0garbage\r\n\r\n")
    assert await client.receive_response() == (200, b"hello")
    assert await client.receive_response() == (200, b"hello")
    assert await client.receive_response() == (400, b"")
    assert await client.receive_rest() == b""
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_client_that_vanishes_with_requests_queued_leaves_nothing_behind(start, logs):
    """
    The reader waits for the first answer before it looks at the second request: the end must wake it.
    """
    answering = trio.Event()

    async def late(scope, receive, send):
        await answering.wait()
        await respond(send, 200, b"x" * 1_000_000)

    served = await start({"/late": late})
    client = await served.connect()
    await client.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
    await trio.testing.wait_all_tasks_blocked()
    client.reset()
    answering.set()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_an_upgrade_to_http2_without_tls_is_ignored(start, logs):
    """
    The request is served as HTTP/1.1; its HTTP2-Settings are never looked at.
    """
    served = await start()
    client = await served.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nHTTP2-Settings: ???\r\n\r\n")
    assert await client.receive_response() == (200, b"hello")
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_header_that_trickles_is_cut_off_at_its_deadline(start, logs):
    """
    Slowloris: each byte comes in time, the header does not. Bytes do not move the deadline.
    """
    served = await start(header_timeout=0.2)
    client = await served.connect()
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError), patience():
        while True:
            await client.send(b"GET / HTTP/1.1\r\n" if not client.buffer else b"X: y\r\n")
            client.buffer += b"."
            await trio.sleep(0.02)
    assert trio.current_time() - began >= 0.2
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


@pytest.mark.parametrize(
    ("sent", "status"), [(b"", b""), (b"G", b"HTTP/1.1 408 ")], ids=["nothing", "one byte"]
)
async def test_a_client_that_never_asks_is_closed_at_the_header_deadline(start, logs, sent, status):
    """
    Half-open connections do not pile up; who has begun to ask is told why.
    """
    served = await start(header_timeout=0.1)
    client = await served.connect()
    await client.send(sent)
    assert (await client.receive_rest())[:13] == status
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_an_idle_connection_is_kept_alive_for_its_time_and_no_longer(start, logs):
    """
    A second request on the same connection is served; then silence ends it, at `keep_alive`.
    """
    served = await start()
    client = await served.connect()
    assert await client.get() == (200, b"hello")
    served.limits.keep_alive = 0.2
    began = trio.current_time()
    assert await client.get() == (200, b"hello")
    assert await client.receive_rest() == b""
    assert trio.current_time() - began >= 0.2
    await client.stream.aclose()
    await served.wait_all_ended()
    assert logs.tracebacks() == []


async def test_a_second_header_that_trickles_has_a_deadline_too(start):
    """
    A generous keep-alive does not lend its time to a header once begun.
    """
    served = await start()
    client = await served.connect()
    assert await client.get() == (200, b"hello")
    served.limits.header_timeout = 0.1
    await client.send(b"G")
    assert (await client.receive_rest()).startswith(b"HTTP/1.1 408 ")


async def test_an_early_refusal_ends_a_body_that_trickles(start, logs):
    """
    The answer says `Connection: close`, and the connection closes although the body never ends.
    """
    served = await start({"/upload": refuse_unread})
    client = await served.connect()
    await client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nfirst")
    head = await client.receive_head()
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await client.receive(9) == b"too large"
    with pytest.raises(trio.BrokenResourceError), patience():
        while True:
            await client.send(b"x")
            await trio.sleep(0.02)
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_an_early_refusal_reaches_a_client_that_sends_its_whole_body_first(start, logs):
    """
    Far more than the inbox holds is sent before the answer is read: it is there, whole, and nothing stays.
    """
    served = await start({"/upload": refuse_unread})
    client = await served.connect()
    await client.send(
        b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n" + bytes(4_000_000)
    )
    assert await client.receive_response() == (413, b"too large")
    assert await client.receive_rest() == b""
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert logs.tracebacks() == []


async def test_a_body_nobody_reads_does_not_outlive_a_crash_of_the_application(start, logs):
    """
    500 arrives and the connection ends, though its inbox is full.
    """

    async def buggy(scope, receive, send):
        await trio.testing.wait_all_tasks_blocked()
        raise RuntimeError("a bug")

    served = await start({"/buggy": buggy})
    client = await served.connect()
    await client.send(
        b"POST /buggy HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n" + bytes(2_000_000)
    )
    assert await client.receive_response() == (500, b"")
    await client.stream.aclose()
    await served.wait_all_ended()
    await served.assert_unharmed()
    assert len(logs.tracebacks()) == 1


async def test_a_reader_that_stalls_is_closed_at_the_write_deadline(start, logs):
    """
    A response that the client does not take does not occupy the server for ever.
    """

    async def big(scope, receive, send):
        await respond(send, 200, bytes(20_000_000))

    served = await start({"/big": big}, write_timeout=0.1)
    client = await served.connect(receive_buffer=4096)
    await client.send(b"GET /big HTTP/1.1\r\nHost: test\r\n\r\n")
    await served.wait_all_ended()
    assert len(await client.receive_rest()) < 20_000_000
    await served.assert_unharmed()
    assert logs.tracebacks() == []
