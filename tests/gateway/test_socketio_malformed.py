"""What no client should send to Socket.IO: the protocol's answer, and the session ends, never the node."""

import json

import pytest
import trio

from engine.hookspecs import SocketNamespace, hookimpl
from gateway.engineio.session import UNKNOWN
from gateway.socketio.packets import ATTACHMENTS
from tests.gateway.engine_line import Line, Probe
from tests.gateway.node_fixture import RunningNode, until
from tests.gateway.test_socketio_real_time import ask, entered, line_to

DEEP = 100_000


class Open:
    """
    Serves / and lets everyone in.
    """

    @hookimpl
    def socket_namespaces(self):
        async def message(socket, *args):
            return args

        return [SocketNamespace(name="/", events={"message": message})]


@pytest.fixture
async def node(start_greenroom) -> RunningNode:
    return await start_greenroom(
        {"limits.message_burst": 1000, "limits.messages_per_second": 1000}, plugins={"open": Open()}
    )


async def connected(node: RunningNode) -> Probe:
    probe = await line_to(node).opened()
    await probe.send("40")
    assert str(await probe.receive()).startswith("40{")
    return probe


@pytest.mark.parametrize(
    "packet",
    [
        "4",
        "49",
        "4abc",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        "42[{}]",
        '42"message"',
        '42abc["message"]',
        '42["connect"]',
        '42["disconnect"]',
        "42[1.5]",
        "42[NaN]",
        '42["message"',
        '4299999999999999999999["message"]',
        '421-["message",{"_placeholder":true,"num":0}]',
        "43[]",
        "43",
        "44{}",
        '44{"message":"no"}',
        "40[]",
        '40"x"',
        "41{}",
        "40",
        '42/other,["message"]',
        "45",
        '45["message"]',
        '45-1["message"]',
        '4511-["message"]',
        '45999999999-["message",{"_placeholder":true,"num":0}]',
        '451-["message",{"_placeholder":true,"num":1}]',
        '451-["message",{"_placeholder":true,"num":-1}]',
        '451-["message",{"_placeholder":true,"num":"0"}]',
        '451-["message",{"_placeholder":true,"num":true}]',
        '42["message",' + "[" * 20_000 + "]" * 20_000 + "]",
    ],
)
async def test_a_packet_that_is_none_ends_the_line(node: RunningNode, packet: str) -> None:
    """
    And no other.
    """
    bystander = await connected(node)
    probe = await connected(node)
    await probe.send(packet)
    assert await probe.closed() == 1000
    await bystander.send('421["message"]')
    assert await bystander.receive() == "431[]"


@pytest.mark.parametrize(
    "packets",
    [
        [b"stray"],
        ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
        ['451-["message",{"_placeholder":true,"num":0}]', b"one", b"two"],
    ],
)
async def test_attachments_come_when_they_were_announced(
    node: RunningNode, packets: list[str | bytes]
) -> None:
    """
    Neither before nor in the middle of something else.
    """
    probe = await connected(node)
    for packet in packets:
        await probe.send(packet)
    assert await probe.closed() == 1000


async def test_attachments_are_bounded_together(start_greenroom) -> None:
    """
    By what one message may have.
    """
    node = await start_greenroom({"socketio.max_payload": 1000}, plugins={"open": Open()})
    probe = await connected(node)
    places = ",".join(json.dumps({"_placeholder": True, "num": number}) for number in range(ATTACHMENTS))
    await probe.send(f'45{ATTACHMENTS}-["message",{places}]')
    for _ in range(2):
        await probe.send(b"x" * 600)
    assert await probe.closed() == 1000


async def test_who_has_entered_no_namespace_yet_may_send_little_at_a_time(node: RunningNode) -> None:
    """
    There may be many of them, of whom nobody knows who they are, and each may leave half of it unsent.
    """
    line, large = line_to(node), json.dumps(["message", "x" * UNKNOWN])
    sid = await line.open()
    assert (await line.post(sid, f"42{large}")).status == 413
    assert (await line.poll(sid)).status == 400
    probe = await line.opened()
    await probe.send('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    for _ in range(2):
        await probe.send(b"x" * (UNKNOWN // 2 + 1))
    assert await probe.closed() == 1000
    sid = await line.open()
    assert (await line.post(sid, "40")).status == 200
    assert (await line.poll(sid)).text.startswith("40{")
    assert (await line.post(sid, f"427{large}")).status == 200
    assert (await line.poll(sid)).text.startswith('437["xxx')


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        (r"Pilot \ud83d", "Pilot \ufffd"),
        (r"\udfac Pilot", "\ufffd Pilot"),
        (r"\ud83d\ud83d\udFAC", "\ufffd\U0001f7ac"),
        (r"\\ud83d \ud83d", r"\ud83d" + " \ufffd"),
    ],
)
async def test_half_a_character_is_no_reason_to_end_a_line(node: RunningNode, sent: str, heard: str) -> None:
    """
    JavaScript makes it of an emoji that is cut, as in `title.slice(0, 50)`.
    """
    probe = await connected(node)
    await probe.send(f'421["message","{sent}"]')
    assert json.loads(str(await probe.receive()).removeprefix("431")) == [heard]


async def test_a_placeholder_without_attachments_is_data(node: RunningNode) -> None:
    """
    As it came.
    """
    probe = await connected(node)
    await probe.send('421["message",{"_placeholder":true,"num":7}]')
    assert await probe.receive() == '431[{"_placeholder":true,"num":7}]'


async def test_acks_that_nobody_waits_for_are_dropped(node: RunningNode) -> None:
    """
    A client may be late.
    """
    probe = await connected(node)
    await probe.send("437[1]")
    await probe.send('421["message"]')
    assert await probe.receive() == "431[]"


async def test_who_sends_too_much_at_once_is_disconnected(start_greenroom) -> None:
    """
    The same limit as that of the WebSocket's protocol.
    """
    node = await start_greenroom({"limits.message_burst": 5, "limits.messages_per_second": 1})
    probe = await entered(node)
    for _ in range(6):
        await probe.send('42/real-time,["ping"]')
    assert await probe.closed() == 1000
    assert await ask(await entered(node), "ping") == {"ok": True}


async def test_who_enters_no_namespace_in_time_is_disconnected(start_greenroom) -> None:
    """
    Over both transports.
    """
    node = await start_greenroom({"socketio.connect_timeout": "50ms"}, plugins={"open": Open()})
    line = line_to(node)
    sid = await line.open()
    probe = await line.opened()
    assert await probe.closed() == 1000
    await until(lambda: not node.application.socket_io.server.engine.sessions)
    assert (await line.poll(sid)).status == 400


async def test_a_client_that_does_not_read_is_disconnected_and_nobody_else(start_greenroom) -> None:
    """
    Over polling: what waits is bounded.
    """
    node = await start_greenroom({"realtime.outlet_backlog": "1KiB"})
    line: Line = line_to(node)
    sid = await line.open()
    await line.post(sid, "40/real-time," + json.dumps({"token": node.token()}))
    assert (await line.poll(sid)).status == 200
    probe = await entered(node)
    for number in range(8):
        await node.create(f"Episode {number}")
        await probe.receive()
    await until(lambda: len(node.application.socket_io.server.engine.sessions) == 1)
    assert (await line.poll(sid)).status == 400
    assert await ask(probe, "ping") == {"ok": True}


async def test_lines_that_break_off_anywhere_leave_nothing_behind(start_greenroom) -> None:
    """
    Amid the handshake, the probe, the welcome, a poll or a body; at the latest when no pong comes.
    """
    quick = {"socketio.ping_interval": "300ms", "socketio.ping_timeout": "300ms"}
    node: RunningNode = await start_greenroom(quick)
    line = line_to(node)
    wish = "40/real-time," + json.dumps({"token": node.token()})
    for _ in range(5):
        sid = await line.open()
        client = await line.connect()
        await line.send(client, "GET", f"EIO=4&transport=polling&sid={sid}")
        await line.post(sid, wish)
        await trio.aclose_forcefully(client.stream)
        sid = await line.open()
        probe = await line.websocket(f"EIO=4&transport=websocket&sid={sid}")
        assert isinstance(probe, Probe)
        await probe.send("2probe")
        await trio.aclose_forcefully(probe.raw.stream)
        await line.post(sid, wish)
        await line.post(sid, "1")
        probe = await line.opened()
        await probe.send(wish)
        await trio.aclose_forcefully(probe.raw.stream)
        sid = await line.open()
        client = await line.connect()
        head = f"POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\n"
        head += "Host: x\r\nContent-Length: 99\r\n\r\n4"
        await client.send(head.encode())
        await trio.aclose_forcefully(client.stream)
    await until(lambda: not node.application.socket_io.server.engine.sessions)
    await until(lambda: node.application.streams.sessions.count == 0)
    await until(lambda: node.node.hub.statistics().sessions == 0)
