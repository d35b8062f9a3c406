"""How a node that stops sends its clients away: a few in each turn of the event loop. Knows no transport."""

import random
from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

C = TypeVar("C")

# In one turn so many are sent away; of the work that each of them causes, most comes in the turns after.
AT_ONCE = 16


async def send_away(
    clients: Iterable[C], window: float, chance: random.Random, away: Callable[[C, float], None]
) -> None:
    """
    Send these clients away, each with its own number of seconds, less than `window`, to stay away longer.
    """
    for number, client in enumerate(clients := list(clients), 1):
        # Evenly, not at random: chance would send too many at once somewhere in the window.
        away(client, window * (number - chance.random()) / len(clients))
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
