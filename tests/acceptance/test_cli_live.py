"""`greenroom tail` and `greenroom watch` as a person or a script runs them, beside the real program."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.acceptance.outside import Program, eventually

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Awaitable[Program]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@attrs.define(eq=False, kw_only=True)
class Client:
    """
    One running `tail` or `watch`, and what it has printed.
    """

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    async def shows(self, *words: str) -> None:
        """
        Wait until these words were printed, in this order.
        """

        def shown() -> bool:
            rest = self.out.read_text()
            for word in words:
                _, found, rest = rest.partition(word)
                if not found:
                    return False
            return True

        try:
            await eventually(shown)
        except BaseException:
            print(self.out.read_text(), self.err.read_text())
            raise

    async def says(self, word: str) -> None:
        """
        Wait until a word is on stderr.
        """
        await eventually(lambda: word in self.err.read_text())

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return await self.wait_ended()

    async def wait_ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None)
        return self.process.returncode


@pytest.fixture
def client(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Client]]:
    """
    Start a client of a program: `client(program, "tail", "--json")`.
    """
    started: list[Client] = []

    def start(program: Program, *arguments: object, stdout: int | None = None, **more: str) -> Client:
        out, err = (tmp_path / f"client-{len(started)}.{name}" for name in ("out", "err"))
        url = f"http://127.0.0.1:{program.port}"
        command = [*arguments, "--url", url, *([] if more else ["--data-dir", program.data_dir])]
        with out.open("w") as stdout_file, err.open("w") as stderr_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *map(str, command)],
                cwd=ROOT,
                env={**environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=stdout_file if stdout is None else stdout,
                stderr=stderr_file,
            )
        started.append(Client(process=process, out=out, err=err))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        assert "Traceback" not in each.err.read_text()


async def watched(program: Program, topic: str = "catalog", count: int = 1) -> None:
    """
    Wait until so many sessions listen.
    """

    async def listening() -> bool:
        answer = await program.ask("GET", "/api/v1/engine/tree")
        return bool(answer.json["hub"]["subscriptions"] >= count)

    await eventually(listening)


async def test_tail_prints_what_happens_and_goes_on_where_it_stood(
    serve: Serve, client: Callable[..., Client]
) -> None:
    """
    A line for each event; Ctrl-C ends it well; the position that it leaves brings what happened since.
    """
    program = await serve(GREENROOM_REALTIME_POSITION_INTERVAL="10ms")
    tail = client(program, "tail")
    await watched(program)
    episode = await program.create("Pilot \x9b31m")
    await program.ask("PATCH", f"/api/v1/episodes/{episode['id']}", {"title": "Second", "status": "approved"})
    await tail.shows(
        "episode_created", "Pilot", "by alice@example.com", "episode_updated", "Second", "status"
    )
    assert "\x9b" not in tail.out.read_text()
    assert len(tail.lines()) == 2
    assert await tail.stop() == 0
    position = tail.err.read_text().split()[-1]
    assert tail.err.read_text() == f"to go on from here: --since {position}\n"

    await program.create("While it was away")
    tail = client(program, "tail", "catalog", "--since", position)
    await tail.shows("While it was away")
    assert len([line for line in tail.lines() if "While" in line]) == 1
    assert await tail.stop(signal.SIGTERM) == 0


async def test_tail_prints_frames_for_machines(serve: Serve, client: Callable[..., Client]) -> None:
    """
    One JSON object a line, as it came, of all the topics; an episode's id names its topic.
    """
    program = await serve()
    episode = await program.create()
    tail = client(
        program, "tail", "--json", episode["id"], "user:alice@example.com", GREENROOM_TOKEN=program.token()
    )
    await watched(program, count=2)
    await program.create("Another")
    await program.ask("PATCH", f"/api/v1/episodes/{episode['id']}", {"title": "Second"})
    await eventually(lambda: len(tail.lines()) == 2)
    frames = {frame["event"]: frame for frame in map(json.loads, tail.lines())}
    assert set(frames) == {"notification_created", "episode_updated"}
    assert frames["episode_updated"]["topic"] == f"episode:{episode['id']}"
    assert frames["episode_updated"]["data"]["changedFields"] == ["title"]
    assert await tail.stop() == 0


async def test_tail_comes_back_when_the_node_does(serve: Serve, client: Callable[..., Client]) -> None:
    """
    The node is killed and started again: what happens afterwards is printed, the loss is said on stderr.
    """
    program = await serve()
    tail = client(program, "tail")
    await watched(program)
    await program.kill()
    await tail.says("connection lost")
    again = await serve("--port", program.port)
    await tail.says("connected again")
    await again.create("After the crash")
    await tail.shows("After the crash")
    assert await tail.stop() == 0


async def test_tail_ends_well_when_nobody_reads_it(serve: Serve, client: Callable[..., Client]) -> None:
    """
    As in `greenroom tail | head -1`.
    """
    program = await serve()
    ours, theirs = os.pipe()
    tail = client(program, "tail", stdout=theirs)
    os.close(theirs)
    await watched(program)
    os.close(ours)
    await program.create()
    assert await tail.wait_ended() == 0


async def test_watch_tells_who_comes_and_goes_and_what_happens(
    serve: Serve, client: Callable[..., Client], listen: Callable[..., Awaitable[Any]]
) -> None:
    """
    Not on a terminal each change is a line.
    """
    program = await serve()
    episode = await program.create("Pilot")
    watch = client(
        program, "watch", episode["id"], GREENROOM_TOKEN=program.token("carol@example.com", "viewer")
    )
    await watch.shows("watching Pilot", "carol@example.com is here (viewing)")
    bob = await listen(program)
    here = {"resourceType": "episode", "resourceId": episode["id"]}
    assert (await bob.answer("join", type="presence", **here))["type"] == "ok"
    await watch.shows("bob@example.com is here (viewing)")
    assert (await bob.answer("edit", type="presence", state="editing", **here))["type"] == "ok"
    await watch.shows("bob@example.com is editing now")
    await program.ask("PATCH", f"/api/v1/episodes/{episode['id']}", {"title": "Second"})
    await watch.shows("episode_updated", "Second")
    assert (await bob.answer("leave", type="leave", **here))["type"] == "ok"
    await watch.shows("bob@example.com left")
    assert await watch.stop() == 0


async def test_watch_is_redrawn_on_a_terminal(serve: Serve, client: Callable[..., Client]) -> None:
    """
    The same, in place; the terminal is left as it was found.
    """
    program = await serve()
    episode = await program.create("Pilot")
    ours, theirs = pty.openpty()
    watch = client(
        program, "watch", episode["id"], stdout=theirs, TERM="xterm", GREENROOM_TOKEN=program.token()
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    screen = b""

    def drawn(word: bytes) -> bool:
        nonlocal screen
        with contextlib.suppress(BlockingIOError, OSError):
            screen += os.read(ours, 65536)
        return word in screen

    await eventually(lambda: drawn(b"1 here") and drawn(b"Pilot") and drawn(b"live"))
    await program.ask("PATCH", f"/api/v1/episodes/{episode['id']}", {"title": "Second"})
    await eventually(lambda: drawn(b"Second"))
    watch.process.send_signal(signal.SIGINT)
    await eventually(lambda: drawn(b"\x1b[?25h") and watch.process.poll() is not None)
    assert watch.process.returncode == 0
    os.close(ours)


@pytest.mark.parametrize(
    ("arguments", "more", "code", "words"),
    [
        (["tail", "--token", "x", "--url", "http://127.0.0.1:1"], {}, 1, "127.0.0.1:1"),
        (["watch", "x", "--token", "x", "--url", "http://127.0.0.1:1"], {}, 1, "Connection refused"),
        (["tail", "--url", "127.0.0.1:8000"], {}, 2, "http://127.0.0.1:8000"),
        (["tail", "--url", "https://greenroom.example.com"], {}, 2, "GREENROOM_TOKEN"),
        (["tail", "--data-dir", "/nonexistent"], {}, 2, "/nonexistent"),
        (["tail", "--since", "7"], {}, 2, "7@3f0a"),
        (["tail", "catalog", "user:x", "--since", "7@e"], {}, 2, "alone"),
        (["tail", "--data-dir", "/nonexistent"], {"GREENROOM_AUTH_JWKS_FILE": "keys.json"}, 2, "jwks_file"),
        (["watch"], {}, 2, "EPISODE"),
    ],
)
def test_what_cannot_be_done_is_told_in_clear_words(
    greenroom: Run, arguments: list[str], more: dict[str, str], code: int, words: str
) -> None:
    """
    On stderr, without a traceback; 2 for what was mistyped, 1 for what the node's side says.
    """
    run = greenroom(*arguments, **more)
    assert (run.returncode, run.stdout) == (code, "")
    assert words in run.stderr
    assert "Traceback" not in run.stderr


async def test_what_the_node_refuses_is_told_in_its_words(serve: Serve, greenroom: Run) -> None:
    """
    Also a token that is not its own, and what is not there.
    """
    program = await serve()
    url, data_dir = f"http://127.0.0.1:{program.port}", program.data_dir
    for arguments, more, words in (
        (["tail"], {"GREENROOM_TOKEN": "nonsense"}, "4401"),
        (["tail", "nonsense", "--data-dir", data_dir], {}, "no topic 'nonsense'"),
        (["tail", "user:somebody@example.com", "--data-dir", data_dir], {}, "not for you"),
        (["watch", "00000000-0000-4000-8000-000000000000", "--data-dir", data_dir], {}, "no episode"),
        (["watch", "nonsense", "--data-dir", data_dir], {}, "an episode's id"),
    ):
        run = greenroom(*arguments, "--url", url, **more)
        assert (run.returncode, run.stdout) == (1, ""), run
        assert words in run.stderr
        assert len(run.stderr.splitlines()) == 1


def test_the_token_in_the_environment_is_no_mistake_in_the_settings(greenroom: Run) -> None:
    """
    Whoever exports it for `tail` can still start a node.
    """
    assert greenroom("config", "check", GREENROOM_TOKEN="x").returncode == 0
    assert greenroom("config", "check", GREENROOM_TOKENS="x").returncode == 2
