"""The outlet of an Engine.IO session: in order, bounded, of presence the latest, at last straight away."""

import attrs
import pytest

from gateway.engineio.outlet import EngineOutlet
from gateway.engineio.packets import join_body, message
from gateway.http.frames import binary_frame, payloads, text_frame


@attrs.define(eq=False)
class Direct:
    """
    A socket that takes everything.
    """

    taken: list[bytes] = attrs.field(factory=list)
    is_open: bool = True

    def push(self, data: bytes) -> bool:
        self.taken.append(data)
        return True

    def push_latest(self, key: str, data: bytes) -> bool:
        return self.push(data)


def test_what_waits_comes_first_and_the_rest_at_once() -> None:
    """
    When a session moves to WebSocket.
    """
    outlet, direct = EngineOutlet(limit=100), Direct()
    for data in (b"one ", b"two "):
        assert outlet.push(data)
    outlet.connect(direct)
    assert outlet.push(b"three")
    assert direct.taken == [b"one two ", b"three"]


def test_of_presence_the_latest_counts_while_something_waits() -> None:
    """
    It comes after what waits; without anything waiting it is sent like all else.
    """
    outlet = EngineOutlet(limit=100)
    assert outlet.push_latest("a", b"first")
    assert outlet.push_latest("a", b"second")
    assert outlet.push_latest("b", b"other")
    assert outlet.push_latest("a", b"third")
    assert outlet.push(b"event")
    assert outlet.take_nowait() == [b"first", b"event", b"third", b"other"]
    assert outlet.is_empty


def test_who_lets_too_much_wait_is_told_once_to_be_slow() -> None:
    """
    What is pushed while nothing waits, as a replay is, does not count.
    """
    slow: list[int] = []
    outlet = EngineOutlet(limit=10)
    outlet.on_slow = lambda: slow.append(1)
    assert outlet.push(b"x" * 1000)
    assert outlet.push(b"y" * 11)
    assert not outlet.push(b"y")
    assert not outlet.push(b"z")
    assert not outlet.push_latest("a", b"z")
    assert outlet.take_nowait() == []
    assert slow == [1]


def test_nothing_to_say_wakes_nobody() -> None:
    """
    A poll must not be answered by an empty body.
    """
    outlet = EngineOutlet(limit=10)
    assert outlet.push(b"")
    assert outlet.is_empty


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_give_back_what_they_carry(size: int) -> None:
    """
    Whatever their length takes; text and binary, joined.
    """
    text, data = "ü" * (size // 2), b"\xff" * size
    frames = text_frame(text.encode()) + binary_frame(data)
    assert list(payloads(frames)) == [text, data]


def test_a_body_has_text_as_it_is_and_binary_as_base64() -> None:
    """
    Whatever was joined before.
    """
    assert (
        join_body([message("hello") + message(b"\1\2\3\4"), message("ü")])
        == "4hello\x1ebAQIDBA==\x1e4ü".encode()
    )
