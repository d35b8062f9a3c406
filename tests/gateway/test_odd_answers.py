"""Answers of plugins that cannot be sent: whoever asked is told so, and the plugin is named."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.hookspecs import HttpResponse, hookimpl
from tests.gateway.node_fixture import NOBODYS, RunningNode
from tests.gateway.test_socketio_real_time import line_to

Start = Callable[..., Awaitable[RunningNode]]


def endless() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


# By what is odd about them.
ODD: dict[str, Any] = {
    "an object": object(),
    "a list in itself": endless(),
    "half a surrogate pair": "\ud800",
}


class Odd:
    """
    Answers whatever it is asked for.
    """

    @hookimpl
    async def call(self, args: str) -> Any:
        return ODD[args]

    @hookimpl
    async def http(self, request: Any) -> Any:
        match request.path:
            case "status":
                return HttpResponse(status="200")  # type: ignore[arg-type]
            case "headers":
                return HttpResponse(headers={"X-Number": 1})  # type: ignore[dict-item]
            case "no headers":
                return HttpResponse(headers=None)  # type: ignore[arg-type]
        return HttpResponse(body=ODD[request.path])


@pytest.mark.parametrize("name", ODD)
async def test_a_call_whose_answer_is_no_json_has_failed(start_greenroom: Start, name: str) -> None:
    """
    Over WebSocket and over Socket.IO: a reply with a code, and the session goes on.
    """
    node = await start_greenroom(plugins={"odd": Odd()})
    bob = await node.connect()
    failed = await bob.ask(type="call", name="odd.answer", args=name)
    assert (failed["code"], "no JSON" in failed["message"]) == ("failed", True)
    assert await bob.pending() == []
    carol = await line_to(node).opened()
    await carol.send("40/real-time," + json.dumps({"token": node.token("carol@example.com", "viewer")}))
    assert str(await carol.receive()).startswith("40/real-time,{")
    await carol.send("42/real-time,1" + json.dumps(["call", {"name": "odd.answer", "args": name}]))
    [answer] = json.loads(str(await carol.receive()).removeprefix("43/real-time,1"))
    assert (answer["ok"], answer["code"], "no JSON" in answer["message"]) == (False, "failed", True)
    await carol.send('42/real-time,2["ping"]')
    assert await carol.receive() == '43/real-time,2[{"ok":true}]'


@pytest.mark.parametrize("path", [*ODD, "status", "headers", "no headers"])
async def test_a_request_whose_answer_cannot_be_sent_names_the_plugin(
    start_greenroom: Start, path: str
) -> None:
    """
    It is no bug of the node, and nothing that the next request would feel.
    """
    node = await start_greenroom(plugins={"odd": Odd()})
    problem = (await node.request("GET", f"x/odd/{path.replace(' ', '%20')}")).problem(500)
    assert "plugin odd" in problem["detail"]
    assert "bug of the node" not in problem["detail"]


async def test_a_path_with_nul_is_refused_before_anybody_looks_it_up(start_greenroom: Start) -> None:
    """
    No text of PostgreSQL's has that character, and so nothing is called like that.
    """
    node = await start_greenroom()
    for method, path in (("GET", "trace/%00"), ("POST", "engine/jobs/types/%00/resume")):
        assert "NUL" in (await node.request(method, path, role="operator")).problem(400)["detail"]
    (await node.request("GET", f"episodes/{NOBODYS}")).problem(404)
