"""Which addresses and ports are listened on, and what is said when they cannot be."""

import socket

import pytest

from engine.errors import StartupError
from gateway.http.server import listen
from tests.patience import PATIENCE


def test_a_port_in_use_is_named():
    """
    The operator learns which port on which address, and what to do.
    """
    (taken,) = listen("127.0.0.1", 0, 1)
    port = taken.getsockname()[1]
    with taken, pytest.raises(StartupError, match=f"port {port} on 127.0.0.1 is in use: "):
        listen("127.0.0.1", port, 1)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no-such-host.invalid", "no such host: 'no-such-host.invalid'"),
        ("192.0.2.1", "cannot bind port 8000 on 192.0.2.1"),
    ],
)
def test_a_host_that_is_not_ours_is_named(host, message):
    """
    Whether the name is unknown or the address another machine's.
    """
    with pytest.raises(StartupError, match=message):
        listen(host, 8000, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_families_are_listened_on(host):
    """
    An address of either family is taken as it is.
    """
    try:
        (sock,) = listen(host, 0, 1)
    except StartupError:
        assert host == "::1" and not has_ipv6(), "this machine has the address"
        pytest.skip("no IPv6 on this machine")
    with sock, socket.create_connection((host, sock.getsockname()[1]), PATIENCE):
        pass


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_name_with_two_addresses_gets_one_port(monkeypatch):
    """
    Port 0 means any free port, the same on every address of the name.
    """
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", 0)) for n in (1, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    first, second = listen("both", 0, 1)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]
