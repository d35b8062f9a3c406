"""Two nodes on one database, each frozen in turn for longer than its leases last."""

import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.acceptance.outside import Program, eventually
from tests.acceptance.test_job_crashes import (
    PLUGIN,
    SETTINGS,
    assert_ended_once,
    check_logs,
    is_done,
    submit_all,
)
from tests.acceptance.test_jobs_at_work import url_of

Serve = Callable[..., Awaitable[Program]]
FREEZES = 4
# Seconds: leases end while their node is frozen, and PostgreSQL still waits for it.
FROZEN = 3.0
SEED = random.randrange(10**6)


@pytest.mark.slow
async def test_what_a_frozen_node_has_lost_it_neither_completes_nor_repeats(
    serve: Serve, tmp_path: Path, empty_database: str
) -> None:
    """
    It thaws amid its handlers, some with a transaction open, and finds that others have its jobs.
    """
    chance = random.Random(SEED)
    print("seed", SEED)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "crashing.py").write_text(PLUGIN)
    settings = tmp_path / "greenroom.toml"
    settings.write_text(SETTINGS + 'lease = "1500ms"\n')

    async def start(name: str) -> Program:
        started = await serve(
            "--config",
            settings,
            PYTHONPATH=str(plugins),
            data_dir=tmp_path / name,
            DATABASE_URL=url_of(empty_database),
            GREENROOM_NODE_NAME=name,
            GREENROOM_DATABASE_STATEMENT_TIMEOUT="1500ms",
        )
        started.expected_crash = "not at the first attempt"
        return started

    nodes = [await start("one"), await start("two")]
    episode = (await nodes[0].create())["id"]
    jobs = await submit_all(nodes[0], episode)
    for number in range(FREEZES):
        await trio.sleep(0.2 + chance.random() / 2)
        frozen = nodes[number % 2].process
        frozen.send_signal(signal.SIGSTOP)
        await trio.sleep(FROZEN)
        frozen.send_signal(signal.SIGCONT)
    await eventually(lambda: is_done(nodes[0], len(jobs)))
    assert await assert_ended_once(nodes[0], jobs), "nobody was frozen in the middle"
    await check_logs(nodes[0], episode)
