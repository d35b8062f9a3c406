"""The socket of one client without TLS: read, written, ended in time. Knows no HTTP."""

import socket
from contextlib import suppress
from math import inf

import attrs
import trio

from gateway.http.readers import Readers

# What is read at once; the buffer lives as long as one read.
RECEIVE = 65536
# A write is given its deadline per piece: a slow line may take long over a big response, a dead one not.
PIECE = 65536
# For how long a client may take to hear our last bytes. Closed with its own bytes unread, a socket is reset,
# and the reset overtakes a 413 or a close frame.
LINGER = 2.0
# As Trio sets it for its streams: a client that does not read shows soon, not after megabytes.
UNSENT = 16384


def prepare(sock: socket.socket) -> None:
    """
    Make an accepted socket fit for a Wire.
    """
    sock.setblocking(False)
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


@attrs.define(eq=False)
class Wire:
    """
    Own one client's socket.

    Its deadlines are plain numbers: one task of the server looks at all wires a few times a second and
    wakes whose time is over, so that no wait pays for a timer of its own.
    """

    sock: socket.socket
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    write_timeout: float
    readers: Readers
    # Until when who reads waits, and who writes.
    read_by: float = inf
    write_by: float = inf
    # Whether who reads waits there: long, like many others. Else Trio is waited with, which is a turn sooner.
    is_patient: bool = False
    # False when our last byte is sent, or nothing can be sent.
    is_open: bool = True
    # The client sends no more.
    heard_end: bool = False

    async def read(self) -> bytes | None:
        """
        What the client sends next: b"" when it sends no more, None when the reader was woken.

        Raises:
            trio.TooSlowError: nothing came until `read_by`.
        """
        data = None
        while data is None:
            if not await self.wait_readable():
                return None
            data = self.read_nowait()
        return data

    async def wait_readable(self) -> bool:
        """
        Wait until there is something to read; False when the reader was woken before.

        Raises:
            trio.TooSlowError: nothing came until `read_by`.
        """
        if self.is_patient:
            is_readable = await self.readers.wait_readable(self.sock)
        else:
            is_readable = True
            try:
                await trio.lowlevel.wait_readable(self.sock)
            except trio.ClosedResourceError:
                is_readable = False
        if not is_readable and trio.current_time() >= self.read_by:
            raise trio.TooSlowError
        return is_readable

    def read_nowait(self) -> bytes | None:
        """
        What the client has sent: b"" when it sends no more, None when nothing is there yet.
        """
        try:
            data = self.sock.recv(RECEIVE)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self.heard_end = not data
        return data

    async def write(self, data: bytes) -> bool:
        """
        Send, and wait until the kernel has it; False when the client is gone or too slow.

        No checkpoint when the kernel takes it all.
        """
        if not self.is_open:
            return False
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return False
        return sent == len(data) or await self._write_rest(memoryview(data)[sent:])

    def write_nowait(self, data: bytes) -> None:
        """
        Send a few bytes that an idle socket always takes; whoever's does not has been reading nothing.
        """
        try:
            sent = self.sock.send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            self.abort()

    async def _write_rest(self, rest: memoryview) -> bool:
        whole = False
        piece = 0
        self.write_by = trio.current_time() + self.write_timeout
        try:
            while rest:
                try:
                    await trio.lowlevel.wait_writable(self.sock)
                except trio.ClosedResourceError:
                    if not self.is_open or trio.current_time() >= self.write_by:
                        return False
                    continue  # the reader was meant
                with suppress(BlockingIOError):
                    sent = self.sock.send(rest)
                    rest = rest[sent:]
                    piece += sent
                if piece >= PIECE:
                    piece = 0
                    self.write_by = trio.current_time() + self.write_timeout
            whole = True
        except OSError:
            pass  # the application hears of it as a disconnect
        finally:
            self.write_by = inf
            if not whole:
                self.abort()  # nothing may follow half an answer
        return whole

    def wake(self) -> None:
        """
        Let whoever waits for the socket look again why.
        """
        # What Trio offers for a socket about to be closed serves for one that stays: waits end, no more.
        trio.lowlevel.notify_closing(self.sock)
        self.readers.wake(self.sock)

    def wake_late(self, now: float) -> None:
        """
        Wake whoever has waited until its deadline.
        """
        if self.read_by <= now or self.write_by <= now:
            self.wake()

    def finish(self) -> None:
        """
        Send no more.
        """
        self.is_open = False
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """
        End now, whatever is on the way.
        """
        self.is_open = False
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    async def linger(self) -> None:
        """
        Send no more. Hear the client out for a moment, so that it hears what was sent.
        """
        self.finish()
        self.read_by = trio.current_time() + LINGER
        with suppress(trio.TooSlowError):
            while not self.heard_end:
                await self.read()

    def close(self) -> None:
        self.is_open = False
        if self.sock.fileno() >= 0:
            self.wake()
            self.readers.forget(self.sock)
            self.sock.close()
