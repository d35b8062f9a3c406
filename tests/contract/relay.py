"""A way to the database on which things happen that no database does on demand."""

import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Relay:
    """
    A way to the database that can be cut, and on which one can speak in the server's name.
    """

    def __init__(self, conninfo: str) -> None:
        parameters = conninfo_to_dict(conninfo)
        self._upstream = f"{parameters['host']}/.s.PGSQL.{parameters.get('port', 5432)}"
        self._given = conninfo
        self.port = 0
        self._clients: list[trio.SocketStream] = []
        self._speaking = trio.Lock()
        self._open: trio.CancelScope | None = None

    @property
    def conninfo(self) -> str:
        return make_conninfo(self._given, host="127.0.0.1", port=self.port, sslmode="disable")

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self._open:
            listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()
            await trio.serve_listeners(self._serve, listeners)

    def cut(self) -> None:
        assert self._open is not None
        self._open.cancel()

    async def say(self, kind: bytes, fields: bytes) -> None:
        async with self._speaking:
            (client,) = self._clients
            await client.send_all(kind + (len(fields) + 4).to_bytes(4, "big") + fields)

    async def _serve(self, client: trio.SocketStream) -> None:
        self._clients.append(client)
        async with client, await trio.open_unix_socket(self._upstream) as server, trio.open_nursery() as both:
            both.start_soon(self._ask, client, server)
            async for data in server:
                async with self._speaking:
                    await client.send_all(data)
            both.cancel_scope.cancel()
        self._clients.remove(client)

    async def _ask(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        async for data in client:
            await server.send_all(data)
        await server.send_eof()
