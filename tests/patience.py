"""How long a test waits for what must happen, and what it says when it did not."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import trio

# Seconds. What works is there long before, however busy the machine. What the product heals only by the clock
# (a lost message, at `realtime.position_check`: 25 s) comes later, so that no test takes that for well.
PATIENCE = 20
# Tasks that are shown at most: a test of a crowd has thousands.
SHOWN = 100
# Seconds between two looks at the clock, and how much later than that one tells of a pause.
TICK = 0.02
PAUSE = 0.05
ATTEMPTS = 5
_HERE = Path(__file__).resolve().parent.parent


@contextmanager
def patience(seconds: float = PATIENCE) -> Iterator[None]:
    """
    As `trio.fail_after`; its error shows what all the other tasks wait for.

    Whose wait was too long is in the traceback already: its block has ended when this looks.
    """
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise trio.TooSlowError(f"not within {seconds:g} s, while the other tasks waited here:\n{waiting()}")


async def undisturbed(attempt: Callable[[], Awaitable[None]]) -> None:
    """
    Do what has to be quick, because it is about a deadline of less than a few seconds; do it again if it
    fails and the machine paused meanwhile. What fails without a pause, or with one each time, fails.
    """
    paused, due = 0, trio.current_time()

    async def look() -> None:
        nonlocal paused, due
        while True:
            paused += trio.current_time() > due + PAUSE
            due = trio.current_time() + TICK
            await trio.sleep_until(due)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        for number in range(1, ATTEMPTS + 1):
            before = paused
            try:
                await attempt()
                break
            except Exception:
                # Who looks at the clock may not have had its turn yet.
                await trio.sleep(2 * TICK)
                if paused == before or number == ATTEMPTS:
                    raise
        nursery.cancel_scope.cancel()


def waiting() -> str:
    """
    The tree of this run's tasks, each with the way to where it waits, outermost call first.
    """
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return "\n".join(islice(_lines(root, 0), SHOWN))


def _lines(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    calls = [
        f"{Path(frame.f_code.co_filename).name}:{number} {frame.f_code.co_name}"
        for frame, number in task.iter_await_frames()
        if _is_ours(frame.f_code.co_filename)
    ]
    yield f"{'  ' * depth}{task.name}: {' > '.join(calls) or 'not in our code'}"
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda child: child.name):
            yield from _lines(child, depth + 1)


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(_HERE) and "site-packages" not in file
