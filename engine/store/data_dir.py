"""The directory where a node keeps what must outlive it: who may use it, and the secret in it."""

import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
from pathlib import Path

import attrs

from engine.errors import StartupError

_SECRET_BYTES = 32


@attrs.define(eq=False)
class DataDir:
    """
    Own a data directory: while this is open, no other node can use it.

    The kernel holds the lock, so it ends with the process, kill -9 included; what is in the directory stays.
    """

    path: Path
    # Open as long as the lock is held; closing it is what unlocks.
    _lock: int

    @classmethod
    def open(cls, path: Path) -> "DataDir":
        """
        Make the directory if need be and lock it.

        Raises:
            StartupError: it is no directory, cannot be written, or another node uses it.
        """
        path = path.absolute()
        try:
            _make(path)
            with tempfile.TemporaryFile(dir=path) as probe:
                probe.write(b"\0")
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock, 0)
            os.write(lock, b"%d\n" % os.getpid())
        except BlockingIOError:
            pid = os.read(lock, 20).decode().strip()
            os.close(lock)
            raise StartupError(
                f"data directory {path}: another node uses it{f' (pid {pid})' if pid else ''}; "
                f"stop that one, or give this one a directory of its own"
            ) from None
        except OSError as error:
            os.close(lock)
            raise _unusable(path, error) from error
        return cls(path, lock)

    def secret(self) -> bytes:
        """
        The secret that this node signs with; made when there is none.
        """
        return read_secret(self.path)

    def close(self) -> None:
        """
        Let others use the directory. Once is enough, twice does no harm.
        """
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def read_secret(path: Path) -> bytes:
    """
    The secret of the data directory `path`, made when there is none; needs no lock.

    However many ask at once, and whoever is killed meanwhile, all get the same whole secret.

    Raises:
        StartupError: it can be neither read nor made, or is no secret.
    """
    file = path.absolute() / "secret"
    try:
        if not file.exists():
            _make(file.parent)
            _make_secret(file)
        text = file.read_bytes().strip()
    except OSError as error:
        raise StartupError(
            f"secret {file}: cannot be read or made: {error.strerror}; run as the user who runs the node"
        ) from error
    if len(text) < _SECRET_BYTES:
        raise StartupError(
            f"secret {file}: {len(text)} bytes are too short for a secret; restore it, or delete it "
            f"to have a new one made (tokens signed with the old one end)"
        )
    return text


def _make_secret(file: Path) -> None:
    """
    Put a new secret there, unless somebody else is faster: a link is made with its content or not at all.
    """
    descriptor, made = tempfile.mkstemp(prefix="secret.new-", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as new:
            new.write(secrets.token_urlsafe(_SECRET_BYTES) + "\n")
            new.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(made, file)
    finally:
        Path(made).unlink()


def _make(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & stat.S_IWOTH:
        raise PermissionError(0, "everyone may write there")


def _unusable(path: Path, error: OSError) -> StartupError:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return StartupError(
            f"data directory {path}: not a directory; name one that is, or a path for a new one"
        )
    return StartupError(
        f"data directory {path}: cannot be written: {error.strerror}; make it writable for the user "
        f"with the id {os.geteuid()}, or name another one"
    )
