"""How a crowd comes and goes: a few in each turn of the event loop, so that who is in is served meanwhile."""

import time
from collections import OrderedDict
from typing import Any, Protocol

import attrs
import outcome
import trio

# In one turn so many newcomers are heard; one, when the turn before took longer than so many seconds.
HEARD = 4
LONG_TURN = 0.001
# While newcomers wait to be heard, a WebSocket begins in one of so many turns.
SHARE = 4
# And in one of so many when nobody else comes: who is in is served in the turns between, which are short.
ALONE = 2
# In one turn so many who have gone are cleared away.
CLEARED = 8


class Limits(Protocol):
    """
    How many WebSockets may wait to begin, and for how many seconds each.
    """

    handshake_queue: int
    handshake_timeout: float


@attrs.define(eq=False)
class Door:
    """
    Own who waits to come in, or to be cleared away, and for how many there is room in this turn.

    All of a crowd's work would otherwise be done in one turn, and nobody else's in that time. Whoever has
    connected is heard first: what it wants is not known yet, and a request is soon answered. A WebSocket,
    whose beginning is dear, waits once more, within the limits, and leaves the others short turns in between.
    The door never idles: while somebody waits, every few turns let somebody through.
    """

    limits: Limits
    _newcomers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    # Each with the time until which it waits; who came first begins first.
    _handshakes: OrderedDict[trio.lowlevel.Task, float] = attrs.field(factory=OrderedDict, init=False)
    _leavers: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    # Who waits for nobody to come.
    _keeper: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    # How many more may pass in this turn.
    _hears: int = attrs.field(default=HEARD, init=False)
    _begins: int = attrs.field(default=1, init=False)
    _clears: int = attrs.field(default=CLEARED, init=False)

    @property
    def waiting(self) -> int:
        """
        WebSockets that wait to begin.
        """
        return len(self._handshakes)

    async def wait_heard(self) -> None:
        """
        Wait until a newcomer may be heard. No checkpoint when that is at once.
        """
        if self._hears and not self._newcomers:
            self._hears -= 1
            self._keeper.unpark()
        else:
            await self._newcomers.park()

    async def wait_begun(self) -> bool:
        """
        Wait until a WebSocket may begin; False when that will not be soon. No checkpoint when it is at once.
        """
        if self._begins and not self._handshakes:
            self._begins -= 1
            self._keeper.unpark()
            return True
        if len(self._handshakes) >= self.limits.handshake_queue:
            return False
        task = trio.lowlevel.current_task()
        self._handshakes[task] = trio.current_time() + self.limits.handshake_timeout

        def give_up(_: object) -> trio.lowlevel.Abort:
            del self._handshakes[task]
            return trio.lowlevel.Abort.SUCCEEDED

        may: Any = await trio.lowlevel.wait_task_rescheduled(give_up)
        return bool(may)

    async def wait_cleared(self) -> None:
        """
        Wait until one who has gone may be cleared away. No checkpoint when that is at once.
        """
        if self._clears and not self._leavers:
            self._clears -= 1
            self._keeper.unpark()
        else:
            await self._leavers.park()

    async def keep(self) -> None:
        """
        Let through who waits, turn after turn, until cancelled.
        """
        turn = 0
        while True:
            began = time.perf_counter()
            while not (self._hears == HEARD and self._begins and self._clears == CLEARED):
                # It comes back in the loop's next turn.
                await trio.lowlevel.checkpoint()
                now = time.perf_counter()
                self._open(turn, is_long=now - began > LONG_TURN)
                began = now
                turn += 1
            await self._keeper.park()

    def _open(self, turn: int, *, is_long: bool) -> None:
        hears = 1 if is_long else HEARD
        self._hears = hears - len(self._newcomers.unpark(count=hears))
        self._clears = CLEARED - len(self._leavers.unpark(count=CLEARED))
        # As long as anybody waits, nobody passes without, and the keeper comes back.
        self._begins = 0 if self._handshakes else 1
        share = SHARE if self._newcomers else ALONE
        if not self._refuse_late() and self._handshakes and turn % share == 0:
            self._answer(True)

    def _refuse_late(self) -> int:
        """
        Refuse those who have waited too long, a few of them; how many.
        """
        now = trio.current_time()
        refused = 0
        while refused < HEARD and self._handshakes and next(iter(self._handshakes.values())) <= now:
            self._answer(False)
            refused += 1
        return refused

    def _answer(self, may: bool) -> None:
        task, _ = self._handshakes.popitem(last=False)
        trio.lowlevel.reschedule(task, outcome.Value(may))
