"""Files that this process may have open: enough for its sessions, and room for them from the start."""

import fcntl
import os
import resource
from pathlib import Path

import structlog

log = structlog.get_logger()

# Beside sessions: requests, the database, logs.
OTHERS = 1024


def make_room(sessions: int) -> int:
    """
    Raise this process's limit of open files as far as so many sessions need; returns what it is now.

    The kernel's table of them doubles when it is full, and in a process with threads whoever opens the file
    that was too many waits for all processors, 10 to 20 ms. So it grows now, before there are any.
    """
    wanted, (soft, hard) = needed(sessions), limits()
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if soft < wanted:
        log.warning("too few open files for limits.sessions", allowed=soft, wanted=wanted, help="ulimit -Hn")
    room = min(soft, wanted)
    with Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, room - 1))
    return room


def needed(sessions: int) -> int:
    """
    Files that so many sessions, and everything else, may have open.
    """
    return sessions + OTHERS


def limits() -> tuple[int, int]:
    """
    The files that this process may have open now, and those that it may let itself have.
    """
    soft, hard = map(_number, resource.getrlimit(resource.RLIMIT_NOFILE))
    return soft, hard


def _number(limit: int) -> int:
    return 2**31 if limit == resource.RLIM_INFINITY else limit
