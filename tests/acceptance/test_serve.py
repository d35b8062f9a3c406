"""What `greenroom serve` promises: a ready line, an orderly end, one line when it cannot start."""

import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.acceptance.outside import Listener, Load, Program

Serve = Callable[..., Awaitable[Program]]
Listen = Callable[..., Awaitable[Listener]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_the_node(serve: Serve, listen: Listen, number: signal.Signals) -> None:
    """
    Clients are told to come back and closed with 1001, PostgreSQL stops, the exit code is 0.
    """
    program = await serve()
    listener = await listen(program)
    assert program.postgres()
    assert await program.stop(number) == 0
    await listener.wait(lambda: listener.closed)
    assert listener.closed.code == 1001
    bye = listener.messages[-1]
    assert bye == {
        "type": "bye",
        "code": 1001,
        "reason": bye["reason"],
        "reconnect_after": bye["reconnect_after"],
        "resume": True,
        "positions": bye["positions"],
    }
    assert 2.0 <= bye["reconnect_after"] <= 12.0
    assert set(bye["positions"]) == {"catalog"}
    assert not program.postgres()


async def test_a_signal_lets_requests_in_flight_finish(serve: Serve, nursery: trio.Nursery) -> None:
    """
    Whoever was answered 201 while the node drained finds the episode after the next start.
    """
    program = await serve()
    creating = Load(program=program, workers=4)
    nursery.start_soon(creating.run)
    await creating.wait_created(20)
    assert await program.stop() == 0
    assert {answer.status for answer in creating.answers} == {201}
    again = await serve()
    await again.assert_recorded_once(creating.created)


async def test_a_restart_finds_everything(serve: Serve) -> None:
    """
    The data directory holds all there is: episodes, and the secret that tokens are signed with.
    """
    program = await serve()
    token, episode = program.token(), await program.create("Pilot")
    assert await program.stop() == 0
    again = await serve()
    answer = await again.ask("GET", f"/api/v1/episodes/{episode['id']}", token=token)
    assert (answer.status, answer.json) == (200, episode)


async def test_a_second_node_on_the_same_data_directory_is_refused(serve: Serve, greenroom: Run) -> None:
    """
    The second says who is there and exits with 2; the first does not notice.
    """
    program = await serve()
    for command in (["serve", "--port", "0"], ["migrate"]):
        line = refused(greenroom(*command, "--data-dir", program.data_dir))
        assert str(program.data_dir) in line
        assert f"pid {program.process.pid}" in line
    await program.create("Pilot")


def test_a_port_in_use_is_named(tmp_path: Path, greenroom: Run) -> None:
    """
    Nothing is started, nothing is written, and the line names the port.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(greenroom("serve", "--port", port, "--data-dir", tmp_path / "data"))
    assert f"port {port}" in line
    assert "in use" in line
    assert not (tmp_path / "data" / "postgres").exists()


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path, greenroom: Run) -> None:
    """
    A file in its place, or a place where not even root can write.
    """
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/greenroom")):
        assert str(path) in refused(greenroom("serve", "--port", 0, "--data-dir", path))


def test_a_database_that_refuses_is_told(tmp_path: Path, greenroom: Run) -> None:
    """
    The line tells what was tried, and never the password.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"postgresql://greenroom:hunter2@127.0.0.1:{port}/greenroom"
    for command in (["serve", "--port", 0], ["migrate"]):
        run = greenroom(*command, "--data-dir", tmp_path / "data", DATABASE_URL=url)
        line = refused(run)
        assert str(port) in line
        assert "hunter2" not in line


@pytest.mark.slow
def test_a_database_that_says_nothing_is_given_up(tmp_path: Path, greenroom: Run) -> None:
    """
    Something listens there but never answers: the node does not wait for ever.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://greenroom@127.0.0.1:{silent.getsockname()[1]}/greenroom"
        refused(greenroom("serve", "--port", 0, "--data-dir", tmp_path / "data", DATABASE_URL=url), within=25)


def test_an_unknown_plugin_is_named(tmp_path: Path, greenroom: Run) -> None:
    """
    A plugin that is not there, and one that cannot be imported, end the start.
    """
    for name in ("no_such_plugin", "plugins.no_such_plugin"):
        run = greenroom("serve", "--port", 0, "--data-dir", tmp_path / "data", GREENROOM_PLUGINS_ENABLED=name)
        assert name in refused(run)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nport = 70000\n", ["server.port", "70000"]),
        ("[server]\nprot = 1\n", ["server.prot", "server.port"]),
        ("[server\n", ["TOML"]),
        ('[auth]\njwks_file = "/proc/no-such-file"\n', ["/proc/no-such-file"]),
        ('[server]\nhost = "no-such-host.invalid"\n', ["no-such-host.invalid"]),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, greenroom: Run, text: str, named: list[str]) -> None:
    """
    One line with the option, the value, and what would be right.
    """
    file = tmp_path / "greenroom.toml"
    file.write_text(text)
    line = refused(greenroom("serve", "--data-dir", tmp_path / "data", "--port", 0, "--config", file))
    for word in named:
        assert word in line


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path, greenroom: Run) -> None:
    """
    One line for each, with the file in it.
    """
    file = tmp_path / "greenroom.toml"
    file.write_text('[server]\nport = 70000\nbacklog = "many"\n[feed]\npole = "1s"\n')
    run = greenroom("serve", "--data-dir", tmp_path / "data", "--config", file)
    assert run.returncode == 2
    lines = run.stderr.splitlines()
    assert len(lines) == 3
    for line, option in zip(lines, ("server.port", "server.backlog", "feed.pole"), strict=True):
        assert option in line
        assert str(file) in line


def refused(run: subprocess.CompletedProcess[str], *, within: float = 20) -> str:
    """
    The one line that says why.
    """
    assert run.returncode == 2, run
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1, run.stderr
    return run.stderr
