"""What a poller holds of a queue: which messages, hidden until when, and what became of them. Pure."""

from collections.abc import Callable, Iterable
from itertools import islice

import attrs

from engine.sources.sqs import Delivery, MessageId


@attrs.define
class _Entry:
    delivery: Delivery
    # When others may see it again, in the clock of whoever asks.
    until: float
    # What it asked for is committed: it is only still to be deleted.
    done: bool = False


@attrs.define(eq=False)
class Held:
    """
    Own the messages that were received and are neither deleted nor left: each once, in order of arrival.
    """

    _entries: dict[MessageId, _Entry] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, deliveries: Iterable[Delivery], until: float) -> int:
        """
        Enter what was received, hidden until then. Returns how many of them are held already.

        Such a one counts once; only its new receipt is kept, because SQS may no longer take the old one.
        """
        repeated = 0
        for delivery in deliveries:
            entry = self._entries.get(delivery.id)
            if entry is None:
                self._entries[delivery.id] = _Entry(delivery, until)
            else:
                entry.delivery = attrs.evolve(entry.delivery, receipt=delivery.receipt)
                entry.until = max(entry.until, until)
                repeated += 1
        return repeated

    def undecided(self, most: int) -> list[Delivery]:
        """
        The oldest that nothing was decided about.
        """
        return self._some(lambda entry: not entry.done, most)

    @property
    def undecided_count(self) -> int:
        """
        How many there are that nothing was decided about.
        """
        return sum(not entry.done for entry in self._entries.values())

    def done(self, most: int) -> list[Delivery]:
        """
        The oldest that are to be deleted.
        """
        return self._some(lambda entry: entry.done, most)

    def settle(self, message: MessageId) -> None:
        """
        What the message asked for is committed.
        """
        if (entry := self._entries.get(message)) is not None:
            entry.done = True

    def forget(self, message: MessageId) -> None:
        """
        The message is deleted, given back, or left for SQS to bring again.
        """
        self._entries.pop(message, None)

    def due(self, before: float) -> list[Delivery]:
        """
        Those that others may see again before this moment.
        """
        return self._some(lambda entry: entry.until < before, len(self._entries))

    def hidden(self, deliveries: Iterable[Delivery], until: float) -> None:
        """
        They stay hidden until then.
        """
        for delivery in deliveries:
            if (entry := self._entries.get(delivery.id)) is not None:
                entry.until = until

    def _some(self, wanted: Callable[[_Entry], bool], most: int) -> list[Delivery]:
        return list(islice((each.delivery for each in self._entries.values() if wanted(each)), most))
