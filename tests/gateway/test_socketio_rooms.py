"""Rooms of plugins' namespaces: who is not let in, or has gone, is in none."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from engine.hookspecs import SocketNamespace, hookimpl
from tests.gateway.engine_line import Probe
from tests.gateway.node_fixture import RunningNode
from tests.gateway.test_socketio_real_time import line_to

Start = Callable[..., Awaitable[RunningNode]]


class Hall:
    """
    Serves /hall: puts each client into as many rooms as it asks for, and tells the others what one says.
    """

    @hookimpl
    def socket_namespaces(self):
        return [SocketNamespace(name="/hall", on_connect=self.connect, events={"say": self.say})]

    async def connect(self, socket):
        for number in range(socket.auth["rooms"]):
            socket.join(f"room {number}")

    async def say(self, socket, text):
        return await socket.broadcast("said", text)


async def entered(node: RunningNode, rooms: int) -> Probe:
    probe = await line_to(node).opened()
    await probe.send("40/hall," + json.dumps({"rooms": rooms}))
    assert str(await probe.receive()).startswith("40/hall,{")
    return probe


async def test_a_client_that_could_not_be_let_in_is_in_no_room(start_greenroom: Start, logs: Any) -> None:
    """
    The plugin puts it into more rooms than there may be: its part here ends, and nobody speaks to it.
    """
    node = await start_greenroom({"limits.subscriptions_per_session": 2}, plugins={"hall": Hall()})
    guest, greedy = await entered(node, 2), await entered(node, 3)
    assert await greedy.receive() == "41/hall,"
    await guest.send('42/hall,7["say","is anybody there?"]')
    assert await guest.receive() == "43/hall,7[0]"
    assert [entry["plugin"] for entry in logs.tracebacks()] == ["hall"]
    node.may_log_tracebacks = True
