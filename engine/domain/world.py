"""Where the present time and new ids come from: the machine, or a simulation that has its own."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from random import Random

Clock = Callable[[], datetime]

_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)
_chance: ContextVar[Random | None] = ContextVar("chance", default=None)


def now() -> datetime:
    """
    The present time in UTC.
    """
    clock = _clock.get()
    return datetime.now(UTC) if clock is None else clock()


def new_id() -> str:
    """
    A new UUID.
    """
    chance = _chance.get()
    return str(uuid.uuid4() if chance is None else uuid.UUID(int=chance.getrandbits(128), version=4))


@contextmanager
def simulated(clock: Clock, chance: Random) -> Iterator[None]:
    """
    Let time and ids come from here, for all tasks that are started within.
    """
    before = _clock.set(clock), _chance.set(chance)
    try:
        yield
    finally:
        _clock.reset(before[0])
        _chance.reset(before[1])
