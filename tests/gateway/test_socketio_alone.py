"""Socket.IO as a library: a server with a namespace of one's own, and nothing of Greenroom's."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gateway.engineio.server import EngineOptions
from gateway.socketio.rooms import Rooms
from gateway.socketio.server import SocketOptions, SocketServer
from gateway.socketio.socket import ConnectRefused, Socket
from tests.gateway.conftest import Served
from tests.gateway.engine_line import Line


class Lobby:
    """
    Lets in who says a name; says it to everybody.
    """

    def __init__(self) -> None:
        self.rooms = Rooms(most=10)

    async def connect(self, socket: Socket, auth: dict[str, Any]) -> None:
        if "name" not in auth:
            raise ConnectRefused("say your name")
        socket.user_data = auth["name"]
        socket.accept(pid="its own recovery")
        self.rooms.enter(socket)

    async def event(self, socket: Socket, name: str, args: list[Any]) -> list[Any] | None:
        return [await self.rooms.emit(socket.name, None, name, [socket.user_data, *args], but_not=socket)]

    async def gone(self, socket: Socket, reason: str) -> None:
        self.rooms.drop(socket)
        await self.rooms.emit(socket.name, None, "gone", [socket.user_data, reason])

    def alive(self, socket: Socket) -> None:
        pass


async def test_a_server_of_ones_own(
    start_either: Callable[..., Awaitable[Served]], nursery: trio.Nursery
) -> None:
    """
    With and without TLS, over polling and WebSocket.
    """
    server = SocketServer({"/lobby": Lobby()}, SocketOptions(engine=EngineOptions(path="/socket.io/")))
    await nursery.start(server.run)
    served = await start_either({"/socket.io/": server.engine})
    line = Line(connect=served.connect, path="/socket.io/")
    probe = await line.opened()
    await probe.send("40/lobby,")
    assert await probe.receive() == '44/lobby,{"message":"say your name"}'
    await probe.send('40/lobby,{"name":"Alice"}')
    welcome = json.loads(str(await probe.receive()).removeprefix("40/lobby,"))
    assert welcome["pid"] == "its own recovery"
    sid = await line.open()
    await line.post(sid, '40/lobby,{"name":"Bob"}')
    assert (await line.poll(sid)).text.startswith("40/lobby,{")
    await line.post(sid, '42/lobby,1["hello"]\x1e452-/lobby,["picture",{"_placeholder":true,"num":0},'
                         '{"_placeholder":true,"num":1}]\x1ebAQI=\x1eb')  # fmt: skip
    assert await probe.receive() == '42/lobby,["hello","Bob"]'
    places = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    assert await probe.receive() == f'452-/lobby,["picture","Bob",{places}]'
    assert [await probe.receive(), await probe.receive()] == [b"\1\2", b""]
    assert (await line.poll(sid)).text == "43/lobby,1[1]"
    await line.post(sid, "1")
    assert await probe.receive() == '42/lobby,["gone","Bob","transport close"]'
