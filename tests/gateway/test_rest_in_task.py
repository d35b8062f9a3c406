"""REST requests are answered in their connection's task, however their bodies come and their clients go."""

import json

import psycopg
import pytest
import trio
import trio.testing

from tests.gateway.node_fixture import until
from tests.gateway.raw_client import RawClient

BODY = json.dumps({"title": "Pilot"}).encode()


@pytest.fixture
async def client(greenroom):
    stream = await trio.open_tcp_stream("127.0.0.1", greenroom.port)
    async with stream:
        yield RawClient(stream)


def create(greenroom, framing):
    head = f"POST /api/v1/episodes HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {greenroom.token()}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n" + framing + b"\r\n"


@pytest.mark.parametrize("cut", [0, 1, len(BODY) - 1, len(BODY)])
async def test_a_body_may_come_later_than_its_head(greenroom, client, cut):
    """
    All of it, the rest of it, its end: the answer is the same, and the connection serves on.
    """
    chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    for head, body, end in [
        (create(greenroom, b"Content-Length: %d\r\n" % len(BODY)), BODY, b""),
        (create(greenroom, b"Transfer-Encoding: chunked\r\n"), chunk, b"0\r\n\r\n"),
    ]:
        await client.send(head + body[:cut])
        await trio.testing.wait_all_tasks_blocked()
        await client.send(body[cut:])
        await trio.testing.wait_all_tasks_blocked()
        if end:
            await client.send(end)
        status, answer = await client.receive_response()
        assert (status, json.loads(answer)["title"]) == (201, "Pilot")
    assert (await client.get("/healthz"))[0] == 200


async def test_a_write_outlives_its_client(greenroom, client):
    """
    Who vanishes before the answer has made the change all the same: nothing is undone half-way.
    """
    with psycopg.connect(greenroom.conninfo) as other:
        other.execute("lock table episodes in access exclusive mode")
        await client.send(create(greenroom, b"Content-Length: %d\r\n" % len(BODY)) + BODY)
        waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
        await until(lambda: greenroom.rows(waiting))
        client.reset()
        await trio.testing.wait_all_tasks_blocked()
    await until(lambda: greenroom.rows("select title from episodes") == [("Pilot",)])
