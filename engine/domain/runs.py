"""Sets of whole numbers that mostly follow each other, kept as runs. Pure."""

from bisect import bisect_right
from collections.abc import Iterable

import attrs

# The first and the last number of a run.
Run = tuple[int, int]


@attrs.define(eq=False)
class Runs:
    """
    A set of whole numbers as runs, in ascending order and apart from each other.
    """

    _runs: list[Run] = attrs.field(factory=list)

    def __contains__(self, number: int) -> bool:
        at = self._before(number)
        return at >= 0 and number <= self._runs[at][1]

    def __len__(self) -> int:
        """
        How many runs there are.
        """
        return len(self._runs)

    def covers(self, run: Run) -> bool:
        """
        Whether all numbers of a run are there.
        """
        at = self._before(run[0])
        return at >= 0 and run[1] <= self._runs[at][1]

    def add(self, number: int) -> None:
        """
        Add one number; one that is there stays.
        """
        runs = self._runs
        if not runs or number > runs[-1][1]:
            # Nearly always.
            if runs and number == runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
            return
        if number in self:
            return
        at = self._before(number)
        first = last = number
        if at + 1 < len(self._runs) and self._runs[at + 1][0] == number + 1:
            last = self._runs.pop(at + 1)[1]
        if at >= 0 and self._runs[at][1] == number - 1:
            first = self._runs.pop(at)[0]
            at -= 1
        self._runs.insert(at + 1, (first, last))

    def discard(self, number: int) -> None:
        """
        Remove one number; one that is not there is ignored.
        """
        if number not in self:
            return
        at = self._before(number)
        first, last = self._runs.pop(at)
        rest = [(first, number - 1), (number + 1, last)]
        self._runs[at:at] = [run for run in rest if run[0] <= run[1]]

    def frozen(self) -> tuple[Run, ...]:
        """
        The runs as they are now.
        """
        return tuple(self._runs)

    def _before(self, number: int) -> int:
        return bisect_right(self._runs, number, key=lambda run: run[0]) - 1


def show_runs(runs: Iterable[Run]) -> str:
    """
    Runs as text: 59,61-70.
    """
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read_runs(text: str) -> tuple[Run, ...]:
    """
    Runs from such a text, if they ascend. Raises ValueError.
    """
    runs = []
    least = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        run = (int(first), int(last if dash else first))
        if not least <= run[0] <= run[1]:
            raise ValueError(text)
        least = run[1] + 2
        runs.append(run)
    return tuple(runs)
