"""What all connections of a node together did: counted here, shown by the metrics. Knows no connection."""

from collections import Counter
from typing import Protocol

import attrs


class Backlogged(Protocol):
    """
    An outlet with a backlog, in bytes.
    """

    pending: int


class Waited(Protocol):
    """
    A place where some wait to be let in.
    """

    @property
    def waiting(self) -> int: ...


@attrs.define(eq=False)
class Traffic:
    """
    Own the counts of connections, closes and answers, and know who is behind, and who waits.
    """

    # Open connections of all kinds, and WebSockets among them.
    connections: int = 0
    websockets: int = 0
    # Ended WebSockets by close code; 1006 is one that went without.
    closes: Counter[int] = attrs.field(factory=Counter)
    # Answered requests by status.
    answers: Counter[int] = attrs.field(factory=Counter)
    # Outlets whose client has not taken everything yet.
    behind: set[Backlogged] = attrs.field(factory=set)
    # Where WebSockets wait to begin; none before the node serves.
    door: Waited | None = None

    @property
    def handshakes(self) -> int:
        """
        WebSockets that wait to begin.
        """
        return 0 if self.door is None else self.door.waiting

    @property
    def backlog(self) -> int:
        """
        Bytes that wait for clients.
        """
        return sum(outlet.pending for outlet in self.behind)
