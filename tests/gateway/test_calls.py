"""A client's `call`, answered over WebSocket and over Socket.IO: the same answers, codes and bounds."""

import json
from typing import Any, Protocol

import attrs
import pytest
import trio

from engine.hookspecs import Refused, hookimpl
from gateway.calls import CALLS
from tests.gateway.engine_line import Probe
from tests.gateway.node_fixture import Frontend, RunningNode, until
from tests.gateway.test_socketio_real_time import entered
from tests.patience import patience


class Caller(Protocol):
    """
    A client that calls plugins; each call has a number, under which it is answered.
    """

    async def call(self, number: int, name: str, args: Any = None) -> None: ...

    async def say(self, number: int, episode: str) -> None:
        """
        Something else that is answered: be present.
        """
        ...

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """
        The next answer: to what, and `result`, or `code` and `message`, or nothing.
        """
        ...


@attrs.frozen
class Native:
    """
    Over WebSocket: answers are replies with the question's ref.
    """

    client: Frontend

    async def call(self, number: int, name: str, args: Any = None) -> None:
        await self.client.send(type="call", name=name, args=args, ref=number)

    async def say(self, number: int, episode: str) -> None:
        await self.client.send(type="presence", resourceType="episode", resourceId=episode, ref=number)

    async def answer(self) -> tuple[int, dict[str, Any]]:
        while (reply := await self.client.receive()).get("ref") is None:
            pass
        kind, ref = reply.pop("type"), reply.pop("ref")
        assert ("code" in reply) == (kind == "error")
        return ref, reply


@attrs.frozen
class SocketIo:
    """
    Over Socket.IO: answers are acks with the packet's id.
    """

    probe: Probe

    async def call(self, number: int, name: str, args: Any = None) -> None:
        await self._emit(number, "call", {"name": name, "args": args})

    async def say(self, number: int, episode: str) -> None:
        await self._emit(number, "presence:join", {"resourceType": "episode", "resourceId": episode})

    async def _emit(self, number: int, *event: Any) -> None:
        await self.probe.send(f"42/real-time,{number}{json.dumps(event)}")

    async def answer(self) -> tuple[int, dict[str, Any]]:
        while not str(packet := await self.probe.receive()).startswith("43/real-time,"):
            pass
        number, _, rest = str(packet).removeprefix("43/real-time,").partition("[")
        [ack] = json.loads("[" + rest)
        assert ack.pop("ok") == ("code" not in ack)
        return int(number), ack


class Clerk:
    """
    Answers calls, well and badly.
    """

    def __init__(self) -> None:
        self.release = trio.Event()
        self.asked: list[str] = []

    @hookimpl
    async def call(self, engine: Any, identity: Any, name: str, args: Any) -> Any:
        self.asked.append(name)
        match name:
            case "echo":
                return {"args": args, "who": identity.user, "plugin": engine.plugin}
            case "nothing":
                return None
            case "wait":
                await self.release.wait()
                return args
            case "hang":
                await trio.sleep_forever()
            case "odd":
                return object()
            case "deep":
                nest: list[Any] = []
                for _ in range(100_000):
                    nest = [nest]
                return nest
            case "crash":
                raise RuntimeError("secret of the house")
        return Refused("no_dancing", f"the clerk does not {name}")


@pytest.fixture(params=["websocket", "socket.io"])
def connected(request: pytest.FixtureRequest) -> Any:
    """
    Connects a client to a node, over the one or the other.
    """

    async def connect(node: RunningNode, user: str = "bob@example.com") -> Caller:
        if request.param == "websocket":
            return Native(await node.connect(user))
        return SocketIo(await entered(node, user))

    return connect


async def ask(caller: Caller, name: str, args: Any = None) -> dict[str, Any]:
    """
    The answer to one call.
    """
    await caller.call(5, name, args)
    number, answer = await caller.answer()
    assert number == 5
    return answer


async def test_a_call_is_answered_by_the_plugin_that_it_names(start_greenroom: Any, connected: Any) -> None:
    """
    With what it was given, to who proved who they are; nothing is an answer, too.
    """
    caller = await connected(await start_greenroom(plugins={"clerk": Clerk()}))
    given = [1, {"a": None, "b": "ü"}]
    expected = {"args": given, "who": "bob@example.com", "plugin": "clerk"}
    assert await ask(caller, "clerk.echo", given) == {"result": expected}
    assert await ask(caller, "clerk.nothing") == {"result": None}


async def test_what_no_plugin_answers_is_told_so_and_what_one_refuses_in_its_words(
    start_greenroom: Any, connected: Any
) -> None:
    """
    A name without a plugin, of a plugin that is not there, or that answers no calls.
    """
    caller = await connected(await start_greenroom(plugins={"clerk": Clerk()}))
    for name in ("nobody.echo", "activity.echo", "echo", "", ".", "clerk."):
        answer = await ask(caller, name)
        if name == "clerk.":
            assert answer == {"code": "no_dancing", "message": "the clerk does not "}
        else:
            assert answer["code"] == "unknown_call"
            assert "calls are <plugin>.<name>" in answer["message"]
    assert await ask(caller, "clerk.dance") == {
        "code": "no_dancing",
        "message": "the clerk does not dance",
    }


async def test_a_call_that_is_none_is_refused(start_greenroom: Any) -> None:
    """
    Over Socket.IO in the ack, and the client stays; over WebSocket it is a bad message, as any other.
    """
    node = await start_greenroom(plugins={"clerk": Clerk()})
    probe = await entered(node)
    for given in ({}, {"name": 5}, "clerk.echo", None):
        await probe.send("42/real-time,3" + json.dumps(["call", given]))
        number, answer = await SocketIo(probe).answer()
        assert (number, answer["code"]) == (3, "bad_message")
    assert "result" in await ask(SocketIo(probe), "clerk.echo")
    bob = await node.connect()
    await bob.send(type="call", name=5)
    assert (await bob.bye())[1] == 4400


async def test_failures_are_answers_and_tell_nothing_of_the_house(
    start_greenroom: Any, connected: Any
) -> None:
    """
    A crash, what is no JSON, and what takes longer than the budget; the client goes on.
    """
    clerks = {"clerk": Clerk(), "hasty": Clerk()}
    node = await start_greenroom({"plugins.hasty.answer_budget": "50ms"}, plugins=clerks)
    node.may_log_tracebacks = True
    caller = await connected(node)
    crashed = await ask(caller, "clerk.crash")
    assert crashed == {"code": "failed", "message": "plugin clerk failed to answer; the log says why"}
    for name in ("odd", "deep"):
        answer = await ask(caller, f"clerk.{name}")
        assert answer["code"] == "failed"
        assert "JSON" in answer["message"] or "too deep" in answer["message"]
    slow = await ask(caller, "hasty.hang")
    assert slow["code"] == "too_slow"
    assert "budget of 0.05 s" in slow["message"]
    assert "result" in await ask(caller, "clerk.echo")


async def test_a_slow_answer_holds_up_nothing_else_of_its_client(
    start_greenroom: Any, connected: Any
) -> None:
    """
    What was asked later may be answered first: other calls, and everything else.
    """
    clerk = Clerk()
    node = await start_greenroom(plugins={"clerk": clerk})
    episode = (await node.create())["id"]
    caller = await connected(node)
    await caller.call(1, "clerk.wait", "at last")
    await caller.call(2, "clerk.echo")
    assert (await caller.answer())[0] == 2
    await caller.say(3, episode)
    assert await caller.answer() == (3, {})
    clerk.release.set()
    assert await caller.answer() == (1, {"result": "at last"})


async def test_calls_under_way_are_bounded_for_each_client(start_greenroom: Any, connected: Any) -> None:
    """
    Who asks for one more is told so at once, and others are served.
    """
    clerk = Clerk()
    node = await start_greenroom({"plugins.clerk.answers_at_once": 100}, plugins={"clerk": clerk})
    caller = await connected(node)
    for number in range(CALLS):
        await caller.call(number, "clerk.wait", number)
    await caller.call(99, "clerk.echo")
    number, answer = await caller.answer()
    assert (number, answer["code"]) == (99, "too_many")
    assert "result" in await ask(await connected(node, "carol@example.com"), "clerk.echo")
    clerk.release.set()
    answers = dict([await caller.answer() for _ in range(CALLS)])
    assert answers == {number: {"result": number} for number in range(CALLS)}
    assert "result" in await ask(caller, "clerk.echo")


async def test_a_client_that_goes_before_its_answer_is_missed_by_nobody(
    start_greenroom: Any, connected: Any
) -> None:
    """
    The plugin answers to nobody; the node goes on.
    """
    clerk = Clerk()
    node = await start_greenroom(plugins={"clerk": clerk})
    caller = await connected(node)
    await caller.call(1, "clerk.wait")
    await until(lambda: clerk.asked == ["wait"])
    await (caller.client.vanish() if isinstance(caller, Native) else caller.probe.raw.stream.aclose())
    answers = node.node.plugin_tasks.answers
    with patience():
        clerk.release.set()
        await until(lambda: answers.answered["clerk"] == 1)
    assert "result" in await ask(await connected(node), "clerk.echo")
