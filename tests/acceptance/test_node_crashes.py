"""kill -9 of the node in the middle of everything: nothing acknowledged is lost, nothing is left behind."""

import os
from collections.abc import Awaitable, Callable

import trio

from tests.acceptance.outside import Load, Program, eventually

Serve = Callable[..., Awaitable[Program]]
# By hand with 2000; the variable is the test's, not the program's.
CREATES = int(os.environ.get("ACCEPTANCE_CREATES", "400"))
CONCURRENCY = 16


async def test_what_was_acknowledged_before_a_kill_is_recorded_once_after_it(serve: Serve) -> None:
    """
    Every episode that was answered 201 exists and has exactly one activity, audit and notification record.
    """
    program = await serve()
    creating = Load(program=program, workers=CONCURRENCY, most=CREATES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(creating.run)
        await creating.wait_created(CREATES // 2)
        await program.kill()
    assert CREATES // 2 <= len(creating.created) < CREATES, "it was not killed in the middle"
    again = await serve()
    await again.assert_recorded_once(creating.created)
    await again.create("The node takes new ones")


async def test_a_kill_leaves_no_postgres_behind(serve: Serve) -> None:
    """
    PostgreSQL dies with the node; the next start on the same data directory finds everything.
    """
    program = await serve()
    episode = await program.create()
    assert program.postgres()
    await program.kill()
    await eventually(lambda: not program.postgres())
    again = await serve()
    assert (await again.ask("GET", f"/api/v1/episodes/{episode['id']}")).json == episode


async def test_a_start_right_after_a_kill_succeeds(serve: Serve) -> None:
    """
    The new node does not wait for anybody to clear up after the old one, several times in a row.
    """
    episodes = []
    for _ in range(3):
        program = await serve()
        episodes.append((await program.create())["id"])
        await program.kill()
    program = await serve()
    await program.assert_recorded_once(episodes)
