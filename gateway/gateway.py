"""The gateway as a child of the node: serves the application, and drains it when the node stops."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from socket import socket
from typing import cast

import attrs
import trio
from hypercorn.typing import ASGIFramework

from conf.settings import Settings
from engine.errors import StartupError
from engine.live import Renewal
from gateway.app import Application
from gateway.http.server import ServerLimits, serve


@attrs.define(eq=False, kw_only=True)
class Gateway:
    """
    Own the listening sockets and everything that came in through them.
    """

    application: Application
    sockets: Sequence[socket]
    settings: Settings
    _limits: ServerLimits = attrs.field(init=False)
    # The present life ends because of an error, and another follows.
    _crashed: bool = attrs.field(default=False, init=False)
    _tls: ssl.SSLContext | None = attrs.field(init=False)
    # The certificate and its key as they are in use.
    _tls_files: bytes = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._limits = server_limits(self.settings)
        self._tls = tls_context(self.settings)
        self._tls_files = _tls_files(self.settings)

    def retune(self, settings: Settings) -> None:
        """
        Hold connections to these limits, those that are there too.
        """
        for name, value in attrs.asdict(server_limits(settings)).items():
            setattr(self._limits, name, value)

    def renewal(self) -> Renewal | None:
        """
        Another certificate, if its files have another now: for connections to come. Raises StartupError.
        """
        context, server, found = self._tls, self.settings.server, _tls_files(self.settings)
        if context is None or found == self._tls_files:
            return None
        # Fails as the next start would, if the two do not fit.
        tls_context(self.settings)

        def take() -> None:
            context.load_cert_chain(server.tls_certificate, server.tls_key)
            self._tls_files = found

        return Renewal("server.tls_certificate", take)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Serve until cancelled; then let clients go in good order, within the node's grace.
        """
        shutdown, self._crashed = trio.Event(), False
        async with trio.open_nursery() as nursery:
            await nursery.start(self._serve, shutdown)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                if not self._crashed:
                    # Now, not when the process ends: who comes while others drain is to go elsewhere.
                    for sock in self.sockets:
                        sock.close()
                shutdown.set()

    async def _serve(self, shutdown: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        # `serve` closes what it listens on, and a life after a crash listens on the same.
        sockets = [sock.dup() for sock in self.sockets]
        # Its end is graceful and bounded, and asked for by the event: cancellation would cut it off.
        with trio.CancelScope(shield=True):
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.application.socket_io.run)
                    await serve(
                        cast(ASGIFramework, self.application),
                        sockets,
                        self._limits,
                        shutdown=shutdown,
                        farewell=self.application.drain,
                        tls=self._tls,
                        traffic=self.application.traffic,
                        task_status=task_status,
                    )
                    nursery.cancel_scope.cancel()
            except BaseException:
                self._crashed = True
                raise
            finally:
                for sock in sockets:
                    sock.close()


def server_limits(settings: Settings) -> ServerLimits:
    """
    The server's limits, from the settings.
    """
    return ServerLimits(
        header_timeout=settings.server.header_timeout,
        body_timeout=settings.server.body_timeout,
        keep_alive=settings.server.keep_alive,
        write_timeout=settings.server.write_timeout,
        shutdown_grace=settings.node.shutdown_grace,
        max_header=settings.server.max_header,
        max_body=settings.server.max_body,
        max_message=max(settings.limits.max_message, settings.socketio.max_payload),
        backlog=settings.server.backlog,
        outlet_backlog=settings.realtime.outlet_backlog,
        outlet_deadline=settings.realtime.outlet_deadline,
        ping_interval=settings.realtime.ping_interval,
        ping_timeout=settings.realtime.ping_timeout,
        handshake_queue=settings.server.handshake_queue,
        handshake_timeout=settings.server.handshake_timeout,
        retry_after=settings.server.reconnect_after,
    )


def _tls_files(settings: Settings) -> bytes:
    paths = filter(None, (settings.server.tls_certificate, settings.server.tls_key))
    try:
        return b"\0".join(Path(path).read_bytes() for path in paths)
    except OSError as error:
        raise StartupError(f"server.tls_certificate, tls_key: {error}") from error


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """
    TLS with the configured certificate; None without one. Raises StartupError.
    """
    certificate, key = settings.server.tls_certificate, settings.server.tls_key
    if not certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise StartupError(f"server.tls_certificate {certificate} and tls_key {key}: {error}") from error
    return context
