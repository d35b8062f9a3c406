"""Which requests are answered by our handlers and which by Quart, and that nobody can tell."""

import pytest
import trio
import trio.testing

from tests.gateway.raw_client import RawClient

SENT_ALWAYS = {"x-content-type-options": "nosniff", "x-request-id": "mine"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/healthz", 405),
        ("GET", "/api/v1/openapi.json", 200),
        ("OPTIONS", "/api/v1/episodes", 200),
        ("GET", "/api/v1//episodes", 308),
    ],
)
async def test_every_answer_has_the_requests_id_and_is_no_other_type(greenroom, method, path, status):
    """
    Whoever answers: a handler, a refusal, Quart with its document, its OPTIONS and its redirects.
    """
    answer = await greenroom.request(method, path, headers={"X-Request-Id": "mine"})
    assert answer.status == status
    assert SENT_ALWAYS.items() <= dict(answer.headers).items()
    assert answer.headers.get("cache-control") == ("no-store" if path.startswith("/api/") else None)
    if status == 405 or method == "OPTIONS":
        assert "GET" in answer.headers["allow"]


async def test_of_a_parameter_given_twice_the_first_counts(greenroom):
    """
    As it always was; what is no UTF-8 is looked for, and not found.
    """
    for title in ("a", "b"):
        await greenroom.create(title)
    assert len((await greenroom.request("GET", "episodes?limit=1&limit=2")).json["data"]) == 1
    assert (await greenroom.request("GET", "episodes?q=%ff")).json["total"] == 0


async def test_nobody_answers_a_client_that_went_amid_its_body(greenroom):
    """
    Nothing is written, nothing is logged, and the next client is served.
    """
    stream = await trio.open_tcp_stream("127.0.0.1", greenroom.port)
    head = f"POST /api/v1/episodes HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {greenroom.token()}\r\n"
    async with stream:
        await stream.send_all(
            head.encode() + b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_eof()
        assert await RawClient(stream).receive_rest() == b""
    assert greenroom.rows("select count(*) from episodes") == [(0,)]
    assert (await greenroom.request("GET", "/healthz")).status == 200
