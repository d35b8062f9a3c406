"""Settings changed on a running program with hundreds of clients: SIGHUP, and none of them notices."""

import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from tests.acceptance.outside import Listener, Program, eventually

CLIENTS = 500
Run = Callable[..., subprocess.CompletedProcess[str]]


async def test_a_reload_disconnects_none_of_five_hundred_clients(
    serve: Callable[..., Awaitable[Program]],
    listen: Callable[..., Awaitable[Listener]],
    greenroom: Run,
    tmp_path: Path,
) -> None:
    """
    Intensity, backoff, mailbox and a plugin's budget change; a wrong file changes nothing and says why.
    """
    file = tmp_path / "greenroom.toml"
    file.write_text("[limits]\nsessions_per_user = 1000\n")
    program = await serve("--config", file)
    listeners: list[Listener] = []

    async def join(number: int) -> None:
        listeners.append(await listen(program, f"user{number % 50}@example.com"))

    for start in range(0, CLIENTS, 50):
        async with trio.open_nursery() as nursery:
            for number in range(start, start + 50):
                nursery.start_soon(join, number)

    file.write_text(
        "[limits]\nsessions_per_user = 1000\n[server]\nport = 9\n[plugins]\neffect_budget = '5s'\n"
        "[supervision.episode]\nmax_restarts = 9\nbackoff_first = '70ms'\nmailbox = 99\n"
        "[supervision.catalog]\nmailbox = 2048\n"
    )
    diff = await trio.to_thread.run_sync(
        lambda: greenroom(
            "config", "diff", "--url", f"http://127.0.0.1:{program.port}", "--data-dir", program.data_dir
        )
    )
    assert (diff.returncode, diff.stderr) == (1, "")
    assert "a reload would change: supervision.episode.mailbox: 256 -> 99\n" in diff.stdout
    assert len(diff.stdout.splitlines()) == 5  # the port was given on the command line, and stays

    os.kill(program.process.pid, signal.SIGHUP)
    await eventually(lambda: "supervision.episode.mailbox: 256 -> 99" in program.errors.read_text())

    tree = (await program.ask("GET", "/api/v1/engine/tree")).json
    [catalog] = [child for child in tree["children"] if child["name"] == "catalog"]
    assert catalog["mailbox"]["capacity"] == 2048

    file.write_text("[supervision.episode]\nmailbox = 0\n[server]\nprot = 1\n")
    refused = await program.ask("POST", "/api/v1/engine/reload")
    assert refused.status == 422
    assert [error["field"] for error in refused.json["errors"]] == [
        "supervision.episode.mailbox",
        "server.prot",
    ]
    os.kill(program.process.pid, signal.SIGHUP)
    await eventually(lambda: "the old ones stay in force" in program.errors.read_text())

    episode = await program.create()
    for listener in listeners:
        await listener.wait(lambda listener=listener: listener.created() == [episode["id"]])
    assert [listener.closed for listener in listeners] == [None] * CLIENTS
