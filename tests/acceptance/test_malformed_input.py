"""Whatever anybody sends, the answer says what was wrong, and the log has no traceback for it."""

import json
import os
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from tests.acceptance.outside import Listener, Program
from tests.patience import patience

Serve = Callable[..., Awaitable[Program]]
Listen = Callable[..., Awaitable[Listener]]
EPISODES = "/api/v1/episodes"
NOBODY = f"{EPISODES}/{uuid.UUID(int=1)}"
# Method, path, body, headers; the status, and what the message must name.
REQUESTS = [
    ("POST", EPISODES, b"{", {}, 400, "JSON"),
    ("POST", EPISODES, b"\xff\xfe", {}, 400, "JSON"),
    ("POST", EPISODES, b"[" * 100_000, {}, 400, "JSON"),
    ("POST", EPISODES, b"", {}, 400, "JSON"),
    ("POST", EPISODES, b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
    ("POST", EPISODES, [], {}, 422, "object"),
    ("POST", EPISODES, None, {"Content-Type": "application/json"}, 400, "JSON"),
    ("POST", EPISODES, {}, {}, 422, "title"),
    ("POST", EPISODES, {"title": 7}, {}, 422, "title"),
    ("POST", EPISODES, {"title": "x" * 201}, {}, 422, "title"),
    ("POST", EPISODES, {"title": "a\x00b"}, {}, 422, "title"),
    ("POST", EPISODES, {"title": "x", "colour": "red"}, {}, 422, "colour"),
    ("POST", EPISODES, {"title": "x", "status": "lost", "episode_number": -1}, {}, 422, "episode_number"),
    ("POST", EPISODES, {"title": "x", "categories": ["a"] * 21}, {}, 422, "categories"),
    ("POST", EPISODES, b'{"title": "' + b"x" * 2_000_000 + b'"}', {}, 413, ""),
    ("POST", EPISODES, {"title": "x"}, {"Idempotency-Key": "k" * 201}, 400, "Idempotency-Key"),
    ("POST", EPISODES, {"title": "x"}, {"Authorization": "Bearer no.token.this"}, 401, "token"),
    ("POST", EPISODES, {"title": "x"}, {"Authorization": "Basic Ym9iOmJvYg=="}, 401, "Bearer"),
    ("GET", EPISODES, None, {"Authorization": ""}, 401, "Bearer"),
    ("GET", f"{EPISODES}/7", None, {}, 400, "UUID"),
    ("GET", f"{EPISODES}/%00", None, {}, 400, "NUL"),
    ("GET", NOBODY, None, {}, 404, str(uuid.UUID(int=1))),
    ("PATCH", NOBODY, {"title": "x"}, {}, 404, str(uuid.UUID(int=1))),
    ("DELETE", NOBODY, None, {}, 404, str(uuid.UUID(int=1))),
    ("GET", f"{NOBODY}/events", None, {}, 404, str(uuid.UUID(int=1))),
    ("GET", f"{NOBODY}/compositions/7", None, {}, 400, "UUID"),
    ("GET", f"{EPISODES}?limit=many", None, {}, 422, "limit"),
    ("GET", f"{EPISODES}?limit=0", None, {}, 422, "limit"),
    ("GET", f"{EPISODES}?sort=colour", None, {}, 422, "sort"),
    ("GET", f"{EPISODES}?status=lost", None, {}, 422, "status"),
    ("GET", f"{EPISODES}?cursor=%21%21", None, {}, 422, "cursor"),
    ("GET", f"{EPISODES}?colour=red", None, {}, 422, "colour"),
    ("GET", f"{EPISODES}?q=%00", None, {}, 422, "NUL"),
    ("GET", "/api/v1/activity?cursor=99999999999999999999", None, {}, 422, "cursor"),
    ("GET", "/api/v1/no-such-thing", None, {}, 404, ""),
    ("PUT", EPISODES, {}, {}, 405, ""),
    ("POST", "/api/v1/engine/plugins/nobody/resume", None, {}, 404, "nobody"),
    ("POST", "/api/v1/notifications/7/read", None, {}, 400, "UUID"),
]
# What is sent after `connect`; the close code, or the code of the error.
MESSAGES = [
    ("{", 4400),
    ("[]", 4400),
    ("7", 4400),
    ("", 4400),
    ("[" * 50_000, 4400),
    ('{"type": "fly"}', 4400),
    ('{"type": "subscribe"}', 4400),
    ('{"type": "subscribe", "topic": 7}', 4400),
    ('{"type": "ping", "colour": "red"}', 4400),
    ('{"type": "subscribe", "topic": "catalog", "since": {"offset": [1], "epoch": "x"}}', 4400),
    (b"{}", 4400),
    (b"", 4400),
    ('{"type": "ping", "ref": "' + "x" * 100_000 + '"}', 1009),
    ('{"type": "subscribe", "topic": "weather"}', "unknown_topic"),
    ('{"type": "subscribe", "topic": "episode:7"}', "unknown_topic"),
    ('{"type": "subscribe", "topic": "episode:\\u0000"}', "unknown_topic"),
    ('{"type": "subscribe", "topic": "episode:00000000-0000-0000-0000-000000000001"}', "not_found"),
    ('{"type": "unsubscribe", "topic": "weather"}', "not_subscribed"),
    ('{"type": "presence", "resourceType": "episode", "resourceId": "7"}', "unknown_resource"),
    ('{"type": "leave", "resourceType": "episode", "resourceId": "7"}', "not_present"),
    ('{"type": "call", "name": "nobody"}', "unknown_call"),
    ('{"type": "connect", "token": "again"}', "already_connected"),
    ('{"type": "refresh", "token": "no.token.this"}', "bad_token"),
]
UPGRADE = (
    b"GET /real-time HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
NOISE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # somebody speaks TLS
    b"hello\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /\x00\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000,
    b"POST /api/v1/episodes HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/v1/episodes HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
    b"POST /api/v1/episodes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 100,
    b"GET /real-time HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    UPGRADE + b"\xff\xff\xff\xff",
    UPGRADE + b"\x82\x80\x00\x00\x00\x00",
]


async def test_every_wrong_request_gets_the_right_status(serve: Serve) -> None:
    """
    A problem+json with the status, a detail, and the name of what was wrong.
    """
    program = await serve()
    for method, path, body, headers, status, named in REQUESTS:
        answer = await program.ask(method, path, body, headers=headers)
        asked = (method, path, str(body)[:80], answer.body[:300])
        assert answer.status == status, asked
        assert answer.headers["content-type"] == "application/problem+json", asked
        problem = answer.json
        assert problem["status"] == status
        assert problem["detail"], asked
        assert named in json.dumps([problem["detail"], problem.get("errors")]), asked
    errors = (await program.ask("POST", EPISODES, {"status": "lost", "colour": 1})).json["errors"]
    assert {error["field"] for error in errors} == {"title", "status", "colour"}
    assert await program.everything("/episodes") == []


async def test_every_wrong_message_gets_the_right_code(serve: Serve, listen: Listen) -> None:
    """
    What is no message ends the connection with a bye and a code; what cannot be done is an error, and no end.
    """
    program = await serve()
    bystander = await listen(program)
    for message, wanted in MESSAGES:
        async with open_websocket_url(f"ws://127.0.0.1:{program.port}/real-time") as socket:
            await socket.send_message(json.dumps({"type": "connect", "token": program.token()}))
            assert json.loads(await told(socket))["type"] == "ok"
            await socket.send_message(message)
            if isinstance(wanted, str):
                answer = json.loads(await told(socket))
                assert (answer["type"], answer["code"]) == ("error", wanted), message
                assert answer["message"]
                await socket.send_message('{"type": "ping"}')
                assert json.loads(await told(socket)) == {"type": "ok"}
            else:
                assert await code_of_end(socket, wanted) == wanted, message[:80]
    assert (await bystander.answer("here", type="ping"))["type"] == "ok"


@pytest.mark.parametrize("first", ['{"type": "ping"}', '{"type": "connect", "token": "no.token.this"}'])
async def test_who_does_not_authenticate_is_closed_with_4401(serve: Serve, first: str) -> None:
    """
    Whatever else is said first, and whichever token is bad.
    """
    program = await serve()
    url = f"ws://127.0.0.1:{program.port}/real-time"
    async with open_websocket_url(url) as socket:
        await socket.send_message(first)
        assert await code_of_end(socket, 4401) == 4401
    async with open_websocket_url(url, extra_headers=[(b"Authorization", b"Bearer no.token.this")]) as socket:
        assert await code_of_end(socket, 4401) == 4401
    with pytest.raises(HandshakeError):
        async with open_websocket_url(f"ws://127.0.0.1:{program.port}/elsewhere"):
            pass


async def test_noise_on_the_port_brings_nothing_down(serve: Serve, listen: Listen) -> None:
    """
    Garbage of every kind, and of no kind at all; whoever behaves is served as before.
    """
    program = await serve()
    bystander = await listen(program)
    for noise in [*NOISE, *(os.urandom(2000) for _ in range(5))]:
        stream = await trio.open_tcp_stream("127.0.0.1", program.port)
        with suppress(trio.BrokenResourceError), trio.move_on_after(0.2):
            await stream.send_all(noise)
            while await stream.receive_some():
                pass
        await trio.aclose_forcefully(stream)
    episode = (await program.create())["id"]
    await bystander.wait(lambda: episode in bystander.created())


async def told(socket: object) -> str:
    with patience(10):
        return await socket.get_message()  # type: ignore[attr-defined]


async def code_of_end(socket: object, wanted: int) -> int:
    """
    Read to the end; a bye with the same code comes first, except where the protocol itself was left.
    """
    byes = []
    try:
        while True:
            message = json.loads(await told(socket))
            if message["type"] == "bye":
                byes.append(message)
    except ConnectionClosed as closed:
        assert closed.reason is not None
        if wanted != 1009:
            (bye,) = byes
            assert bye["code"] == closed.reason.code
            assert bye["reason"]
            assert bye["resume"] is False
        return closed.reason.code
