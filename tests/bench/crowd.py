"""A crowd of subscribers, each with a token of its own, at whichever program. Knows no measurement."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs
import peers
from loads import Loads, Subscribers
from programs import WITHOUT_EFFECTS, Program, node, publisher, token

# What a client of Greenroom says first, and how an answer shows that it is subscribed. Whoever connects
# hears the catalog before its first message is handled.
PING, SUBSCRIBED = '{"type":"ping","ref":"subscribed"}', '"ref":"subscribed"'
GREENROOM = {"u": "/real-time", "P": "bearer, %T", "s": PING, "k": SUBSCRIBED}
SOCKETIO = {"u": "/socket.io/?EIO=4&transport=websocket", "s": '40{"token":"%T"}', "k": '42["subscribed"'}

REAL_TIME = {
    "u": "/socket.io/?EIO=4&transport=websocket",
    "s": '40/real-time,{"token":"%T"}',
    "k": '40/real-time,{"sid"',
}


@attrs.frozen(kw_only=True)
class House:
    """
    A program that a crowd can come to: how it is started in a directory, and what a subscriber says.
    """

    start: Callable[[Path], AbstractContextManager[Program]]
    manners: dict[str, str]


def greenroom(*, core: int | None = None, settings: str = WITHOUT_EFFECTS) -> House:
    """
    Greenroom; with a `core`, on that one alone.
    """
    return House(
        start=lambda directory: node(directory, settings, publishing=True, core=core), manners=GREENROOM
    )


def socketio_on_greenroom() -> House:
    """
    Greenroom, by its namespace of Socket.IO.
    """
    return House(start=lambda directory: node(directory, WITHOUT_EFFECTS, publishing=True), manners=REAL_TIME)


def socketio_on_node(*, core: int | None = None, data_only: bool = False) -> House:
    """
    Node's Socket.IO.
    """
    return House(
        start=lambda directory: peers.socketio_on_node(directory, core, data_only=data_only),
        manners=SOCKETIO,
    )


def socketio_on_python() -> House:
    """
    python-socketio.
    """
    return House(start=peers.socketio_on_python, manners=SOCKETIO)


def send_loop(loads: Loads) -> House:
    """
    The C loop.
    """
    command = [str(loads.directory / "sendloop")]
    return House(start=lambda directory: publisher(directory, command), manners={"u": "/", "k": "subscribed"})


def come(loads: Loads, house: House, program: Program, count: int, **options: Any) -> Subscribers:
    """
    Connect and subscribe that many. Options are those of fanload.
    """
    return loads.subscribers(program.port, count, **house.manners, **_tokens(loads, count), **options)


def _tokens(loads: Loads, count: int) -> dict[str, str]:
    file = loads.directory / f"tokens-{count}"
    if not file.exists():
        file.write_text("".join(f"{token(f'viewer-{number}@example.com')}\n" for number in range(count)))
    return {"T": str(file)}
