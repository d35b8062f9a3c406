"""Event streams: blocks as the standard wants them, and ids that stand for all positions of a stream."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import Since
from gateway.sse.format import Positions, positions_of, record
from gateway.sse.outlet import REPLAY_SHARE, StreamOutlet

TOPICS = st.one_of(
    st.just("catalog"), st.uuids().map("episode:{}".format), st.text(max_size=20).map("user:{}".format)
)
POSITIONS = st.builds(
    Since,
    offset=st.one_of(st.integers(0, 2**62), st.text(max_size=30)),
    epoch=st.text(max_size=36),
)


@given(st.dictionaries(TOPICS, st.one_of(st.none(), POSITIONS), min_size=1, max_size=10))
def test_an_id_brings_back_every_position_and_fits_a_header(since: dict[str, Since | None]) -> None:
    """
    Whatever the positions are made of: they are opaque here, too.
    """
    id = Positions.beginning(since).id().decode()
    assert re.fullmatch(r"[\w-]*", id, re.ASCII)
    assert positions_of(id, list(since)) == since


@given(st.text(max_size=60))
def test_any_text_may_come_as_an_id(text: str) -> None:
    """
    It never fails: an id that is none of ours is a position that nobody can have.
    """
    for since in positions_of(text, ["catalog", "episode:x"]).values():
        assert since is None or isinstance(since, Since)


def test_the_id_of_a_hundred_episodes_is_a_header_of_ordinary_size() -> None:
    """
    Servers and proxies take 8 KiB of headers.
    """
    since = {f"episode:{number:032}": Since(offset=10**6 + number, epoch="e" * 36) for number in range(100)}
    assert len(Positions.beginning(since).id()) < 4096


def test_a_block_has_an_id_when_a_position_of_the_stream_moved() -> None:
    """
    Events of other topics, as the catalog tells them, leave the id as it is.
    """
    positions = Positions.beginning({"episode:a": None, "catalog": None})
    at: dict[str, Any] = {"offset": 1, "epoch": "e"}
    records = (
        record("x", b'{"n":1}', "episode:a", at)
        + record("x", b'{"n":2}', "episode:b", at)
        + record("y", b'{"n":3}', "episode:a", at)
        + record("position", b"", "catalog", {"offset": "2-3", "epoch": "e"})
        + record("bye", b"{}")
    )
    blocks = positions.blocks(records).decode().split("\n\n")
    first = Positions.beginning({"episode:a": Since(1, "e")}).id().decode()
    both = Positions.beginning({"episode:a": Since(1, "e"), "catalog": Since("2-3", "e")}).id().decode()
    assert blocks == [
        f'id: {first}\nevent: x\ndata: {{"n":1}}',
        'event: x\ndata: {"n":2}',
        'event: y\ndata: {"n":3}',
        f"id: {both}",
        "event: bye\ndata: {}",
        "",
    ]


@pytest.mark.parametrize("begun", [False, True])
async def test_an_outlet_takes_its_bound_and_no_more(begun: bool) -> None:
    """
    What was missed may be more, before the stream begins; then it no longer counts.
    """
    outlet = StreamOutlet(limit=10)
    room = 10 if begun else 10 * REPLAY_SHARE
    if begun:
        assert outlet.push(b"r" * 100)
        outlet.begin()
    assert outlet.push(b"x" * room)
    assert not outlet.is_slow
    assert not outlet.push(b"y")
    assert outlet.is_slow
    assert outlet.take_nowait() == b""
    assert not outlet.push(b"z")


async def test_what_was_taken_makes_room() -> None:
    """
    Together, in order, once.
    """
    outlet = StreamOutlet(limit=10)
    outlet.begin()
    for _ in range(5):
        assert outlet.push(b"12345")
        assert outlet.push(b"67890")
        await outlet.wait_news()
        assert outlet.take_nowait() == b"1234567890"
