"""What the machine gives a node: file descriptors, the accept queue, its directory, who may read secrets."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from conf.settings import Loaded, Settings
from conf.sources import CONFIG_VARIABLE
from gateway.cli.checks.finding import Finding, Grade
from gateway.cli.open_files import limits, needed

# Free bytes below which a database soon stops.
LITTLE_SPACE = 500_000_000
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def of_machine(loaded: Loaded, config: Path | None) -> Iterator[Finding]:
    """
    All of it.
    """
    settings = loaded.settings
    yield _descriptors(settings)
    yield _accept_queue(settings)
    yield from _data_dir(settings.node.resolved_data_dir)
    yield from _config_file(loaded, config)


def _descriptors(settings: Settings) -> Finding:
    wanted, (_, hard) = needed(settings.limits.sessions), limits()
    if hard >= wanted:
        return Finding(Grade.OK, "file descriptors", f"{hard} are allowed, {wanted} may be needed")
    return Finding(
        Grade.WRONG,
        "file descriptors",
        f"{hard} are allowed, but limits.sessions may need {wanted}: clients beyond it wait",
        f"raise it (systemd: LimitNOFILE={wanted}; shell: ulimit -Hn {wanted}), or lower limits.sessions",
    )


def _accept_queue(settings: Settings) -> Finding:
    try:
        most = int(SOMAXCONN.read_text())
    except (OSError, ValueError):
        return Finding(Grade.NOTE, "accept queue", "this system does not say how long it may be")
    if most >= settings.server.backlog:
        return Finding(Grade.OK, "accept queue", f"the kernel holds {settings.server.backlog} connections")
    return Finding(
        Grade.NOTE,
        "accept queue",
        f"the kernel holds {most} connections, fewer than server.backlog, {settings.server.backlog}: of a"
        " crowd that comes at once, some come later",
        f"sysctl -w net.core.somaxconn={settings.server.backlog}",
    )


def _data_dir(path: Path) -> Iterator[Finding]:
    what = "data directory"
    if not path.exists():
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if os.access(above, os.W_OK):
            yield Finding(Grade.OK, what, f"{path} will be made at the first start")
        else:
            yield Finding(
                Grade.WRONG, what, f"{path} cannot be made in {above}", "make it, owned by the node's user"
            )
        return
    if not os.access(path, os.W_OK | os.X_OK):
        remedy = f"give it to the user with the id {os.geteuid()}, or run as its owner"
        yield Finding(Grade.WRONG, what, f"{path} cannot be written", remedy)
        return
    if stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH:
        yield Finding(Grade.WRONG, what, f"everyone may write in {path}", f"chmod 700 {path}")
    else:
        yield Finding(Grade.OK, what, f"{path} can be written")
    secret = path / "secret"
    if secret.exists() and stat.S_IMODE(secret.stat().st_mode) & 0o077:
        yield Finding(
            Grade.WRONG, "secret", f"others than its owner may read {secret}", f"chmod 600 {secret}"
        )
    free = shutil.disk_usage(path).free
    if free < LITTLE_SPACE:
        yield Finding(
            Grade.WRONG,
            "disk",
            f"{free // 1_000_000} MB are free below {path}",
            "make room: a database stops without",
        )
    else:
        yield Finding(Grade.OK, "disk", f"{free // 1_000_000} MB are free below {path}")


def _config_file(loaded: Loaded, config: Path | None) -> Iterator[Finding]:
    named = config or os.environ.get(CONFIG_VARIABLE)
    if not named:
        return
    path = Path(named)
    secrets = [
        option for option in ("auth.secret", "database.url") if loaded.sources[option].startswith("file ")
    ]
    if secrets and stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
        yield Finding(
            Grade.WRONG,
            "settings",
            f"everyone may read {path}, which has {' and '.join(secrets)}",
            f"chmod 640 {path}, or give them in the environment",
        )
