"""The WebSocket transport: from the start, or after a probe as an upgrade of a session that was polled."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from gateway.engineio.outlet import DirectOutlet, EngineOutlet
from gateway.engineio.packets import NOOP, PONG, UPGRADE, PacketError, text_packet
from gateway.engineio.session import POLLING, EngineSession
from gateway.http.frames import payloads
from gateway.http.outlet import OUTLET_EXTENSION

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

PROBE = "probe"
# RFC 6455, section 7.4.1.
NORMAL, TOO_BIG = 1000, 1009


def direct_outlet(scope: Mapping[str, Any]) -> DirectOutlet | None:
    """
    The outlet that writes to this WebSocket by itself, where the server has one.
    """
    outlet: DirectOutlet | None = scope.get("extensions", {}).get(OUTLET_EXTENSION)
    return outlet


async def upgrade(
    session: EngineSession,
    scope: Mapping[str, Any],
    receive: Receive,
    send: Send,
    *,
    within: float,
) -> None:
    """
    Move a session from polling to this WebSocket, if the client goes on as the protocol wants it.
    """
    if session.transport != POLLING or session.is_upgrading or session.is_closed:
        await send({"type": "websocket.close", "code": NORMAL})
        return
    session.is_upgrading = True
    done = False
    try:
        with trio.move_on_after(within):
            done = await _probe(session, receive, send)
    finally:
        session.is_upgrading = False
    if not done or session.is_closed or session.transport != POLLING:
        await send({"type": "websocket.close", "code": NORMAL})
        return
    direct = direct_outlet(scope)
    session.upgrade(direct)
    await serve(session, receive, send, is_direct=direct is not None)


async def serve(session: EngineSession, receive: Receive, send: Send, *, is_direct: bool) -> None:
    """
    Carry a session's packets until either side ends.
    """
    if is_direct:
        code = await _read(session, receive)
    else:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write, session, send)
            code = await _read(session, receive)
    await send({"type": "websocket.close", "code": code})


async def _probe(session: EngineSession, receive: Receive, send: Send) -> bool:
    if await _next(receive) != "2" + PROBE:
        return False
    await send({"type": "websocket.send", "text": PONG + PROBE})
    if session.is_polled:
        # The client upgrades when its poll has ended.
        session.push(text_packet(NOOP))
    return await _next(receive) == UPGRADE


async def _read(session: EngineSession, receive: Receive) -> int:
    """
    Take packets until the session has ended; the code with which the WebSocket is to be closed.
    """
    code = NORMAL
    try:
        with trio.CancelScope() as session.reading:
            while not session.is_closed:
                packet = await _next(receive)
                if packet is None:
                    session.close("transport close")
                elif len(packet) > session.most or (
                    isinstance(packet, str) and len(packet.encode()) > session.most
                ):
                    code = TOO_BIG
                    session.close("payload too large")
                else:
                    try:
                        session.receive(packet)
                    except PacketError:
                        session.close("parse error")
    finally:
        session.close("transport close")
    return code


async def _next(receive: Receive) -> str | bytes | None:
    """
    The next packet; None when the client has gone.
    """
    event = await receive()
    if event["type"] != "websocket.receive":
        return None
    text: str | None = event.get("text")
    return event["bytes"] if text is None else text


async def _write(session: EngineSession, send: Send) -> None:
    # Behind TLS: what waits is taken and sent, message by message; last words, too.
    assert isinstance(session.outlet, EngineOutlet)
    while not session.is_closed:
        await session.outlet.wait_news()
        await _send_all(session, send)
        if session.outlet.is_slow:
            session.close("too slow")
    await _send_all(session, send)


async def _send_all(session: EngineSession, send: Send) -> None:
    assert isinstance(session.outlet, EngineOutlet)
    for frames in session.outlet.take_nowait():
        for packet in payloads(frames):
            kind = "text" if isinstance(packet, str) else "bytes"
            await send({"type": "websocket.send", kind: packet})
