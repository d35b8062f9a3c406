"""What the documentation shows of Socket.IO does what it says; jobs are told like everything else."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.hookspecs import JobHandler, hookimpl
from tests.gateway.node_fixture import RunningNode
from tests.gateway.test_socketio_real_time import entered, event_of, line_to

Start = Callable[..., Awaitable[RunningNode]]
PLUGINS = (Path(__file__).parents[2] / "docs/plugins.md").read_text("utf-8")


def example(name: str) -> ModuleType:
    """
    A plugin as the documentation has it.
    """
    found = re.search(rf"```python\n# {name}\.py\n(.+?)```", PLUGINS, re.DOTALL)
    assert found is not None
    module = ModuleType(name)
    exec(found[1], vars(module))
    return module


async def test_the_documented_chat_is_one(start_greenroom: Start) -> None:
    """
    Who is logged in is let in, and heard by the others, pictures too.
    """
    greenroom = await start_greenroom(plugins={"chat": example("chat")})
    probe = await line_to(greenroom).opened()
    await probe.send("40/chat,")
    assert await probe.receive() == '44/chat,{"message":"log in first","data":{"code":4401}}'
    people = []
    for name in ("Alice", "Bob"):
        probe = await line_to(greenroom).opened()
        token = greenroom.token(f"{name.lower()}@example.com", name=name)
        await probe.send("40/chat," + json.dumps({"token": token}))
        assert str(await probe.receive()).startswith("40/chat,{")
        assert str(await probe.receive()).startswith(f'42/chat,["welcome",{{"you":"{name}"')
        people.append(probe)
    alice, bob = people
    await alice.send('451-/chat,1["say","hello",{"_placeholder":true,"num":0}]')
    await alice.send(b"\x89PNG")
    assert await alice.receive() == "43/chat,1[1]"
    said = '{"by":"Alice","text":"hello","picture":{"_placeholder":true,"num":0}}'
    assert [await bob.receive(), await bob.receive()] == [f'451-/chat,["said",{said}]', b"\x89PNG"]
    await alice.send("41/chat")
    assert await bob.receive() == '42/chat,["left",{"who":"Alice"}]'


async def test_jobs_are_told_under_their_names(start_greenroom: Start) -> None:
    """
    From the queue to the end, with the job as everybody is shown it.
    """

    class Work:
        @hookimpl
        def job_handlers(self) -> list[JobHandler]:
            async def run(context: Any) -> dict[str, int]:
                return {"done": 1}

            return [JobHandler(type="work.do", run=run)]

    greenroom = await start_greenroom(plugins={"work": Work()})
    frontend = await greenroom.connect("carol@example.com")
    probe = await entered(greenroom)
    answer = await greenroom.request("POST", "jobs", {"type": "work.do", "payload": {}})
    assert answer.status == 202, answer.body
    names, data = [], {}
    while "job_completed" not in names:
        frame = await frontend.receive()
        name, data, _ = event_of(await probe.receive())
        assert [name, data] == [frame["event"], frame["data"]]
        names.append(name)
    assert "job_processor_started" in names
    assert (data["job"]["type"], data["job"]["state"], data["result"]) == (
        "work.do",
        "completed",
        {"done": 1},
    )
