"""`greenroom jobs` as a person or a script runs it, beside the real program."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.acceptance.outside import SOON, Program, eventually
from tests.patience import patience

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Awaitable[Program]]
Run = Callable[..., subprocess.CompletedProcess[str]]

PLUGIN = """
import trio
from engine.hookspecs import Discard, JobHandler, hookimpl


async def count(context):
    for number in range(context.job.payload["to"]):
        await context.progress((number + 1) / context.job.payload["to"], f"[{number + 1}]")
        await trio.sleep(0.3)
    return {"counted": context.job.payload["to"]}


async def refuse(context):
    raise Discard("there is nothing to count")


@hookimpl
def job_handlers():
    return [JobHandler(type="demo.count", run=count), JobHandler(type="demo.refuse", run=refuse)]
"""
ID = re.compile(r"[0-9a-f-]{36}")


@pytest.fixture
async def program(serve: Serve, tmp_path: Path) -> Program:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "counting.py").write_text(PLUGIN)
    return await serve(PYTHONPATH=str(plugins), GREENROOM_PLUGINS_ENABLED="activity,counting")


@pytest.fixture
def jobs(greenroom: Run, program: Program) -> Callable[..., Awaitable[subprocess.CompletedProcess[str]]]:
    """
    Run `greenroom jobs …` against the program.
    """

    async def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        where = ("--url", f"http://127.0.0.1:{program.port}", "--data-dir", program.data_dir)
        return await trio.to_thread.run_sync(lambda: greenroom("jobs", *arguments, *where))

    return run


async def test_a_job_is_submitted_shown_listed_and_purged(jobs) -> None:
    """
    Without a token on the node's own machine; each answer is a line, or JSON.
    """
    submitted = await jobs("submit", "demo.count", "--payload", '{"to": 1}', "--priority", "3")
    assert submitted.returncode == 0, submitted.stderr
    id = submitted.stdout.strip()
    assert ID.fullmatch(id)

    async def shown() -> dict:
        return json.loads((await jobs("show", id, "--json")).stdout)

    async def is_completed() -> bool:
        return (await shown())["state"] == "completed"

    await eventually(is_completed)
    told = (await jobs("show", id)).stdout
    assert 'result        {"counted": 1}' in told
    assert "job_progress  100%  [1]" in told
    [line] = (await jobs("list", "--state", "completed", "--type", "demo.count")).stdout.splitlines()
    assert line.split() == [id, "completed", "100%", "1/5", "demo.count"]
    stats = (await jobs("stats")).stdout
    assert "demo.count  queued 0 running 0 retry 0  (started 1 completed 1)" in stats
    assert "source postgres  polls_total=" in stats
    assert (await jobs("purge", "--older-than", "1h")).stdout == "0 deleted\n"
    assert (await jobs("purge", "--older-than", "0s", "--state", "completed")).stdout == "1 deleted\n"
    gone = await jobs("show", id)
    assert (gone.returncode, gone.stderr) == (1, f"Error: there is no job {id}\n")


async def test_waiting_tells_progress_and_the_result(jobs) -> None:
    """
    A line for each step where there is no terminal; the result is all that is on stdout.
    """
    done = await jobs("submit", "demo.count", "--payload", '{"to": 3}', "--wait")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"counted": 3}
    told = done.stderr.splitlines()
    assert ID.fullmatch(told[0].removeprefix("job "))
    assert "running  33%  [1]" in told
    assert told[-1].startswith("completed  100%")


async def test_waiting_for_a_job_that_fails_exits_with_1(jobs) -> None:
    """
    And says why.
    """
    failed = await jobs("submit", "demo.refuse", "--wait")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.splitlines()[-1].endswith("failed: there is nothing to count")


async def test_who_stops_waiting_is_told_that_the_job_goes_on(program: Program, environment, jobs) -> None:
    """
    What comes after it in a script does not take the job for completed.
    """
    command = [sys.executable, "-m", "gateway", "jobs", "submit", "demo.count", "--payload", '{"to": 100}']
    where = ["--wait", "--url", f"http://127.0.0.1:{program.port}", "--data-dir", str(program.data_dir)]
    with patience(SOON):
        process = await trio.lowlevel.open_process(
            [*command, *where], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        told = await process.stderr.receive_some()
        process.send_signal(signal.SIGINT)
        async for more in process.stderr:
            told += more
        code = await process.wait()
    lines = told.decode().splitlines()
    id = lines[0].removeprefix("job ")
    assert re.fullmatch(rf"job {id} is still \w+; greenroom jobs show {id}", lines[-1])
    assert code == 130
    await jobs("cancel", id)


async def test_on_a_terminal_there_is_a_bar(program: Program, environment: dict[str, str]) -> None:
    """
    It is redrawn as the job gets on, and gone at the end; brackets in a message are no markup.
    """
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "gateway", "jobs", "submit", "demo.count", "--payload", '{"to": 3}']
    where = ["--wait", "--url", f"http://127.0.0.1:{program.port}", "--data-dir", str(program.data_dir)]
    process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
        [*command, *where],
        cwd=ROOT,
        env={**environment, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)

    def drawn() -> bytes:
        seen = b""
        while True:
            try:
                seen += os.read(leader, 65536)
            except OSError:
                return seen

    with patience(SOON):
        seen = await trio.to_thread.run_sync(drawn, abandon_on_cancel=True)
        code = await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
    os.close(leader)
    assert process.stdout is not None
    with process.stdout as out:
        assert json.loads(out.read()) == {"counted": 3}
    assert code == 0
    assert "━".encode() in seen
    assert b"demo.count  running" in seen
    assert b"67%" in seen
    assert b"[2]" in seen


async def test_a_running_job_is_cancelled_and_begun_anew(jobs) -> None:
    """
    And what has ended cannot be cancelled: one clear line.
    """
    id = (await jobs("submit", "demo.count", "--payload", '{"to": 100}')).stdout.strip()

    async def state() -> str:
        return (await jobs("list")).stdout.split()[1]

    async def is_running() -> bool:
        return await state() == "running"

    async def is_cancelled() -> bool:
        return await state() == "cancelled"

    await eventually(is_running)
    told = await jobs("cancel", id)
    assert told.stdout.rstrip().endswith("is told to stop"), told
    await eventually(is_cancelled)
    assert (await jobs("retry", id)).stdout.split()[1] == "queued"
    refused = await jobs("retry", id)
    assert refused.returncode == 1
    assert "a failed or cancelled one can be queued again" in refused.stderr
    await jobs("cancel", id)


REFUSED = [
    (["submit", "demo.count", "--payload", "{"], "is no JSON"),
    (["submit", "demo.count", "--payload", "[]"], "payload: must be a JSON object"),
    (["submit", "nothing"], "type: must be one of demo.count, demo.refuse"),
    (["submit", "nothing", "--wait"], "type: must be one of demo.count, demo.refuse"),
    (
        ["submit", "demo.count", "--delay", "9999h"],
        "delay: must be a number of seconds, 0 or more and at most 31536000",
    ),
    (["submit", "demo.count", "--delay", "soon"], 'must be a duration such as "30s"'),
    (["show", "x"], "a UUID is expected"),
    (["pause", "type", "nothing"], "there is no type 'nothing'; there are demo.count"),
    (["pause", "source", "nothing"], "there is no source 'nothing'; there are postgres"),
    (["resume", "type", "demo.count"], "is not paused"),
]


async def test_what_cannot_be_is_told_in_one_clear_line(jobs) -> None:
    """
    No traceback, and an exit code that is not 0.
    """
    for arguments, says in REFUSED:
        refused = await jobs(*arguments)
        assert refused.returncode != 0
        assert says in refused.stderr
        assert "Traceback" not in refused.stderr


async def test_a_type_is_paused_and_resumed(jobs) -> None:
    """
    Meanwhile its jobs wait.
    """
    assert (await jobs("pause", "type", "demo.count")).stdout == "type demo.count is paused\n"
    await jobs("submit", "demo.count", "--payload", '{"to": 1}')
    assert "demo.count  queued 1 running 0 retry 0  paused by" in (await jobs("stats")).stdout
    assert (await jobs("resume", "type", "demo.count")).stdout == "type demo.count is resumed\n"
