"""The commands of operators against a running program."""

import subprocess
from collections.abc import Awaitable, Callable

import trio

from tests.acceptance.outside import Listener, Program

Run = Callable[..., subprocess.CompletedProcess[str]]


async def test_top_and_actor_show_and_move_the_tree(
    serve: Callable[..., Awaitable[Program]], listen: Callable[..., Awaitable[Listener]], greenroom: Run
) -> None:
    """
    `top --once` prints what is there; `actor` parks and resumes, and a client hears everything all the same.
    """
    program = await serve()
    listener = await listen(program)
    where = ("--url", f"http://127.0.0.1:{program.port}", "--data-dir", program.data_dir)

    async def run(*words: object) -> subprocess.CompletedProcess[str]:
        return await trio.to_thread.run_sync(lambda: greenroom(*words, *where))

    top = await run("top", "--once")
    assert (top.returncode, top.stderr) == (0, "")
    assert "sessions 1" in top.stdout
    assert "audit" in top.stdout

    parked = await run("actor", "park", "catalog")
    assert (parked.returncode, parked.stdout) == (0, "catalog: parked\n")
    episode = await program.create()
    assert "parked" in (await run("top", "--once")).stdout
    assert any(
        line.startswith("catalog  catalog  parked")
        for line in (await run("actor", "list")).stdout.splitlines()
    )
    assert listener.created() == []
    assert (await run("actor", "resume", "catalog")).returncode == 0
    await listener.wait(lambda: listener.created() == [episode["id"]])

    wrong = await run("actor", "restart", "nobody")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "there is no actor 'nobody'" in wrong.stderr
    nobody = await trio.to_thread.run_sync(
        lambda: greenroom("top", "--url", "http://127.0.0.1:1", "--token", "x")
    )
    assert nobody.returncode == 1
    assert "no node answers on http://127.0.0.1:1" in nobody.stderr
