"""The WebSocket at /real-time over TLS, where there is no outlet that writes to the socket by itself."""

import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.gateway.node_fixture import RunningNode
from tests.gateway.raw_client import RawClient
from tests.patience import patience

Start = Callable[..., Awaitable[RunningNode]]


@pytest.fixture
async def secure(start_greenroom: Start, certificate: Path) -> RunningNode:
    """
    A node that serves over TLS only.
    """
    return await start_greenroom(
        {"server.tls_certificate": str(certificate), "server.tls_key": str(certificate)}
    )


async def connect(secure: RunningNode, certificate: Path) -> RawClient:
    tls = ssl.create_default_context(cafile=str(certificate))
    line = await trio.open_tcp_stream("127.0.0.1", secure.port)
    client = RawClient(trio.SSLStream(line, tls, server_hostname="localhost", https_compatible=True))
    token = secure.token("bob@example.com", "viewer")
    await client.upgrade("/real-time", more=f"Authorization: Bearer {token}\r\n")
    assert (await message(client))["userId"] == "bob@example.com"
    return client


async def message(client: RawClient) -> dict[str, Any]:
    with patience():
        opcode, payload = await client.receive_frame()
    assert opcode == 1, (opcode, payload)
    found: dict[str, Any] = json.loads(payload)
    return found


async def test_bye_comes_before_the_close_frame_over_tls_too(secure: RunningNode, certificate: Path) -> None:
    """
    Whoever ends it: the client, by what is no message, or the node, because it stops.
    """
    bad, good = await connect(secure, certificate), await connect(secure, certificate)
    await bad.send(bad.frame(b"this is no message"))
    assert (await message(bad))["code"] == 4400
    assert await bad.receive_close() == 4400
    await secure.application.drain()
    assert (await message(good))["code"] == 1001
    assert await good.receive_close() == 1001
    for client in (bad, good):
        # Else the node waits for them to go, at its end.
        await trio.aclose_forcefully(client.stream)
