"""What all connections of one server share: the application, the limits, the time of day."""

import ssl
import time
from email.utils import formatdate

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from gateway.http.door import Door
from gateway.http.readers import Readers
from gateway.http.traffic import Traffic


@attrs.define(kw_only=True)
class ServerLimits:
    """
    What one client may take: times in seconds, sizes in bytes; `backlog` and `handshake_queue` are
    connections.

    A reload changes it in place; what is under way ends under what it began with.
    """

    header_timeout: float
    body_timeout: float
    keep_alive: float
    write_timeout: float
    shutdown_grace: float
    max_header: int
    max_body: int
    max_message: int
    backlog: int
    outlet_backlog: int
    outlet_deadline: float
    ping_interval: float
    ping_timeout: float
    handshake_queue: int
    handshake_timeout: float
    retry_after: float


@attrs.define(eq=False, kw_only=True)
class Serving:
    """
    One run of the server, as its connections see it.
    """

    app: ASGIFramework
    limits: ServerLimits
    # What the application's lifespan left for its requests; each gets a copy.
    state: ConnectionState
    # Where newcomers wait.
    door: Door
    # Where who waits long for its client waits: WebSockets, streams.
    readers: Readers
    # Where outlets drain their backlogs: a nursery for each connection would cost it 2 KiB.
    nursery: trio.Nursery
    # With TLS, connections are Hypercorn's.
    tls: ssl.SSLContext | None
    config: Config
    context: WorkerContext
    traffic: Traffic
    # The node stops: who is answered is answered for the last time.
    is_draining: bool = attrs.field(default=False, init=False)
    _date: bytes = attrs.field(default=b"", init=False)
    _second: int = attrs.field(default=0, init=False)

    def date_line(self) -> bytes:
        """
        The Date header, made once per second.
        """
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        return self._date
