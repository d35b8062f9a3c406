"""Event streams: the same frames, recovery by the last id, the same bounds, on raw sockets."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from engine.domain.access import Identity
from engine.errors import StoreUnavailableError
from engine.store.episodes import Episodes
from gateway.auth import Authenticator
from gateway.http.outlet import TOO_SLOW
from tests.gateway.event_source import Block, EventSource, listen_to
from tests.gateway.node_fixture import NOBODYS, RunningNode, until
from tests.patience import patience

Start = Callable[..., Awaitable[RunningNode]]


async def rename(greenroom: RunningNode, episode: str, titles: Sequence[str]) -> None:
    for title in titles:
        answer = await greenroom.request("PATCH", f"episodes/{episode}", {"title": title})
        assert answer.status == 200


def offsets_of(blocks: Sequence[Block]) -> list[int]:
    assert all(block.event == "episode_updated" for block in blocks), blocks
    return [block.data["offset"] for block in blocks]


async def begun(source: EventSource, recovered: bool = False) -> Mapping[str, Any]:
    block = await source.receive()
    assert block.event == block.data["type"] == "subscribed"
    assert block.data["recovered"] is recovered
    return block.data


async def wait_nobody(greenroom: RunningNode) -> None:
    await until(lambda: greenroom.node.hub.statistics().sessions == 0)
    await until(lambda: greenroom.application.streams.sessions.count == 0)


async def test_a_stream_tells_the_same_frames_as_the_websocket(greenroom: RunningNode) -> None:
    """
    Named by the event, with the frame as data; without a topic it is the catalog's.
    """
    frontend = await greenroom.connect("carol@example.com")
    async with listen_to(greenroom) as source:
        assert source.status == 200
        assert source.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert source.headers["cache-control"] == "no-store"
        assert source.headers["x-request-id"]
        assert (await begun(source))["topic"] == "catalog"
        assert source.retry == 2000
        await greenroom.create("Pilot with\nline ends\r and ünïcödé")
        block = await source.receive()
        assert block.event == "episode_created"
        assert block.data == await frontend.receive()
    await wait_for_one(greenroom)


async def wait_for_one(greenroom: RunningNode) -> None:
    """
    A client that hangs up is forgotten at once; the frontend stays.
    """
    await until(lambda: greenroom.application.streams.sessions.count == 1)
    await until(lambda: greenroom.node.hub.statistics().sessions == 1)


async def test_the_last_id_brings_exactly_what_was_missed_of_every_topic(greenroom: RunningNode) -> None:
    """
    Two episodes, each with its own offsets, and one opaque id.
    """
    first, second = [(await greenroom.create())["id"] for _ in range(2)]
    topics = [f"episode:{first}", f"episode:{second}"]
    async with listen_to(greenroom, *topics) as source:
        await source.take(2)
        await rename(greenroom, first, ["B", "C"])
        await rename(greenroom, second, ["B"])
        assert offsets_of(await source.take(3)) == [2, 3, 2]
        kept = source.last_id
        await rename(greenroom, first, ["D"])
        [later] = await source.take(1)
        assert later.last_id != kept
    await rename(greenroom, second, ["C", "D"])
    async with listen_to(greenroom, *reversed(topics), last_id=kept) as source:
        await begun(source, recovered=True)
        assert offsets_of(await source.take(2)) == [3, 4]
        await begun(source, recovered=True)
        assert offsets_of(await source.take(1)) == [4]
        await rename(greenroom, first, ["E"])
        assert offsets_of(await source.take(1)) == [5]


async def test_a_stream_that_is_cut_amid_what_was_missed_misses_nothing(greenroom: RunningNode) -> None:
    """
    The id moves with what was told, not with what was promised.
    """
    episode = (await greenroom.create())["id"]
    async with listen_to(greenroom, f"episode:{episode}") as source:
        await begun(source)
        start = source.last_id
    await rename(greenroom, episode, ["B", "C", "D"])
    topic = f"episode:{episode}"
    async with listen_to(greenroom, topic, last_id=start) as source:
        promised = await source.receive()
        assert promised.data["recovered"]
        second = await source.receive()
        # Here it is cut: 3 and 4 were on the way. Or already before 2.
    for block, missed in ((promised, [2, 3, 4]), (second, [3, 4])):
        async with listen_to(greenroom, topic, last_id=block.last_id) as source:
            await begun(source, recovered=True)
            assert offsets_of(await source.take(len(missed))) == missed


async def test_a_topic_in_which_nothing_happened_keeps_its_place_in_the_id(greenroom: RunningNode) -> None:
    """
    However often the stream comes back while only the other topic moves.
    """
    quiet, busy = [(await greenroom.create())["id"] for _ in range(2)]
    topics, last_id = [f"episode:{quiet}", f"episode:{busy}"], ""
    for number in range(3):
        async with listen_to(greenroom, *topics, last_id=last_id) as source:
            await begun(source, recovered=number > 0)
            await begun(source, recovered=number > 0)
            await rename(greenroom, busy, [f"Title {number}"])
            last_id = (await source.receive()).last_id
    await rename(greenroom, quiet, ["At last"])
    async with listen_to(greenroom, *topics, last_id=last_id) as source:
        await begun(source, recovered=True)
        assert offsets_of(await source.take(1)) == [2]


async def test_the_catalog_is_recovered_too(start_greenroom: Start) -> None:
    """
    Its position comes as an id without an event.
    """
    greenroom = await start_greenroom({"realtime.position_interval": "10ms"})
    async with listen_to(greenroom) as source:
        await begun(source)
        before = source.last_id
        await greenroom.create("One")
        one = await source.receive()
        await source.read_until(lambda: source.last_id != before)
        kept = source.last_id
    await greenroom.create("Two")
    async with listen_to(greenroom, last_id=kept) as source:
        await begun(source, recovered=True)
        two = await source.receive()
        assert (one.data["data"]["episode"]["title"], two.data["data"]["episode"]["title"]) == ("One", "Two")


@pytest.mark.parametrize(
    "last_id", ["nonsense", "bm9uc2Vuc2U", "e30", "eyJ4Ijp7ImNhdGFsb2ciOlsxXX19", "W" * 9000]
)
async def test_an_id_that_is_none_of_ours_recovers_nothing_and_says_so(
    greenroom: RunningNode, last_id: str
) -> None:
    """
    An EventSource gives up for good when it is refused: it is shown how things stand instead.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    async with listen_to(greenroom, f"episode:{episode}", last_id=last_id) as source:
        first = await begun(source)
        # An id of ours that knows nothing of this topic is no reason for a snapshot: the topic is new.
        assert (first.get("snapshot", {}).get("episode", {}).get("title") == "Pilot") is (last_id != "e30")
        await rename(greenroom, episode, ["B"])
        assert offsets_of(await source.take(1)) == [2]


async def test_a_person_s_own_inbox_can_be_heard_and_nobody_else_s(greenroom: RunningNode) -> None:
    """
    The same authorization as everywhere.
    """
    bob = "bob@example.com"
    async with listen_to(greenroom, f"user:{bob}") as source:
        await begun(source)
        await greenroom.request("POST", "episodes", {"title": "Mine"}, user=bob)
        assert (await source.receive()).event == "notification_created"
    async with listen_to(greenroom, "user:alice@example.com") as source:
        assert source.status == 403


@pytest.mark.parametrize(
    ("target", "status", "word"),
    [
        ("/api/v1/stream?topic=nonsense", 404, "no topic"),
        ("/api/v1/stream?topic=", 404, "no topic"),
        (f"/api/v1/stream?topic=catalog&topic=episode:{NOBODYS}", 404, "no episode"),
        ("/api/v1/stream?access_token=x", 422, "access_token"),
        ("/api/v1/stream?topic=catalog&since=%ff", 422, "since"),
        ("/api/v1/stream?" + "topic=catalog&" * 200, 422, "at most"),
    ],
)
async def test_a_refusal_before_the_stream_is_a_problem(
    greenroom: RunningNode, target: str, status: int, word: str
) -> None:
    """
    The same shape as everywhere in REST, and nothing is left behind.
    """
    problem = (await greenroom.request("GET", target)).problem(status)
    assert word in problem["detail"]
    await wait_nobody(greenroom)


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_without_a_good_token_there_is_no_stream(greenroom: RunningNode, token: str) -> None:
    """
    401, and how to authenticate.
    """
    answer = await greenroom.request("GET", "stream", token=token)
    answer.problem(401)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_a_stream_is_only_read(greenroom: RunningNode, method: str) -> None:
    """
    405, and what is allowed.
    """
    answer = await greenroom.request(method, "stream", {"topic": "catalog"})
    answer.problem(405)
    assert answer.headers["allow"] == "GET"


async def test_streams_count_as_sessions_and_requests(start_greenroom: Start) -> None:
    """
    The limits are those of WebSockets and of REST together: 429 and 503 with Retry-After.
    """
    greenroom = await start_greenroom(
        {"limits.sessions_per_user": 2, "limits.sessions": 3, "limits.subscriptions_per_session": 5}
    )
    async with AsyncExitStack() as stack:
        await greenroom.connect("bob@example.com")
        source = await stack.enter_async_context(listen_to(greenroom, user="bob@example.com"))
        await begun(source)
        answer = await greenroom.request("GET", "stream", user="bob@example.com")
        answer.problem(429)
        assert answer.headers["retry-after"] == "2"
        source = await stack.enter_async_context(listen_to(greenroom, user="carol@example.com"))
        await begun(source)
        answer = await greenroom.request("GET", "stream", user="dave@example.com")
        answer.problem(503)
        assert answer.headers["retry-after"] == "2"
    await until(lambda: greenroom.application.streams.sessions.count == 1)


async def test_too_many_requests_are_refused(start_greenroom: Start) -> None:
    """
    Opening streams over and over is limited as any request is.
    """
    greenroom = await start_greenroom({"limits.requests_per_second": 1, "limits.request_burst": 1})
    async with listen_to(greenroom) as source:
        await begun(source)
        answer = await greenroom.request("GET", "stream", user="bob@example.com")
        answer.problem(429)
        assert int(answer.headers["retry-after"]) >= 1


async def test_while_the_database_is_away_streams_are_refused_for_now(
    greenroom: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    503 with Retry-After, in the same shape, and no traceback.
    """

    async def away(*_: Any) -> None:
        raise StoreUnavailableError("the database is away")

    monkeypatch.setattr(Episodes, "log_offset", away)
    answer = await greenroom.request("GET", f"/api/v1/stream?topic=episode:{NOBODYS}")
    answer.problem(503)
    assert answer.headers["retry-after"]
    await wait_nobody(greenroom)


async def test_a_quiet_stream_is_kept_open_by_comments(start_greenroom: Start) -> None:
    """
    Nothing happens, yet proxies in between see that the connection lives.
    """
    greenroom = await start_greenroom({"realtime.ping_interval": "20ms"})
    async with listen_to(greenroom) as source:
        await begun(source)
        await source.read_until(lambda: source.comments >= 3)
        await greenroom.create("Still here")
        assert (await source.receive()).event == "episode_created"


async def test_a_stream_ends_with_its_token(
    greenroom: RunningNode, put_clock_forward: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With a goodbye that says so: the client comes back with a new one.
    """
    lasts_until = Authenticator.lasts_until

    def soon_over(self: Authenticator, identity: Identity) -> float:
        put_clock_forward(599.8)
        return lasts_until(self, identity)

    monkeypatch.setattr(Authenticator, "lasts_until", soon_over)
    async with listen_to(greenroom, token=greenroom.token("bob@example.com", ttl=600)) as source:
        *_, bye = await source.rest()
    assert bye.event == bye.data["type"] == "bye"
    assert bye.data["code"] == 4440
    await wait_nobody(greenroom)


async def test_a_node_that_stops_says_goodbye_and_when_to_come_back(start_greenroom: Start) -> None:
    """
    Spread over the window, told to programs by `bye` and to every EventSource by `retry`.
    """
    greenroom = await start_greenroom({"server.reconnect_after": "3s", "server.reconnect_window": "8s"})
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        sources = [await stack.enter_async_context(listen_to(greenroom)) for _ in range(4)]
        for source in sources:
            await begun(source)
        nursery.start_soon(greenroom.stop)
        waits = []
        for source in sources:
            [bye] = await source.rest()
            assert (bye.event, bye.data["code"], bye.data["resume"]) == ("bye", 1001, True)
            assert source.retry == pytest.approx(1000 * bye.data["reconnect_after"], abs=1)
            waits.append(bye.data["reconnect_after"])
    assert [int((wait - 3) // 2) for wait in sorted(waits)] == [0, 1, 2, 3]


async def test_who_does_not_read_costs_its_bound_and_recovers(start_greenroom: Start) -> None:
    """
    The stream ends, others hear everything meanwhile; the last id brings what was missed.
    """
    # What is lost in the kernel's buffers must fit in what may be told anew, sixteen times the bound.
    greenroom = await start_greenroom(
        {"realtime.outlet_backlog": "32KiB", "realtime.outlet_deadline": "300ms"}
    )
    episode = (await greenroom.create())["id"]
    topic = f"episode:{episode}"
    async with (
        listen_to(greenroom, topic, receive_buffer=4096) as stuck,
        listen_to(greenroom, topic) as reader,
    ):
        await begun(stuck)
        await begun(reader)
        number = 0
        with patience():
            while len(greenroom.application.streams._open) == 2:
                number += 1
                await rename(greenroom, episode, [f"{number:03}" + "x" * 150])
                assert (await reader.receive()).data["offset"] == number + 1
                waiting = [stream._outlet._bytes for stream in greenroom.application.streams._open]
                assert max(waiting) <= 32 << 10
        heard = await stuck.rest()
    events = [block for block in heard if block.event == "episode_updated"]
    assert [bye.data["code"] for bye in heard[len(events) :]] in ([TOO_SLOW], [])
    assert offsets_of(events) == list(range(2, len(events) + 2))
    async with listen_to(greenroom, topic, last_id=stuck.last_id) as source:
        await begun(source, recovered=True)
        missing = await source.take(number - len(events))
        assert offsets_of(missing) == list(range(len(events) + 2, number + 2))


async def test_what_was_missed_may_exceed_the_bound_for_slow_clients_but_not_by_any_amount(
    start_greenroom: Start,
) -> None:
    """
    It is no sign of slowness, so coming back cannot fail again and again; yet it is kept in memory.
    """
    greenroom = await start_greenroom({"realtime.outlet_backlog": "1KiB"})
    episode = (await greenroom.create())["id"]
    async with listen_to(greenroom, f"episode:{episode}") as source:
        last_id = (await source.receive()).last_id
    await rename(greenroom, episode, [f"Title {number}" for number in range(10)])
    async with listen_to(greenroom, f"episode:{episode}", last_id=last_id) as source:
        await begun(source, recovered=True)
        assert offsets_of(await source.take(10)) == list(range(2, 12))
    await rename(greenroom, episode, [f"Title {number}" for number in range(10, 50)])
    headers = {"Last-Event-ID": last_id}
    answer = await greenroom.request("GET", f"stream?topic=episode:{episode}", headers=headers)
    assert "Last-Event-ID" in answer.problem(422)["detail"]
    await wait_nobody(greenroom)
