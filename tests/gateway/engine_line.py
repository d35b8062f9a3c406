"""A client of Engine.IO that does what it is told, request by request and frame by frame."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from tests.gateway.raw_client import RawClient


@attrs.frozen
class Reply:
    """
    What a request was answered with.
    """

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@attrs.define(eq=False)
class Probe:
    """
    A WebSocket of one client.
    """

    raw: RawClient

    async def send(self, packet: str | bytes) -> None:
        if isinstance(packet, str):
            await self.raw.send(self.raw.frame(packet.encode()))
        else:
            await self.raw.send(self.raw.frame(packet, 2))

    async def receive(self) -> str | bytes:
        """
        The next packet that is no ping.
        """
        while True:
            opcode, payload = await self.raw.receive_frame()
            assert opcode in (1, 2), (opcode, payload)
            if payload != b"2":
                return payload if opcode == 2 else payload.decode()

    async def closed(self) -> int:
        return await self.raw.receive_close()


@attrs.define(eq=False, kw_only=True)
class Line:
    """
    How to reach a server of Engine.IO.
    """

    connect: Callable[[], Awaitable[RawClient]]
    path: str = "/engine.io/"

    async def request(
        self, method: str, query: str, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """
        One request on a connection of its own.
        """
        client = await self.connect()
        try:
            await self.send(client, method, query, body, headers)
            return await self.reply(client)
        finally:
            await client.stream.aclose()

    async def send(
        self,
        client: RawClient,
        method: str,
        query: str,
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        length = {"Content-Length": str(len(data))} if method == "POST" else {}
        given = {"Host": "test", **length, **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        await client.send(f"{method} {self.path}?{query} HTTP/1.1\r\n{lines}\r\n".encode() + data)

    async def reply(self, client: RawClient) -> Reply:
        head = (await client.receive_head()).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await client.receive(int(headers.get("content-length", 0)))
        return Reply(int(head[0].split()[1]), headers, body.decode())

    async def open(self) -> str:
        """
        The id of a session over polling.
        """
        reply = await self.request("GET", "EIO=4&transport=polling")
        assert reply.status == 200, reply
        assert reply.text[0] == "0"
        sid: str = json.loads(reply.text[1:])["sid"]
        return sid

    async def poll(self, sid: str) -> Reply:
        return await self.request("GET", f"EIO=4&transport=polling&sid={sid}")

    async def post(self, sid: str, body: bytes | str) -> Reply:
        return await self.request("POST", f"EIO=4&transport=polling&sid={sid}", body)

    async def websocket(self, query: str = "EIO=4&transport=websocket", more: str = "") -> Probe | int:
        """
        A WebSocket, or the status that it was refused with.
        """
        client = await self.connect()
        head = await client.upgrade(f"{self.path}?{query}", more=more)
        status = int(head.split()[1])
        return Probe(client) if status == 101 else status

    async def opened(self) -> Probe:
        """
        A session over WebSocket, after its first packet.
        """
        probe = await self.websocket()
        assert isinstance(probe, Probe)
        first = await probe.receive()
        assert isinstance(first, str) and first[0] == "0"
        return probe

    async def upgraded(self, sid: str) -> Probe:
        """
        A session after its upgrade.
        """
        probe = await self.websocket(f"EIO=4&transport=websocket&sid={sid}")
        assert isinstance(probe, Probe)
        await probe.send("2probe")
        assert await probe.receive() == "3probe"
        await probe.send("5")
        return probe
