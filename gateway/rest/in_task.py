"""A REST request whose body is there: answered in the connection's own task. Knows no routes."""

from collections.abc import Awaitable, Callable

from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable
from quart_trio.asgi import TrioASGIHTTPConnection


class InTask(TrioASGIHTTPConnection):
    """
    Quart's request, less a nursery and two tasks: a third of its cost.

    A client that goes meanwhile is not noticed before the answer is sent, so no write is cut off half-way.
    What lasts long is not served through Quart. A body that is still coming is handled as Quart does it.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """
        Answer one request.
        """
        first = await receive()
        if first["type"] != "http.request":
            return
        if first["more_body"]:
            await super().__call__(_again(first, receive), send)
            return
        request = self._create_request_from_scope(send)
        request.body.append(first["body"])
        request.body.set_complete()
        await self._send_response(send, await self.app.handle_request(request))


def _again(
    first: ASGIReceiveEvent, receive: ASGIReceiveCallable
) -> Callable[[], Awaitable[ASGIReceiveEvent]]:
    waiting = [first]

    async def replay() -> ASGIReceiveEvent:
        return waiting.pop() if waiting else await receive()

    return replay
