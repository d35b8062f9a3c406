"""Staying connected: tokens, backoff, and the state that follows. Knows no topics."""

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import attrs
import trio

from engine.runtime.backoff import Backoff
from gateway.client.messages import ClientError, ClosedError, RefusedError, State, UnreachableError, expiry
from gateway.client.session import Ending, LostError, Session

TOKEN_EXPIRED = 4440
# Seconds between two new tokens, at least.
MIN_REFRESH = 1.0

BACKOFF = Backoff(first=0.5, cap=30.0, jitter=1.0)

GetToken = Callable[[], Awaitable[str]]


@attrs.frozen(kw_only=True)
class Options:
    """
    How patient a client is; times in seconds.
    """

    # Between two connections, with full jitter, besides what the node asks for. A connection that stood
    # for `steady` begins anew with the first delay.
    backoff: Backoff = BACKOFF
    steady: float = 10.0
    connect_timeout: float = 10.0
    # Between two signs of life; a node that does not answer one in time is given up.
    ping_interval: float = 20.0
    ping_timeout: float = 10.0
    # Events that wait to be taken from one subscription; then the client stops reading.
    buffer: int = 256
    # A token is replaced so long before its end, or at four fifths of its life if that is later.
    refresh_margin: float = 60.0
    chance: random.Random = attrs.field(factory=random.Random)
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = trio.sleep


class User(Protocol):
    """
    Whose line it is.
    """

    @property
    def is_blocked(self) -> bool:
        """
        Whether reading waits for whoever takes events: silence proves nothing then.
        """
        ...

    async def restore(self, session: Session) -> None:
        """
        Wish everything again on a new connection.
        """
        ...

    async def hear(self, message: Mapping[str, Any]) -> None: ...

    def lose(self) -> None:
        """
        The connection is gone.
        """
        ...

    def end(self, error: ClientError | None) -> None:
        """
        The line will not come back; why not, or None if its user closed it.
        """
        ...


@attrs.define(eq=False, kw_only=True)
class Line:
    """
    Own the present connection, and come back after each until there is a reason not to.
    """

    url: str
    options: Options
    # One of the two.
    token: str | None
    get_token: GetToken | None
    # Whether the first attempt may fail, too.
    insist: bool
    user: User
    state: State = attrs.field(default=State.CONNECTING, init=False)
    error: ClientError | None = attrs.field(default=None, init=False)
    # Why the last connection ended, for people; empty while none did.
    trouble: str = attrs.field(default="", init=False)
    # From the node's welcome on.
    session: Session | None = attrs.field(default=None, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    _welcomed_at: float | None = attrs.field(default=None, init=False)
    # Already before the handshake.
    _connection: Session | None = attrs.field(default=None, init=False)
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _finished: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self) -> None:
        """
        Be connected until closed, or until the node does not want us back.
        """
        try:
            with self._scope:
                await self._stay()
        finally:
            self._set_state(State.CLOSED)
            self.user.end(self.error)
            self._finished.set()

    async def aclose(self) -> None:
        """
        End in good order.
        """
        self._closing = True
        if self._connection is not None:
            self._connection.close_soon()
        else:
            self._scope.cancel()
        await self._finished.wait()

    async def wait_state(self, *wanted: State) -> State:
        """
        Wait for one of these states. Raises ClosedError or UnreachableError if the line ended instead.
        """
        await trio.lowlevel.checkpoint()
        while self.state not in wanted:
            self.check_open()
            await self._changed.park()
        return self.state

    def check_open(self) -> None:
        """
        Raises ClosedError or UnreachableError if the line ended.
        """
        if self.state is State.CLOSED:
            raise self.error or ClosedError(None, "the client is closed")

    async def ask(self, wish: Callable[[], Mapping[str, Any]]) -> None:
        """
        Ask on this connection or, as everything a client says may be said twice, on the next one.

        Raises RefusedError, ClosedError.
        """
        while True:
            await self.wait_state(State.LIVE, State.RECOVERING)
            assert self.session is not None
            try:
                await self.session.ask(wish())
            except LostError:
                await trio.lowlevel.checkpoint()
                continue
            return

    async def _stay(self) -> None:
        failures = 0
        while True:
            self._welcomed_at = None
            ending = await self._connect_once()
            if self._closing:
                return  # even if the connection broke off just before
            if not ending.returns:
                self.error = ClosedError(ending.code, ending.reason)
                return
            if self.state is State.CONNECTING and not self.insist:
                self.error = UnreachableError(f"cannot connect to {self.url}: {ending.reason}")
                return
            if self._welcomed_at and trio.current_time() - self._welcomed_at >= self.options.steady:
                failures = 0
            self.trouble = ending.reason
            if self.state is not State.CONNECTING:
                self._set_state(State.STALE)
            await self.options.sleep(ending.after + self.options.backoff.delay(failures, self.options.chance))
            failures += 1

    async def _connect_once(self) -> Ending:
        try:
            with trio.fail_after(self.options.connect_timeout):
                token = await self._current_token()
        except (OSError, trio.TooSlowError) as error:
            return Ending(code=None, reason=f"no token: {error or 'it took too long'}")
        self._connection = Session(
            url=self.url,
            token=token,
            ping_interval=self.options.ping_interval,
            ping_timeout=self.options.ping_timeout,
            connect_timeout=self.options.connect_timeout,
            on_message=self.user.hear,
            on_welcome=self._welcome,
            is_blocked=lambda: self.user.is_blocked,
        )
        try:
            ending = await self._connection.run()
        finally:
            self._connection = self.session = None
            self.user.lose()
        if ending.code == TOKEN_EXPIRED and self.get_token is None:
            return attrs.evolve(ending, returns=False)
        return ending

    async def _current_token(self) -> str:
        if self.get_token is not None:
            return await self.get_token()
        assert self.token is not None
        await trio.lowlevel.checkpoint()
        return self.token

    async def _welcome(self, session: Session, message: Mapping[str, Any]) -> None:
        self.session = session
        self._welcomed_at = trio.current_time()
        if self.get_token is not None:
            session.start_soon(self._keep_fresh, session, self.get_token, message.get("expires_at"))
        if self.state is State.STALE:
            self._set_state(State.RECOVERING)
        await self.user.restore(session)
        self._set_state(State.LIVE)

    async def _keep_fresh(self, session: Session, get_token: GetToken, expires: float | None) -> None:
        while expires is not None:
            left = expires - self.options.now()
            await trio.sleep(max(MIN_REFRESH, left - min(self.options.refresh_margin, left / 5)))
            try:
                token = await get_token()
                await session.ask({"type": "refresh", "token": token})
            except OSError:
                continue
            except RefusedError as error:
                session.abort(str(error))
                return
            except LostError:
                return
            expires = expiry(token)

    def _set_state(self, state: State) -> None:
        self.state = state
        self._changed.unpark_all()
