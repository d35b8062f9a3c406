"""One PostgreSQL cluster's directory: making it, running programs on it, finding its processes."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from engine.errors import StartupError
from engine.store.postgres_binaries import ENVIRONMENT, MAJOR, Account, account, runnable_directory

ROLE = "greenroom"

_INITDB_SECONDS = 60.0
_REMOVE_SECONDS = 10.0
_LOG_BYTES = 10_000_000
_LOG_LINES = 12  # as many as say why it would not start
_PR_SET_PDEATHSIG = 1

# Bound before any fork: a forked child must not look symbols up.
_prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl


@attrs.define(eq=False)
class Cluster:
    """
    Own the directory of one cluster and the log beside it; the caller sees to it that nobody else does.

    PostgreSQL gets its directories as open descriptors: those can be used where their paths lead through
    directories that are closed to its account.
    """

    data_dir: Path
    account: Account = attrs.field(init=False)
    _binaries: Path = attrs.field(init=False)
    # Where in the log the latest program began to write.
    _mark: int = attrs.field(default=0, init=False)

    @property
    def directory(self) -> Path:
        """
        Where the cluster is, once made.
        """
        return self.data_dir / "postgres"

    @property
    def log(self) -> Path:
        """
        Where PostgreSQL writes what it has to say.
        """
        return self.data_dir / "postgres.log"

    def prepare(self, run_as: str) -> None:
        """
        Settle as whom PostgreSQL runs, and find binaries that this account can execute.

        Raises:
            StartupError: there is no such account, or it can execute none.
        """
        self.account = account(run_as)
        self._binaries = runnable_directory(self.account)

    def make(self, *, durable: bool) -> None:
        """
        Make the cluster if there is none; otherwise see whether it is one that we can run.

        Raises:
            StartupError: it is another version's, another user's, no cluster, or cannot be made.
        """
        if self.directory.exists():
            self._check()
            return
        # Only a complete cluster ever gets its name; what a killed initdb left is thrown away.
        prefix = f"{self.directory.name}.new-"
        for half_made in self.data_dir.glob(f"{prefix}*"):
            _remove(half_made)
        making = Path(tempfile.mkdtemp(prefix=prefix, dir=self.data_dir))
        self.account.own(making)
        with opened(making) as home:
            initdb = self.spawn(
                ["initdb", "-D", by_descriptor(home), "--username", ROLE, "--auth", "peer"]
                + ["--encoding", "UTF8", "--no-locale"]
                + ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
                + ([] if durable else ["--no-sync"]),
                inherit=[home],
            )
        with initdb:
            try:
                initdb.wait(_INITDB_SECONDS)
            finally:
                initdb.kill()
        if initdb.returncode != 0:
            raise StartupError(f"embedded PostgreSQL: initdb failed in {making}:\n{self.last_words()}")
        making.rename(self.directory)
        with opened(self.data_dir) as entries:
            os.fsync(entries)

    def _check(self) -> None:
        owner = self.directory.stat().st_uid
        if owner != self.account.uid:
            raise StartupError(
                f"embedded PostgreSQL: {self.directory} belongs to the user with the id {owner}, "
                f"but PostgreSQL would run as {self.account.name!r}; run it as its owner"
            )
        try:
            major = (self.directory / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise StartupError(
                f"embedded PostgreSQL: {self.directory} is no PostgreSQL cluster (it has no PG_VERSION); "
                f"move it away, and a new one is made"
            ) from None
        if major != MAJOR:
            raise StartupError(
                f"embedded PostgreSQL: {self.directory} was made by PostgreSQL {major}, this is PostgreSQL "
                f"{MAJOR}; dump it with the old release and restore it into a new data directory"
            )

    @property
    def name(self) -> str:
        """
        What this cluster's processes carry in their command lines (`cluster_name`), and no other's.
        """
        status = self.directory.stat()
        return f"greenroom-{status.st_dev:x}-{status.st_ino:x}"

    def processes(self) -> set[int]:
        """
        The pids of this cluster, whoever started them; empty when there is no cluster.

        By command line, because root in a container may not look at another user's working directory.
        """
        if not self.directory.exists():
            return set()
        name, owner = self.name.encode(), self.directory.stat().st_uid
        found = set[int]()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                ours = process.stat().st_uid == owner and (process / "comm").read_text() == "postgres\n"
                if ours and name in re.split(rb"[\0 :=]", (process / "cmdline").read_bytes()):
                    found.add(int(process.name))
        return found

    def postmaster(self) -> tuple[int, bool] | None:
        """
        The pid that postmaster.pid names, and whether that one is ready for connections (as pg_ctl asks).
        """
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            return int(lines[0]), len(lines) > 7 and lines[7].strip() == "ready"
        except (FileNotFoundError, IndexError, ValueError):
            return None  # not there, or being written

    def spawn(self, command: Sequence[str], *, inherit: Sequence[int]) -> subprocess.Popen[bytes]:
        """
        Run one of PostgreSQL's programs as the account, its output into the log, dying with this thread.
        """
        parent = os.getpid()

        def die_with_greenroom() -> None:
            # Runs after the change of user, which would have cleared it.
            _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:
                os._exit(1)  # Greenroom died before the line above

        self.log.touch(mode=0o600)
        self.bound_log()
        self._mark = self.log.stat().st_size
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own binaries
                [self._binaries / "bin" / command[0], *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=inherit,
                start_new_session=True,  # Ctrl-C is for Greenroom, which drains first
                user=self.account.uid if self.account.dropped else None,
                group=self.account.gid if self.account.dropped else None,
                extra_groups=self.account.groups,
                preexec_fn=die_with_greenroom,
            )

    def last_words(self) -> str:
        """
        The end of what the latest program wrote into the log.
        """
        with self.log.open("rb") as log:
            log.seek(max(self._mark, self.log.stat().st_size - 10_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])

    def bound_log(self) -> None:
        """
        Keep the log below its bound while PostgreSQL has it open: what is there moves to `.log.1`.
        """
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            shutil.copy(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def write(self, home: int, name: str, text: str) -> None:
        """
        Put a file into the open cluster directory, following no link that the account may have laid there.
        """
        new = f"{name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=home)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=home)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if self.account.dropped:
                os.fchown(descriptor, self.account.uid, self.account.gid)
        os.rename(new, name, src_dir_fd=home, dst_dir_fd=home)


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    """
    A descriptor of `directory`.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(half_made: Path) -> None:
    """
    Remove the directory of an initdb that was killed with its node, and may take a moment to notice.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    while half_made.exists() and time.monotonic() < deadline:
        shutil.rmtree(half_made, ignore_errors=True)  # fails as long as somebody writes there
        time.sleep(0.02)


def by_descriptor(descriptor: int) -> str:
    """
    A path that leads to an inherited directory without passing through its parents (proc(5)).
    """
    return f"/proc/self/fd/{descriptor}"
