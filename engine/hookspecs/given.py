"""What hooks are given and may answer: values, and the parts of the engine that a plugin may use."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

from engine.domain.access import Identity
from engine.domain.event import EpisodeId, UserId
from engine.domain.presence import Viewer


class Transaction(Protocol):
    """
    A database transaction. What the block around it raises undoes it.

    Placeholders are psycopg's: `%s` or `%(name)s`. A dict becomes jsonb.
    """

    async def execute(self, query: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """
        Run one statement; answers the number of rows that it touched.
        """
        ...

    async def execute_many(self, query: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> None:
        """
        Run one statement for each row, in one go.
        """
        ...

    async def fetch(
        self, query: str, params: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[Mapping[str, Any]]:
        """
        Run one statement; answers its rows.
        """
        ...

    async def tell_user(self, user: UserId, type: str, data: Mapping[str, Any]) -> None:
        """
        Tell one person something: an event in the log of the topic `user:<id>`, which that person's sessions
        may subscribe to. `data` is what they are shown.
        """
        ...


class Counter(Protocol):
    """
    A number that only grows. Labels are given by name, all of them.
    """

    def add(self, amount: float = 1, **labels: str) -> None:
        """
        Count.
        """
        ...


class Gauge(Protocol):
    """
    A number that goes up and down.
    """

    def set(self, value: float, **labels: str) -> None:
        """
        Say what it is now.
        """
        ...


class Histogram(Protocol):
    """
    How a measured value is distributed.
    """

    def observe(self, value: float, **labels: str) -> None:
        """
        Take note of one measurement.
        """
        ...


class Metrics(Protocol):
    """
    The plugin's own metrics: `/metrics` shows `name` as `greenroom_plugin_<plugin>_<name>`.

    Asking again for the same name answers the same metric. May be used in threads. A metric keeps a
    bounded number of label combinations and leaves out the rest. Raises PluginError for a name that is
    none, or that is taken by another kind of metric or other labels.
    """

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """
        A counter; `/metrics` adds `_total` to its name.
        """
        ...

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        """
        A gauge.
        """
        ...

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> Histogram:
        """
        A histogram; `buckets` are upper bounds, by default for seconds from 5 ms to 10 s.
        """
        ...


class Engine(Protocol):
    """
    What a plugin may use of the engine; each plugin has its own, for as long as the node runs.
    """

    @property
    def plugin(self) -> str:
        """
        The plugin's own name, as settings and `/engine/plugins` show it.
        """
        ...

    @property
    def settings(self) -> Any:
        """
        The plugin's settings, an object of the class that its hook `settings` has answered; else None.
        """
        ...

    @property
    def metrics(self) -> Metrics:
        """
        The plugin's own metrics.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """
        A transaction of its own: it commits at the end of the block. Raises StoreUnavailableError.
        """
        ...

    async def mark(self, episode: str, user: str, text: str | None) -> None:
        """
        Say something of a person on an episode: whoever looks at it sees it as `marks` of that viewer, by
        plugin. None takes it back. Kept in this node's memory. Raises PluginError for a text that is none.
        """
        ...


class Context(Engine, Protocol):
    """
    What an effect is given of the engine. `transaction()` is here the one of the present events: what is
    written in it commits when the hook has returned, together with the plugin's cursor, or not at all.
    """

    @property
    def engine(self) -> Engine:
        """
        What other hooks are given: its `transaction()` is one of its own, which commits by itself.
        """
        ...

    @property
    def attempt(self) -> int:
        """
        1 for the first time that these events are handed over, then counting up.
        """
        ...


@attrs.frozen(kw_only=True)
class ClientSession:
    """
    One connection of a client that has authenticated.
    """

    id: str
    identity: Identity


@attrs.frozen(kw_only=True)
class PresenceChange:
    """
    Viewers of one episode who came or changed, and who went. With `everyone`, `present` are all there are.
    """

    episode: EpisodeId
    present: tuple[Viewer, ...]
    gone: tuple[Viewer, ...]
    everyone: bool


@attrs.frozen
class Refused:
    """
    A plugin does not do what a client's call wants: a code for programs, a text for people.
    """

    code: str
    message: str


@attrs.frozen(kw_only=True)
class HttpRequest:
    """
    A request under `/api/v1/x/<plugin>/`. `path` is what follows that; headers are by name in lower case,
    without credentials; of a query parameter given more than once it is the first.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    identity: Identity
    # As answers and the log call it.
    id: str

    def json(self) -> Any:
        """
        The body as JSON. Raises ValueError.
        """
        return json.loads(self.body)


@attrs.frozen(kw_only=True)
class HttpResponse:
    """
    An answer, whole. A `body` that is neither bytes nor text is sent as JSON.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Resource:
    """
    What somebody wants to act on; `id` is None for a collection, `episode_id` the episode it belongs to.
    """

    type: str
    id: str | None = None
    episode_id: str | None = None
