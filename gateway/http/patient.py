"""The stream under TLS: its reader waits among many, where it waits long. Knows neither TLS nor HTTP."""

import socket

import attrs
import trio

from gateway.http.readers import Readers


@attrs.define(eq=False)
class PatientStream(trio.abc.Stream):
    """
    Own one client's socket.
    """

    sock: socket.socket
    readers: Readers
    # Whether who reads waits with the others: long, like many. Else Trio is waited with, a turn less.
    is_patient: bool = False
    _stream: trio.SocketStream = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(self.sock))

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.is_patient:
            await self.readers.wait_readable(self.sock)
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            self.readers.forget(self.sock)
        self._stream.socket.close()
