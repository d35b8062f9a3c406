"""One client connection: which protocol it speaks. Knows no episodes."""

import socket
from typing import Protocol

from hypercorn.utils import parse_socket_addr

from gateway.http.http1 import Http1
from gateway.http.secure import Secure
from gateway.http.serving import Serving
from gateway.http.wire import Wire, prepare

_Address = tuple[str, int] | None


class Connection(Protocol):
    """
    What the server knows of a connection.
    """

    @property
    def client(self) -> _Address: ...

    @property
    def is_idle(self) -> bool:
        """
        No request is being answered, so nobody is hurt when it ends.
        """
        ...

    async def run(self) -> None:
        """
        Serve until either side ends.
        """

    def abort(self) -> None:
        """
        End now, whatever is on the way.
        """

    def wake_late(self, now: float) -> None:
        """
        Wake whoever has waited for the client until its deadline.
        """


def open_connection(serving: Serving, sock: socket.socket, client: _Address) -> Connection:
    """
    Serve an accepted socket: HTTP/1.1 and WebSocket of our own, or with TLS what Hypercorn speaks.
    """
    if serving.tls is not None:
        return Secure(serving, sock, client)
    prepare(sock)
    server = parse_socket_addr(sock.family, sock.getsockname())
    return Http1(serving, Wire(sock, client, server, serving.limits.write_timeout, serving.readers))
