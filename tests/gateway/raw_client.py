"""A client on a raw stream: sends any bytes at any time, reads when told to."""

import socket
import struct

import attrs
import trio

from tests.patience import patience

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


@attrs.define(eq=False)
class RawClient:
    """
    A client that may send any bytes at any time, and reads only when told to.
    """

    stream: trio.abc.Stream
    buffer: bytearray = attrs.field(factory=bytearray)

    async def send(self, data: bytes) -> None:
        with patience():
            await self.stream.send_all(data)

    @staticmethod
    def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, mask: bool = True) -> bytes:
        """
        Frame as a client; the mask is zero, so the payload stays legible.
        """
        size, bit = len(payload), 0x80 if mask else 0
        head = struct.pack("!BB", (0x80 if fin else 0) | opcode, bit | (size if size < 126 else 126))
        if size >= 126:
            assert size < 65536
            head += struct.pack("!H", size)
        return head + (bytes(4) if mask else b"") + payload

    async def receive(self, size: int) -> bytes:
        with patience():
            while len(self.buffer) < size:
                data = await self.stream.receive_some()
                assert data, f"closed after {bytes(self.buffer)!r}"
                self.buffer += data
        return self._take(size)

    async def receive_head(self) -> bytes:
        with patience():
            while (end := self.buffer.find(b"\r\n\r\n")) < 0:
                data = await self.stream.receive_some()
                assert data, f"closed after {bytes(self.buffer)!r}"
                self.buffer += data
        return self._take(end + 4)

    async def receive_response(self) -> tuple[int, bytes]:
        head = await self.receive_head()
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await self.receive(int(lengths[0].split(b":")[1])) if lengths else b""
        return int(head.split()[1]), body

    async def receive_frame(self) -> tuple[int, bytes]:
        """
        Return one frame's opcode and payload.
        """
        first, size = await self.receive(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.receive(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.receive(8))
        return first & 0x0F, await self.receive(size)

    async def receive_close(self) -> int:
        """
        Skip what comes before the close frame and return its code; the server must close right after.
        """
        while True:
            opcode, payload = await self.receive_frame()
            if opcode == 8:
                assert await self.receive_rest() == b""
                return int.from_bytes(payload[:2], "big")

    async def receive_rest(self) -> bytes:
        """
        Read until the server closes, in good order or by a reset.
        """
        with patience():
            try:
                while data := await self.stream.receive_some():
                    self.buffer += data
            except trio.BrokenResourceError:
                pass
        return self._take(len(self.buffer))

    async def upgrade(self, path: str, *, more: str = "", then: bytes = b"") -> bytes:
        """
        Open a WebSocket; `then` goes out in the same segment. Returns the head of the answer.
        """
        await self.send(HANDSHAKE.format(path=path, more=more).encode() + then)
        return await self.receive_head()

    async def get(self, path: str = "/") -> tuple[int, bytes]:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return await self.receive_response()

    def reset(self) -> None:
        """
        Vanish: the server's next read or write fails.
        """
        sock = self.stream.socket  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data
