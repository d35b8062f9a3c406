"""How WebSockets end that are Hypercorn's, which tells nobody with which code. Knows no sockets."""

import attrs
from hypercorn.protocol.events import Data
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.ws_stream import WSStream

from gateway.http.frames import code_of, is_close
from gateway.http.traffic import Traffic


@attrs.define(eq=False)
class Endings:
    """
    Own the close codes of one connection's WebSockets, each until its application has ended.
    """

    traffic: Traffic
    _codes: dict[WSStream, int] = attrs.field(factory=dict, init=False)

    def began(self) -> None:
        """
        A WebSocket has begun.
        """
        self.traffic.websockets += 1

    def sent(self, stream: object, event: StreamEvent) -> None:
        """
        A stream sends this: the first close frame is what a WebSocket ends with, ours or the client's echoed.
        """
        if isinstance(stream, WSStream) and isinstance(event, Data) and is_close(event.data):
            self.closed(stream, code_of(event.data))

    def closed(self, stream: object, code: int) -> None:
        """
        A close frame with this code was sent past the stream, unless one was before.
        """
        if isinstance(stream, WSStream):
            self._codes.setdefault(stream, code)

    def ended(self, stream: WSStream, otherwise: int) -> None:
        """
        A WebSocket is over; with another code than a frame's, if no close frame was sent.
        """
        self.traffic.websockets -= 1
        self.traffic.closes[self._codes.pop(stream, otherwise)] += 1
