"""PostgreSQL with nothing to install: one cluster in the data directory, started, watched and stopped."""

import contextlib
import os
import pwd
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import psycopg
import psycopg.conninfo
import structlog
import trio

from engine.errors import StartupError
from engine.store.postgres_cluster import ROLE, Cluster, by_descriptor, opened

_DATABASE = "greenroom"
_PORT = "5432"  # names the socket's file; nothing listens on a network
_PARAMETERS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "jit": "off",  # compiling costs more than statements this short ever win back
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # statements carry what people wrote
}
_SOCKET_PATH_BYTES = 107  # sun_path, less its terminating zero
_START_SECONDS = 60.0  # recovery after a crash is slow on a slow disk
# Fast, immediate, kill; seconds from the first. Fast waits for the shutdown checkpoint.
_ENDINGS = ((0.0, signal.SIGINT), (15.0, signal.SIGQUIT), (20.0, signal.SIGKILL))
_END_SECONDS = 25.0
_BEAT_SECONDS = 0.02
_WATCH_SECONDS = 0.1
_BACKOFF_SECONDS = (0.1, 30.0)
_HEALTHY_SECONDS = 60.0

_log = structlog.get_logger(__name__)


def running_conninfo(data_dir: Path) -> str | None:
    """
    How to reach the PostgreSQL that a node runs below `data_dir`; None when it left no socket there.

    It answers the user that runs the node, and nobody else.
    """
    link = data_dir.absolute() / "postgres.socket"
    if not link.is_symlink():
        return None
    return psycopg.conninfo.make_conninfo(host=str(link.readlink()), port=_PORT, user=ROLE, dbname=_DATABASE)


@attrs.define(eq=False)
class EmbeddedPostgres:
    """
    Own the PostgreSQL below `data_dir`, whose lock (`DataDir`) the caller holds.

    PostgreSQL dies with Greenroom, kill -9 included. A crash of either loses no committed row: the next
    start ends what is left over, and PostgreSQL recovers from its log. As root, it runs as `run_as`.
    """

    data_dir: Path
    run_as: str = attrs.field(default="nobody", kw_only=True)
    parameters: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    _cluster: Cluster = attrs.field(
        default=attrs.Factory(lambda self: Cluster(self.data_dir.absolute()), takes_self=True), init=False
    )
    _sockets: Path = attrs.field(init=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    @property
    def conninfo(self) -> str:
        """
        How to reach the database, once started; the same until `stop`, however often it is restarted.
        """
        return self._conninfo(_DATABASE)

    @property
    def pid(self) -> int | None:
        """
        The postmaster's; None while there is none.
        """
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> str:
        """
        Make the cluster if there is none, start PostgreSQL, return the conninfo.

        Blocks, for a second or two. Call it on the main thread: PostgreSQL dies with the thread that
        started it.

        Raises:
            StartupError: with PostgreSQL's last words, when it has any.
        """
        try:
            self._cluster.prepare(self.run_as)
            self._cluster.make(durable=self.parameters.get("fsync") != "off")
            self._sockets = self._make_socket_directory()
            for _ in self._launch():
                time.sleep(_BEAT_SECONDS)
            self._make_database()
        except (OSError, subprocess.SubprocessError, psycopg.Error) as error:
            self.stop()
            raise StartupError(f"embedded PostgreSQL: cannot start in {self.data_dir}: {error}") from error
        except BaseException:
            self.stop()
            raise
        return self.conninfo

    async def supervise(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Start PostgreSQL again whenever it dies, with backoff, until cancelled; it runs on then.
        """
        task_status.started()
        least, most = _BACKOFF_SECONDS
        backoff = least
        while True:
            began = trio.current_time()
            while self.pid is not None:
                self._cluster.bound_log()
                await trio.sleep(_WATCH_SECONDS)
            if trio.current_time() - began > _HEALTHY_SECONDS:
                backoff = least
            status = None if self._process is None else self._process.returncode
            _log.error("embedded PostgreSQL is down", status=status, restart_in=backoff)
            await trio.sleep(backoff * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            backoff = min(2 * backoff, most)
            try:
                for _ in self._launch():
                    await trio.sleep(_BEAT_SECONDS)
            except (StartupError, OSError, subprocess.SubprocessError) as error:
                _log.error("embedded PostgreSQL does not start", error=str(error))

    def stop(self) -> None:
        """
        Shut PostgreSQL down: fast, then immediately, then by kill. Bounded; harmless when not running.
        """
        try:
            for _ in self._end():
                time.sleep(_BEAT_SECONDS)
        finally:
            if self._socket_link.is_symlink():
                shutil.rmtree(self._socket_link.readlink(), ignore_errors=True)
                self._socket_link.unlink(missing_ok=True)

    @property
    def _socket_link(self) -> Path:
        return self.data_dir.absolute() / "postgres.socket"

    def _conninfo(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(host=str(self._sockets), port=_PORT, user=ROLE, dbname=database)

    def _make_socket_directory(self) -> Path:
        """
        A private directory with a short path: the one a killed node left, or a new one.
        """
        with contextlib.suppress(OSError):
            left = self._socket_link.readlink()
            status = left.lstat()
            private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700
            if private and status.st_uid == self._cluster.account.uid:
                return left
        made = Path(tempfile.mkdtemp(prefix="greenroom-"))
        if len(os.fsencode(made / f".s.PGSQL.{_PORT}")) > _SOCKET_PATH_BYTES:
            made.rmdir()
            raise StartupError(
                f"embedded PostgreSQL: {made.parent} is too long a path for a Unix socket; "
                f"set TMPDIR to a shorter one"
            )
        self._cluster.account.own(made)
        self._socket_link.unlink(missing_ok=True)
        self._socket_link.symlink_to(made)
        return made

    def _launch(self) -> Iterator[None]:
        """
        Start PostgreSQL and come back when it is ready; yields wherever its caller has to sleep.
        """
        yield from self._end()
        cluster = self._cluster
        # Nothing of this cluster runs: a pid in these files is a stranger's, and PostgreSQL would refuse.
        for stale in (
            cluster.directory / "postmaster.pid",
            self._sockets / f".s.PGSQL.{_PORT}",
            self._sockets / f".s.PGSQL.{_PORT}.lock",
        ):
            stale.unlink(missing_ok=True)
        with opened(cluster.directory) as home, opened(self._sockets) as sockets:
            client = pwd.getpwuid(os.geteuid()).pw_name
            cluster.write(home, "pg_hba.conf", f"local all {ROLE} peer map={ROLE}\n")
            cluster.write(home, "pg_ident.conf", f'{ROLE} "{client}" {ROLE}\n')
            command = ["postgres", "-D", by_descriptor(home), "-k", by_descriptor(sockets), "-p", _PORT]
            for name, value in {**_PARAMETERS, **self.parameters, "cluster_name": cluster.name}.items():
                command += ["-c", f"{name}={value}"]
            self._process = cluster.spawn(command, inherit=[home, sockets])
        deadline = time.monotonic() + _START_SECONDS
        while cluster.postmaster() != (self._process.pid, True):
            if self.pid is None or time.monotonic() > deadline:
                raise StartupError(
                    f"embedded PostgreSQL: does not start in {cluster.directory}:\n{cluster.last_words()}"
                )
            yield

    def _end(self) -> Iterator[None]:
        """
        End every process of this cluster; yields wherever its caller has to sleep.

        The data directory's lock is ours, so whatever runs is our child or left over by a killed node.
        """
        began = time.monotonic()
        endings = list(_ENDINGS)
        while running := self._running():
            elapsed = time.monotonic() - began
            if elapsed > _END_SECONDS:
                raise StartupError(
                    f"embedded PostgreSQL: processes {sorted(running)} of {self.data_dir} do not end"
                )
            if endings and elapsed >= endings[0][0]:
                self._signal(running, endings.pop(0)[1])
            yield
        if self._process is not None:
            self._process.wait()  # dead, though perhaps no zombie yet

    def _running(self) -> set[int]:
        # Our own child may not have come to its name yet.
        return self._cluster.processes() | ({self.pid} if self.pid is not None else set())

    def _signal(self, running: set[int], number: signal.Signals) -> None:
        if number == signal.SIGINT:
            recorded = self._cluster.postmaster()
            postmaster = self.pid if self.pid is not None else recorded[0] if recorded else None
            if postmaster in running:
                running = {postmaster}  # to the others it means something else
            else:
                number = signal.SIGQUIT  # a busy backend may not notice for hours that it is alone
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _make_database(self) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {_DATABASE}")
