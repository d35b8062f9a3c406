"""The thinnest of clients: one WebSocket, one HTTP connection, on bare TCP; hundreds of them fit a test."""

import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import msgspec
import trio

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
RECEIVE = 65536


class LostError(Exception):
    """
    The connection ended, or was refused.
    """


@attrs.define(eq=False)
class Socket:
    """
    One WebSocket to /real-time. Nothing is masked in earnest, nothing is compressed.
    """

    stream: trio.SocketStream
    _buffer: bytearray = attrs.field(factory=bytearray, init=False)
    # The close code that the server sent.
    closed: int | None = attrs.field(default=None, init=False)

    @classmethod
    async def open(cls, port: int, token: str) -> "Socket":
        """
        Connect. Raises LostError.
        """
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError as error:
            raise LostError(str(error)) from error
        self = cls(stream)
        try:
            await stream.send_all(
                b"GET /real-time HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
            )
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                await self._receive()
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            if not head.startswith(b"HTTP/1.1 101"):
                raise LostError(head.split(b"\r\n")[0].decode())
        except BaseException as error:
            self.kill()
            if isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError)):
                raise LostError("the server hung up") from error
            raise
        return self

    def kill(self) -> None:
        """
        Reset the connection, as a machine does that loses its network.
        """
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    async def send(self, **message: object) -> None:
        """
        Send one message. Raises LostError.
        """
        await self._send(_TEXT, json.dumps(message).encode())

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """
        What the server says, until it closes. Raises LostError when the connection breaks off.
        """
        while True:
            while (frame := self._frame()) is None:
                await self._receive()
            code, payload = frame
            if code == _TEXT:
                yield msgspec.json.decode(payload)
            elif code == _PING:
                await self._send(_PONG, payload)
            elif code == _CLOSE:
                self.closed = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                return

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1], 2
        if size == 126:
            start = 4
            size = int.from_bytes(buffer[2:4], "big") if len(buffer) >= 4 else RECEIVE
        elif size == 127:
            start = 10
            size = int.from_bytes(buffer[2:10], "big") if len(buffer) >= 10 else RECEIVE
        if len(buffer) < start + size:
            return None
        code, payload = buffer[0] & 15, bytes(buffer[start : start + size])
        del buffer[: start + size]
        return code, payload

    async def _receive(self) -> None:
        try:
            data = await self.stream.receive_some(RECEIVE)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LostError("the connection broke off") from error
        if not data:
            raise LostError("the server hung up")
        self._buffer += data

    async def _send(self, code: int, payload: bytes) -> None:
        size = len(payload)
        head = (
            bytes([0x80 | code, 0x80 | size]) if size < 126 else struct.pack("!BBH", 0x80 | code, 254, size)
        )
        try:
            await self.stream.send_all(head + bytes(4) + payload)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LostError("the connection broke off") from error


@attrs.define(eq=False)
class Http:
    """
    One HTTP connection, opened again when it is lost.
    """

    port: int
    _stream: trio.SocketStream | None = None

    async def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, token: str
    ) -> tuple[int, Any]:
        """
        One request: status and JSON. Raises LostError, and then nobody knows what came of it.
        """
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        try:
            if self._stream is None:
                self._stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            await self._stream.send_all(head.encode() + data)
            return await self._answer(self._stream)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.close()
            raise LostError(str(error)) from error
        except BaseException:
            self.close()
            raise

    async def _answer(self, stream: trio.SocketStream) -> tuple[int, Any]:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += await self._more(stream)
        lines = received[:end].decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        rest, size = received[end + 4 :], int(headers.get("content-length", "0"))
        while len(rest) < size:
            rest += await self._more(stream)
        if headers.get("connection") == "close":
            self.close()
        is_json = "json" in headers.get("content-type", "")
        return int(lines[0].split()[1]), msgspec.json.decode(rest) if is_json else rest

    async def _more(self, stream: trio.SocketStream) -> bytes:
        data = bytes(await stream.receive_some(RECEIVE))
        if not data:
            self.close()
            raise LostError("the server hung up")
        return data

    def close(self) -> None:
        """
        Hang up.
        """
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None
