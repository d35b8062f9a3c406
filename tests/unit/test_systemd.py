"""What a service manager is told, and when nobody listens."""

import os
import socket

import pytest
import trio

from gateway.systemd import Systemd
from tests.patience import patience


@pytest.fixture
def manager(tmp_path):
    """
    A socket that hears what systemd would.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def heard(sock):
    return dict(line.split("=", 1) for line in sock.recv(4096).decode().splitlines())


async def test_each_step_of_a_service_is_told(manager):
    """
    As sd_notify(3) words it.
    """
    systemd = Systemd.of({"NOTIFY_SOCKET": manager.getsockname()})
    systemd.ready("3 sessions")
    assert heard(manager) == {"READY": "1", "STATUS": "3 sessions", "MAINPID": str(os.getpid())}
    systemd.reloading()
    assert set(heard(manager)) == {"RELOADING", "MONOTONIC_USEC"}
    systemd.stopping(12.5)
    assert heard(manager)["EXTEND_TIMEOUT_USEC"] == "12500000"
    systemd.close()
    systemd.ready("gone")


async def test_signs_of_life_come_three_times_as_often_as_they_must(manager, autojump_clock):
    """
    Until it is closed.
    """
    systemd = Systemd.of({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    assert systemd.watchdog == 30
    async with trio.open_nursery() as nursery:
        nursery.start_soon(systemd.live, lambda: "fine")
        await trio.sleep(25)
        systemd.close()
    assert [heard(manager) for _ in range(3)] == [{"WATCHDOG": "1", "STATUS": "fine"}] * 3
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
        {"NOTIFY_SOCKET": "relative"},
        {"WATCHDOG_USEC": "1000"},
    ],
)
async def test_where_nobody_listens_nothing_happens(environ):
    """
    A node that somebody starts by hand is no service.
    """
    systemd = Systemd.of(environ)
    systemd.ready("fine")
    systemd.stopping(1)
    with patience():
        await systemd.live(lambda: "fine")
    systemd.close()


async def test_another_process_s_watchdog_is_not_ours(manager):
    """
    WATCHDOG_PID names who is meant.
    """
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    assert Systemd.of(environ).watchdog is None
