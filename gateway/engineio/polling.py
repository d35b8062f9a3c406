"""HTTP long-polling: a GET waits for packets to the client, a POST brings packets from it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from gateway.engineio.outlet import EngineOutlet
from gateway.engineio.packets import NOOP, PacketError, join_body, split_body, text_packet
from gateway.engineio.session import POLLING, EngineSession

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

# Seconds that a poll waits for an upgrade under way; then it ends empty, so that the upgrade can go on.
UPGRADE_PATIENCE = 0.1

# A status and a body. The protocol's own errors are made by whoever knows the request.
Answer = tuple[int, bytes]
BAD: Answer = (400, b"")
TOO_LARGE: Answer = (413, b"")
OK: Answer = (200, b"ok")


async def poll(session: EngineSession, receive: Receive) -> Answer | None:
    """
    Wait for packets, and answer with all of them; None when the client did not wait.
    """
    if session.is_polled:
        session.close("overlap")
        return BAD
    session.is_polled = True
    try:
        if not await _wait(session, receive):
            session.close("transport close")
            return None
    finally:
        session.is_polled = False
    if session.transport != POLLING:
        return BAD
    frames = fetch(session)
    if session.is_closed and not frames:
        session.on_end(session)
        return 200, join_body([session.last_packet])
    return 200, join_body(frames or [text_packet(NOOP)])


def fetch(session: EngineSession) -> list[bytes]:
    """
    Everything that waits. The end of the session is told by itself: what comes in one body with it, the
    official client keeps for when it is back, and would hear again then.
    """
    assert isinstance(session.outlet, EngineOutlet)
    return session.outlet.take_nowait()


async def post(session: EngineSession, receive: Receive, announced: int = 0) -> Answer | None:
    """
    Take the packets of a body; None when the client went away amid it.
    """
    if session.is_posted:
        session.close("overlap")
        return BAD
    if announced > session.most:
        session.close("payload too large")
        return TOO_LARGE
    session.is_posted = True
    try:
        return await _take(session, receive)
    finally:
        session.is_posted = False


async def _take(session: EngineSession, receive: Receive) -> Answer | None:
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            session.close("transport close")
            return None
        body += event.get("body", b"")
        if len(body) > session.most:
            session.close("payload too large")
            return TOO_LARGE
        if session.is_closed:
            # Nobody takes it any more: a body that trickles is not kept for longer than its session.
            return BAD
        if not event.get("more_body"):
            break
    try:
        for packet in split_body(bytes(body)):
            session.receive(packet)
    except PacketError:
        session.close("parse error")
        return BAD
    return OK


async def _wait(session: EngineSession, receive: Receive) -> bool:
    """
    Wait until there is something to answer; False when the client has gone.
    """
    if _has_answer(session):
        return True
    watch = _Watch(receive)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run, nursery.cancel_scope)
        await _wait_answer(session)
        nursery.cancel_scope.cancel()
    return not watch.is_gone


@attrs.define(eq=False)
class _Watch:
    receive: Receive
    is_gone: bool = attrs.field(default=False, init=False)

    async def run(self, scope: trio.CancelScope) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        scope.cancel()


async def _wait_answer(session: EngineSession) -> None:
    assert isinstance(session.outlet, EngineOutlet)
    while not _has_answer(session):
        if session.is_upgrading:
            with trio.move_on_after(UPGRADE_PATIENCE) as patience:
                await session.outlet.wait_news()
            if patience.cancelled_caught:
                return
        else:
            await session.outlet.wait_news()


def _has_answer(session: EngineSession) -> bool:
    assert isinstance(session.outlet, EngineOutlet)
    return session.is_closed or session.transport != POLLING or not session.outlet.is_empty
