"""Namespaces of plugins, packet by packet: the protocol's published behaviour, what plugins may do."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from engine.errors import PluginError
from engine.hookspecs import SocketNamespace, SocketRefused, hookimpl
from engine.plugin_host.host import PluginHost
from tests.gateway.engine_line import Probe
from tests.gateway.node_fixture import RunningNode, until
from tests.gateway.test_socketio_real_time import line_to

Start = Callable[..., Awaitable[RunningNode]]


class Echo:
    """
    Serves / and /custom: echoes, asks back, has rooms; remembers who went why.
    """

    def __init__(self) -> None:
        self.gone: list[tuple[str, str]] = []

    @hookimpl
    def socket_namespaces(self):
        events = {
            "message": self.message,
            "message-with-ack": self.ack,
            "ask-back": self.ask_back,
            "plain": self.plain,
            "enter": self.enter,
            "say": self.say,
            "fail": self.fail,
            "hang": self.hang,
            "kick": self.kick,
            "who": self.who,
        }
        names = ("/", "/custom")
        return [
            SocketNamespace(
                name=name, on_connect=self.connect, events=events, on_disconnect=self.disconnected
            )
            for name in names
        ]

    async def connect(self, socket):
        if socket.auth.get("password") == "wrong":
            raise SocketRefused("no", {"code": 17})
        if socket.auth.get("bug"):
            raise RuntimeError("a bug")
        socket.emit("auth", dict(socket.auth))

    async def disconnected(self, socket, reason):
        self.gone.append((socket.namespace, reason))

    async def message(self, socket, *args):
        socket.emit("message-back", *args)

    async def ack(self, socket, *args):
        return args

    async def ask_back(self, socket, question):
        answer = await socket.ask("question", question)
        return ("answered", *answer)

    def plain(self, socket, number):
        socket.emit("from-a-thread", number)
        return number + 1

    async def enter(self, socket, room):
        socket.join(room)
        return True

    async def say(self, socket, room, text):
        return await socket.broadcast("said", text, room=room)

    async def fail(self, socket):
        raise RuntimeError("a bug")

    async def hang(self, socket):
        await trio.sleep_forever()

    async def kick(self, socket):
        socket.disconnect()

    async def who(self, socket):
        return None if socket.identity is None else socket.identity.user


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def studio(start_greenroom: Start, echo: Echo) -> RunningNode:
    """
    A node with the plugin.
    """
    return await start_greenroom(plugins={"echo": echo})


async def entered(studio: RunningNode, namespace: str = "/", auth: Any = None) -> Probe:
    probe = await line_to(studio).opened()
    prefix = "" if namespace == "/" else f"{namespace},"
    await probe.send(f"40{prefix}" + ("" if auth is None else json.dumps(auth)))
    welcome = str(await probe.receive())
    assert welcome.startswith(f"40{prefix}{{"), welcome
    assert list(json.loads(welcome.removeprefix(f"40{prefix}"))) == ["sid"]
    assert await probe.receive() == f"42{prefix}" + json.dumps(["auth", auth or {}], separators=(",", ":"))
    return probe


@pytest.mark.parametrize("namespace", ["/", "/custom"])
@pytest.mark.parametrize("auth", [None, {"token": "123"}])
async def test_a_namespace_is_entered_with_or_without_auth(
    studio: RunningNode, namespace: str, auth: Any
) -> None:
    """
    The plugin sees what was sent with the wish, and what it emits follows the welcome.
    """
    await entered(studio, namespace, auth)


async def test_the_ids_of_namespaces_are_not_the_line_s(studio: RunningNode) -> None:
    """
    That one is a secret.
    """
    line = line_to(studio)
    sid = await line.open()
    await line.post(sid, "40\x1e40/custom,")
    text = ""
    while text.count('"sid"') < 2:
        text += (await line.poll(sid)).text
    ids = [
        json.loads(packet[packet.index("{") :])["sid"] for packet in text.split("\x1e") if '"sid"' in packet
    ]
    assert len({sid, *ids}) == 3


async def test_an_unknown_namespace_is_refused(studio: RunningNode) -> None:
    """
    With an object; the line goes on.
    """
    probe = await line_to(studio).opened()
    await probe.send("40/random")
    assert await probe.receive() == '44/random,{"message":"Invalid namespace"}'
    await probe.send("40")
    assert str(await probe.receive()).startswith("40{")


async def test_a_plugin_may_refuse(studio: RunningNode, logs: Any) -> None:
    """
    With a message and data; a bug refuses too, and is logged.
    """
    probe = await line_to(studio).opened()
    await probe.send('40{"password":"wrong"}')
    assert await probe.receive() == '44{"message":"no","data":{"code":17}}'
    assert logs.tracebacks() == []
    await probe.send('40{"bug":true}')
    assert await probe.receive() == '44{"message":"the namespace has failed; try again later"}'
    assert logs.tracebacks()
    studio.may_log_tracebacks = True


async def test_events_and_acks_go_both_ways(studio: RunningNode) -> None:
    """
    Text and binary, from the event loop and from a thread.
    """
    probe = await entered(studio)
    for sent, expected in (
        (['42["message",1,"2",{"3":[true]}]'], ['42["message-back",1,"2",{"3":[true]}]']),
        (['42456["message-with-ack",1,"2",{"3":[false]}]'], ['43456[1,"2",{"3":[false]}]']),
        (['421["message-with-ack"]'], ["431[]"]),
        (['422["plain",1]'], ['42["from-a-thread",1]', "432[2]"]),
        (
            ['452-["message",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]', b"\1\2", b""],
            [
                '452-["message-back",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]',
                b"\1\2",
                b"",
            ],
        ),
        (
            ['451-789["message-with-ack",{"_placeholder":true,"num":0}]', b"\1\2"],
            ['461-789[{"_placeholder":true,"num":0}]', b"\1\2"],
        ),
        (['423["ask-back","why?"]'], ['421["question","why?"]']),
        (['431["because",7]'], ['433["answered","because",7]']),
    ):
        for packet in sent:
            await probe.send(packet)
        assert [await probe.receive() for _ in expected] == expected


async def test_whoever_leaves_a_namespace_stays_in_the_others(studio: RunningNode, echo: Echo) -> None:
    """
    The line stays open, even when it leads nowhere any more.
    """
    probe = await entered(studio)
    await probe.send("40/custom")
    assert str(await probe.receive()).startswith("40/custom,{")
    assert await probe.receive() == '42/custom,["auth",{}]'
    await probe.send("41/custom")
    await probe.send('42["message","to the main namespace"]')
    assert await probe.receive() == '42["message-back","to the main namespace"]'
    await probe.send("41")
    await until(lambda: len(echo.gone) == 2)
    assert echo.gone == [(name, "client namespace disconnect") for name in ("/custom", "/")]
    await probe.send("40")
    assert str(await probe.receive()).startswith("40{")


async def test_a_room_is_told_except_who_speaks(studio: RunningNode) -> None:
    """
    And nobody of another room or namespace.
    """
    first, second, third = [await entered(studio) for _ in range(3)]
    other = await entered(studio, "/custom")
    for probe, room in ((first, "green"), (second, "green"), (third, "red")):
        await probe.send(f'421["enter","{room}"]')
        assert await probe.receive() == "431[true]"
    await first.send('422["say","green","hello"]')
    assert await first.receive() == "432[1]"
    assert await second.receive() == '42["said","hello"]'
    await first.send('423["say",null,"everyone"]')
    assert await first.receive() == "433[2]"
    assert [await second.receive(), await third.receive()] == ['42["said","everyone"]'] * 2
    await other.send('42/custom,["message"]')
    assert await other.receive() == '42/custom,["message-back"]'
    await trio.aclose_forcefully(second.raw.stream)
    await until(lambda: len(studio.application.socket_io.server.engine.sessions) == 3)
    await first.send('424["say","green","again"]')
    assert await first.receive() == "434[0]"


async def test_a_plugin_that_fails_or_hangs_harms_nobody(
    start_greenroom: Start, echo: Echo, logs: Any
) -> None:
    """
    Nothing is acknowledged, it is logged, and the client goes on.
    """
    studio = await start_greenroom({"plugins.socket_budget": "2s"}, plugins={"echo": echo})
    probe = await entered(studio)
    other = await entered(studio, "/custom")
    await probe.send('421["fail"]')
    await probe.send('422["hang"]')
    await other.send('42/custom,["message","meanwhile"]')
    assert await other.receive() == '42/custom,["message-back","meanwhile"]'
    await probe.send('423["message-with-ack",1]')
    assert await probe.receive() == "433[1]"
    assert len(logs.tracebacks()) == 2
    studio.may_log_tracebacks = True


async def test_what_a_plugin_does_not_know_is_no_bug_of_it(studio: RunningNode) -> None:
    """
    An unknown event is ignored; one with other arguments is told so.
    """
    probe = await entered(studio)
    await probe.send('421["no such event"]')
    await probe.send('422["plain"]')
    assert await probe.receive() == (
        '42["error",{"event":"plain","message":"plain takes other arguments than these 0"}]'
    )


async def test_a_plugin_knows_who_a_token_proves(studio: RunningNode) -> None:
    """
    And nobody by one that proves nothing.
    """
    for token, user in ((studio.token("bob@example.com"), '"bob@example.com"'), ("bad", "")):
        probe = await line_to(studio).opened()
        await probe.send("40" + json.dumps({"token": token}))
        await probe.receive()
        await probe.receive()
        await probe.send('421["who"]')
        assert await probe.receive() == f"431[{user}]"


async def test_a_plugin_may_end_it(studio: RunningNode, echo: Echo) -> None:
    """
    For one client in one namespace.
    """
    probe = await entered(studio)
    await probe.send('42["kick"]')
    assert await probe.receive() == "41"
    await until(lambda: echo.gone == [("/", "server namespace disconnect")])


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (["/x"], "answer hookspecs.SocketNamespace, not str"),
        ([SocketNamespace(name="x")], "'x' is no name of a namespace"),
        ([SocketNamespace(name="/real-time")], "is the engine's own"),
        ([SocketNamespace(name="/x", events={"e": 7})], "e must be functions"),  # type: ignore[dict-item]
        ([SocketNamespace(name="/x"), SocketNamespace(name="/x")], "already served by plugin odd"),
        (7, "socket_namespaces failed"),
    ],
)
def test_a_namespace_that_breaks_the_contract_is_refused_at_the_start(answer: Any, mistake: str) -> None:
    """
    By the plugin's name, with what is wrong.
    """

    class Odd:
        @hookimpl
        def socket_namespaces(self):
            return answer

    with pytest.raises(PluginError, match=mistake) as refused:
        PluginHost().register(Odd(), "odd")
    assert "plugin odd" in str(refused.value)
