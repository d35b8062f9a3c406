"""The terminal that a program was started on: SIGHUP means that it is gone, or that settings have changed."""

import os
from contextlib import suppress

import attrs


@attrs.define(eq=False)
class Terminal:
    """
    Own which of the standard streams were a terminal at the start.
    """

    _streams: list[int] = attrs.field(factory=lambda: [number for number in (0, 1, 2) if os.isatty(number)])

    def is_gone(self) -> bool:
        """
        Whether there was a terminal, and it was closed. What is written then goes nowhere, and does no harm.
        """
        if not self._streams or any(map(os.isatty, self._streams)):
            return False
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in self._streams:
            with suppress(OSError):
                os.dup2(nowhere, number)
        os.close(nowhere)
        return True
