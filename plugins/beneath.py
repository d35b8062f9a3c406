"""Reads files that a job names, and never one outside the folder that they must be in."""

import errno
import os
import stat
from pathlib import Path

from engine.errors import EngineError

MAX_PATH = 500
RULE = "must be a relative path such as season1.csv or spring/season1.csv, with / between its parts"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class FileRefusedError(EngineError):
    """
    The file cannot or must not be read; the text says why. Trying again does not help before somebody acts.
    """


def relative_path(value: object) -> str:
    """
    A path that stays below the folder it is relative to. Raises ValueError with what would be right.
    """
    if not isinstance(value, str) or not value or value.startswith("/") or "\\" in value:
        raise ValueError(RULE)
    if len(value) > MAX_PATH:
        raise ValueError(f"must have at most {MAX_PATH} characters, not {len(value)}")
    if not value.isprintable():
        raise ValueError("must not contain control characters")
    for part in value.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"{RULE}; {part!r} is none")
    return value


def read_beneath(data_dir: Path, folder: str, path: str, most: int) -> bytes:
    """
    The bytes of a regular file below `data_dir/folder`, `most` of them at most.

    No part of the way below the data directory may be a symbolic link. Each is opened from the one before,
    so nobody can exchange a part between the check and the opening. Raises FileRefusedError.
    """
    told = f"{folder}/{path}"
    try:
        *folders, name = (folder, *relative_path(path).split("/"))
    except ValueError as error:
        raise FileRefusedError(f"{told!r} {error}") from None
    opened = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            opened, before = _open(part, _FOLDER, opened, told), opened
            os.close(before)
        before, opened = opened, _open(name, _FILE, opened, told)
        os.close(before)
        return _read(opened, told, most)
    finally:
        os.close(opened)


def _read(opened: int, told: str, most: int) -> bytes:
    status = os.fstat(opened)
    if not stat.S_ISREG(status.st_mode):
        raise FileRefusedError(f"{told} is no regular file")
    with open(opened, "rb", closefd=False) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise FileRefusedError(f"{told} has more than {most:,} bytes, which is the most that is read")
    return data


def _open(name: str, flags: int, at: int, told: str) -> int:
    try:
        return os.open(name, flags, dir_fd=at)
    except OSError as error:
        raise FileRefusedError(f"{told} {_reason(error, name, at)}") from None


def _reason(error: OSError, name: str, at: int) -> str:
    match error.errno:
        case errno.ENOENT:
            return "is not there, in the node's data directory"
        case errno.EACCES | errno.EPERM:
            return f"cannot be read: the node may not open {name!r}"
        case errno.ELOOP | errno.ENOTDIR if _is_link(name, at):
            return f"is not read: {name!r} is a symbolic link, and they are not followed; put the file there"
        case errno.ENOTDIR:
            return f"is not there: {name!r} is no folder"
        case errno.ENXIO:
            return "is no regular file"
        case _:
            return f"cannot be read: {error.strerror}"


def _is_link(name: str, at: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except OSError:
        return False
