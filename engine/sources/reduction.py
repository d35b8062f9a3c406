"""What becomes of messages: the reducer that commits them, its verdicts, and what is counted."""

from collections.abc import Sequence
from typing import Literal, Protocol

import attrs

from engine.domain.envelope import Envelope


@attrs.frozen
class Verdict:
    """
    What became of one message. Applied and unchanged ones are deleted: what they say is committed.

    A refused one is left to the queue, which brings it again and at last puts it among the dead letters. One
    for later is kept, and reduced again in a moment.
    """

    outcome: Literal["applied", "unchanged", "refused", "later"]
    reason: str | None = None


APPLIED = Verdict("applied")
UNCHANGED = Verdict("unchanged")
LATER = Verdict("later")


class Reducer(Protocol):
    """
    Whoever commits what messages ask for.
    """

    async def __call__(self, messages: Sequence[Envelope]) -> Sequence[Verdict]:
        """
        Commit all of them, in this order, and judge each. Raises StoreUnavailableError.

        The same message may come again at any time, and must then change nothing.
        """
        ...


@attrs.frozen(kw_only=True)
class PollerStatistics:
    """
    What a poller has seen and done so far; ages in seconds, None when it never happened.
    """

    paused: bool
    held: int
    received: int
    redelivered: int
    applied: int
    unchanged: int
    refused: int
    # Of the refused ones, those that had no delivery left: SQS puts them among the dead letters.
    dead_lettered: int
    deleted: int
    given_back: int
    failures: int
    last_successful_poll_age: float | None
    last_error: str | None


@attrs.define
class Counts:
    """
    What a poller counts; the object outlives its crashes.
    """

    received: int = 0
    redelivered: int = 0
    applied: int = 0
    unchanged: int = 0
    refused: int = 0
    dead_lettered: int = 0
    deleted: int = 0
    given_back: int = 0
    failures: int = 0
