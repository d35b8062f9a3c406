"""Who a client is when it comes through proxies: only what a trusted one says counts."""

import pytest

from gateway.proxies import Proxies


def seen(trusted, peer, *headers):
    scope = {"client": (peer, 1), "headers": [(b"x-forwarded-for", value.encode()) for value in headers]}
    return Proxies(trusted).seen(scope)["client"][0]


@pytest.mark.parametrize(
    ("trusted", "peer", "headers", "client"),
    [
        ([], "10.0.0.1", ["1.2.3.4"], "10.0.0.1"),
        (["10.0.0.0/8"], "11.0.0.1", ["1.2.3.4"], "11.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", [], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        # The left ones are what the client claims.
        (["10.0.0.0/8"], "10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (["10.0.0.0/8"], "10.0.0.1", ["6.6.6.6", "1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        (["10.0.0.0/8"], "10.0.0.1", ["1.2.3.4, nonsense"], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", ["nonsense, 10.0.0.7"], "10.0.0.7"),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        (["::1", "127.0.0.1"], "::1", ["1.2.3.4"], "1.2.3.4"),
    ],
)
def test_the_last_address_that_no_trusted_proxy_has_is_the_client(trusted, peer, headers, client):
    """
    Read from the right, as far as who says it is trusted.
    """
    assert seen(trusted, peer, *headers) == client


async def test_activity_names_the_client_and_not_the_proxy(start_greenroom):
    """
    On a whole node, in force by its settings.
    """
    node = await start_greenroom({"server.trusted_proxies": ["127.0.0.0/8"]})
    for number, claimed in enumerate(("203.0.113.9", "6.6.6.6, 203.0.113.10"), 9):
        headers = {"X-Forwarded-For": claimed}
        assert (await node.request("POST", "episodes", {"title": "T"}, headers=headers)).status == 201
        await node.effects()
        newest = (await node.request("GET", "activity")).json["data"][0]
        assert newest["ip_address"] == f"203.0.113.{number}"


async def test_nobody_is_trusted_by_default(greenroom):
    """
    What a client claims is not believed.
    """
    await greenroom.request("POST", "episodes", {"title": "T"}, headers={"X-Forwarded-For": "6.6.6.6"})
    await greenroom.effects()
    assert (await greenroom.request("GET", "activity")).json["data"][0]["ip_address"] == "127.0.0.1"
