"""The catalog over event streams: no event twice, in one stream or after a return."""

from collections.abc import Sequence

import psycopg
import pytest

from tests.gateway.event_source import Block, EventSource, listen_to
from tests.gateway.node_fixture import RunningNode


def titles(blocks: Sequence[Block]) -> list[str]:
    return [block.data["data"]["episode"]["title"] for block in blocks if block.event != "subscribed"]


async def rename(greenroom: RunningNode, episode: str, title: str) -> None:
    assert (await greenroom.request("PATCH", f"episodes/{episode}", {"title": title})).status == 200


async def last_of(greenroom: RunningNode, source: EventSource) -> list[Block]:
    """
    What comes up to the next event, which is made now: nothing else is on the way then.
    """
    await greenroom.create("last")
    blocks = []
    while not blocks or titles(blocks[-1:]) != ["last"]:
        blocks.append(await source.receive())
    return blocks


async def test_what_was_told_ahead_of_an_open_transaction_does_not_come_again(greenroom: RunningNode) -> None:
    """
    The log goes on no further than the oldest open transaction; the id knows what was told beyond it.
    """
    async with listen_to(greenroom) as source:
        assert (await source.receive()).event == "subscribed"
        with psycopg.connect(greenroom.conninfo) as open_one:
            open_one.execute("select pg_current_xact_id()")
            await greenroom.create("one")
            await greenroom.create("two")
            assert titles(await source.take(2)) == ["one", "two"]
            kept = source.last_id
            await greenroom.create("three")
            for _ in range(2):
                async with listen_to(greenroom, last_id=kept) as back:
                    assert (await back.receive()).data["recovered"]
                    assert titles(await back.take(1)) == ["three"]
    async with listen_to(greenroom, last_id=kept) as back:
        assert titles(await last_of(greenroom, back)) == ["three", "last"]


async def test_a_return_right_behind_an_event_does_not_bring_it_again(greenroom: RunningNode) -> None:
    """
    The next telling of the position need not be waited for.
    """
    last_id, heard = "", []
    for number in range(4):
        await greenroom.create(f"missed {number}")
        async with listen_to(greenroom, last_id=last_id) as source:
            blocks = [await source.receive()]
            await greenroom.create(f"live {number}")
            while titles(blocks[-1:]) != [f"live {number}"]:
                blocks.append(await source.receive())
            heard += titles(blocks)
            last_id = source.last_id
    assert heard == [title for n in range(4) for title in (f"missed {n}", f"live {n}")][1:]


@pytest.mark.parametrize("catalog_first", [True, False])
async def test_an_episode_and_the_catalog_in_one_stream_tell_each_event_once(
    greenroom: RunningNode, catalog_first: bool
) -> None:
    """
    Of what was missed, too: the episode's own topic tells of it, in whichever order they are named.
    """
    episode = (await greenroom.create("A"))["id"]
    topics = ["catalog", f"episode:{episode}"][:: 1 if catalog_first else -1]
    async with listen_to(greenroom, *topics) as source:
        await source.take(2)
        await rename(greenroom, episode, "B")
        assert titles(await source.take(1)) == ["B"]
        kept = source.last_id
    await rename(greenroom, episode, "C")
    await greenroom.create("other")
    await rename(greenroom, episode, "D")
    async with listen_to(greenroom, *topics, last_id=kept) as source:
        blocks = await last_of(greenroom, source)
        assert sorted(titles(blocks)) == ["C", "D", "last", "other"]
        kept = source.last_id
    async with listen_to(greenroom, *topics, last_id=kept) as source:
        assert titles(await last_of(greenroom, source)) == ["last"]


async def test_what_an_episode_s_watcher_came_too_late_for_is_told_by_the_catalog(
    greenroom: RunningNode,
) -> None:
    """
    A topic that is new to a stream begins now; what the catalog's listener has missed of it is no hole.
    """
    episode = (await greenroom.create("A"))["id"]
    async with listen_to(greenroom) as source:
        await source.receive()
        await rename(greenroom, episode, "B")
        assert titles(await source.take(1)) == ["B"]
        kept = source.last_id
    await rename(greenroom, episode, "C")
    async with listen_to(greenroom, "catalog", f"episode:{episode}", last_id=kept) as source:
        blocks = await last_of(greenroom, source)
        assert titles(blocks) == ["C", "last"]
        await rename(greenroom, episode, "D")
        assert titles(await source.take(1)) == ["D"]
        kept = source.last_id
    await rename(greenroom, episode, "E")
    async with listen_to(greenroom, f"episode:{episode}", last_id=kept) as source:
        assert (await source.receive()).data["recovered"]
        assert titles(await source.take(1)) == ["E"]
