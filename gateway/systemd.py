"""What a node tells systemd (Type=notify): ready, reloading, stopping, and that its event loop is alive."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
import structlog
import trio

log = structlog.get_logger()

# A sign of life is given this often within the time that systemd waits for one.
SIGNS = 3


@attrs.define(eq=False)
class Systemd:
    """
    Own the way to the service manager. Where there is none, everything here does nothing.
    """

    # Seconds within which systemd wants signs of life; None: it does not.
    watchdog: float | None
    _socket: socket.socket | None
    _living: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Systemd":
        """
        What the environment says: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, see sd_notify(3).
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls(None, None)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        try:
            sock.connect(f"\0{address[1:]}" if address[0] == "@" else address)
        except OSError as error:
            log.warning("nobody listens on NOTIFY_SOCKET", address=address, error=str(error))
            sock.close()
            return cls(None, None)
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wanted = microseconds.isdecimal() and int(microseconds) > 0 and is_for_us
        return cls(int(microseconds) / 1e6 if wanted else None, sock)

    def ready(self, status: str) -> None:
        """
        It serves, and how.
        """
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """
        It reads its settings anew; `ready` says when that is over.
        """
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """
        It drains, which may take so long.
        """
        self._tell(f"STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    async def live(self, status: Callable[[], str]) -> None:
        """
        Give signs of life until `close`: each says that the event loop gets round.
        """
        with self._living:
            while self.watchdog is not None:
                self._tell(f"WATCHDOG=1\nSTATUS={status()}")
                await trio.sleep(self.watchdog / SIGNS)

    def close(self) -> None:
        """
        Nothing more will be told.
        """
        self._living.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, text: str) -> None:
        # systemd may restart while it is told; it will ask nobody about this line.
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(text.encode())
