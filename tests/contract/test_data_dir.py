"""The data directory: one node at a time, and one secret however many ask for it."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import engine.store.data_dir
from engine.errors import StartupError
from engine.store.data_dir import DataDir, read_secret

_ROOT = Path(engine.store.data_dir.__file__).parents[2]
_HOLDER = """
import sys, time
from pathlib import Path
from engine.store.data_dir import DataDir
held = DataDir.open(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def anywhere(tmp_path: Path) -> Path:
    """
    A path for a data directory, two levels below one that exists.
    """
    return tmp_path / "var" / "greenroom"


def test_a_new_data_directory_is_private(anywhere: Path) -> None:
    """
    Nobody but its owner looks into a directory that Greenroom made.
    """
    data_dir = DataDir.open(anywhere)
    assert data_dir.path == anywhere
    assert stat.S_IMODE(anywhere.stat().st_mode) == 0o700
    data_dir.close()


def test_a_second_node_is_refused_with_the_pid_of_the_first(anywhere: Path) -> None:
    """
    Two nodes never share a data directory, and the one that is refused says who has it.
    """
    first = DataDir.open(anywhere)
    with pytest.raises(
        StartupError, match=rf"{re.escape(str(anywhere))}.*another node.*\(pid {os.getpid()}\)"
    ):
        DataDir.open(anywhere)
    first.close()


def test_closing_twice_frees_the_directory_and_nothing_else(anywhere: Path) -> None:
    """
    `close` lets the next node in; a second `close` does not take its lock from it.
    """
    first = DataDir.open(anywhere)
    first.close()
    second = DataDir.open(anywhere)
    first.close()
    with pytest.raises(StartupError):
        DataDir.open(anywhere)
    second.close()


def test_kill_9_frees_the_directory_at_once(anywhere: Path) -> None:
    """
    No stale lock ever has to be removed by hand.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, anywhere], cwd=_ROOT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(StartupError, match=rf"pid {holder.pid}\b"):
            DataDir.open(anywhere)
        holder.send_signal(signal.SIGKILL)
    DataDir.open(anywhere).close()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_named(anywhere: Path, below: str) -> None:
    """
    A file where the directory, or one above it, should be is said to be no directory.
    """
    anywhere.parent.mkdir()
    anywhere.touch()
    with pytest.raises(
        StartupError, match=rf"{re.escape(str(anywhere / below))}: not a directory"
    ) as refusal:
        DataDir.open(anywhere / below)
    assert "\n" not in str(refusal.value)


def test_a_directory_that_cannot_be_written_is_refused(
    anywhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A file system that takes no byte is found at the start, though its directory and lock are there.
    """
    DataDir.open(anywhere).close()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(StartupError, match="cannot be written: Read-only file system") as refusal:
        DataDir.open(anywhere)
    assert "\n" not in str(refusal.value)


def test_a_directory_that_everyone_may_write_is_refused(anywhere: Path) -> None:
    """
    Where anybody can lay a file, anybody could lay the secret.
    """
    anywhere.mkdir(parents=True)
    anywhere.chmod(0o1777)
    with pytest.raises(StartupError, match="everyone may write"):
        DataDir.open(anywhere)
    with pytest.raises(StartupError, match="everyone may write"):
        read_secret(anywhere)


def test_the_secret_is_made_once_private_and_long(anywhere: Path) -> None:
    """
    Tokens outlive the node: every start finds the same 256 bits, which only the owner can read.
    """
    data_dir = DataDir.open(anywhere)
    secret = data_dir.secret()
    data_dir.close()
    assert re.fullmatch(rb"[\w-]{43}", secret)
    assert stat.S_IMODE((anywhere / "secret").stat().st_mode) == 0o600
    assert read_secret(anywhere) == secret
    assert read_secret(anywhere.parent / "other") != secret


def test_the_secret_can_be_read_beside_a_running_node_and_before_the_first(anywhere: Path) -> None:
    """
    A command that needs the secret neither waits for a node nor keeps one from starting.
    """
    secret = read_secret(anywhere)
    data_dir = DataDir.open(anywhere)
    assert data_dir.secret() == read_secret(anywhere) == secret
    data_dir.close()


def test_whoever_asks_first_all_get_the_same_secret(anywhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of those that find no secret at the same moment one makes it, and the others take that one.
    """
    make_secret, rivals = engine.store.data_dir._make_secret, list[bytes]()

    def overtaken(file: Path) -> None:
        monkeypatch.setattr(engine.store.data_dir, "_make_secret", make_secret)
        rivals.append(read_secret(anywhere))
        make_secret(file)

    monkeypatch.setattr(engine.store.data_dir, "_make_secret", overtaken)
    assert [read_secret(anywhere)] == rivals
    assert [entry.name for entry in anywhere.iterdir()] == ["secret"]


def test_a_crowd_gets_one_secret(anywhere: Path) -> None:
    """
    The same with threads that really run at once.
    """
    with ThreadPoolExecutor(8) as crowd:
        assert len(set(crowd.map(read_secret, [anywhere] * 8))) == 1


def test_a_secret_that_was_cut_off_is_refused(anywhere: Path) -> None:
    """
    An empty file would sign tokens that anybody can forge.
    """
    read_secret(anywhere)
    (anywhere / "secret").write_bytes(b"\n")
    with pytest.raises(StartupError, match="too short"):
        read_secret(anywhere)
