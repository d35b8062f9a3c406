"""Who waits long for what a client sends: woken a few in each turn of the event loop. Knows no protocol."""

import select
import socket

import attrs
import outcome
import trio

# In one turn so many are woken.
WOKEN = 64


@attrs.define(eq=False)
class Readers:
    """
    Own who waits for which socket, and an epoll of those sockets.

    Trio wakes everybody in the turn in which their sockets become readable: of a crowd that leaves at once,
    the whole crowd, and nobody else runs meanwhile. Here Trio waits for one thing, that any is readable, and
    a few are woken in each turn. It lives as long as the server that has the sockets.
    """

    # None where the kernel has no epoll: there Trio is waited with.
    _epoll: "select.epoll | None" = attrs.field(init=False)
    # By file descriptor. Of the others' sockets the kernel is not asked.
    _waiting: dict[int, trio.lowlevel.Task] = attrs.field(factory=dict, init=False)
    # Whose sockets the kernel knows.
    _known: set[int] = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None

    async def wait_readable(self, sock: socket.socket) -> bool:
        """
        Wait until there is something to read; False when `wake` came before.
        """
        if self._epoll is None:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return False
            return True
        number = sock.fileno()
        self._ask(self._epoll, number)
        self._waiting[number] = trio.lowlevel.current_task()

        def give_up(_: object) -> trio.lowlevel.Abort:
            del self._waiting[number]
            return trio.lowlevel.Abort.SUCCEEDED

        is_readable: bool = await trio.lowlevel.wait_task_rescheduled(give_up)
        return is_readable

    def wake(self, sock: socket.socket) -> None:
        """
        Let whoever waits for the socket look again why.
        """
        if (task := self._waiting.pop(sock.fileno(), None)) is not None:
            trio.lowlevel.reschedule(task, outcome.Value(False))

    def forget(self, sock: socket.socket) -> None:
        """
        Before a socket is closed: nobody waits for it any more, and its number will be another's.
        """
        if (number := sock.fileno()) in self._known:
            assert self._epoll is not None
            self._known.discard(number)
            self._epoll.unregister(number)

    async def keep(self) -> None:
        """
        Wake whose sockets are readable, turn after turn, until cancelled.
        """
        while self._epoll is not None:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for number, _ in self._epoll.poll(0, WOKEN):
                # Asked for once; who has given up meanwhile asks anew.
                if (task := self._waiting.pop(number, None)) is not None:
                    trio.lowlevel.reschedule(task, outcome.Value(True))

    def close(self) -> None:
        """
        Once all sockets are closed.
        """
        if self._epoll is not None:
            self._epoll.close()

    def _ask(self, epoll: "select.epoll", number: int) -> None:
        wanted = select.EPOLLIN | select.EPOLLONESHOT
        if number in self._known:
            epoll.modify(number, wanted)
        else:
            epoll.register(number, wanted)
            self._known.add(number)
