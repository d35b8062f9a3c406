"""The whole contract between Greenroom and its plugins: what a plugin may implement, and what it is given."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs
import pluggy

from engine.domain.access import Action, Identity
from engine.domain.event import Event, UserId
from engine.domain.fields import FieldError

PROJECT = "greenroom"
ENTRY_POINTS = "greenroom.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Transaction(Protocol):
    """
    A database transaction that commits together with the plugin's cursor: exactly once.

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


class Context(Protocol):
    """
    What an effect is given of the engine.
    """

    @property
    def plugin(self) -> str:
        """
        The plugin's own name, as settings and `/engine/plugins` show it.
        """
        ...

    @property
    def attempt(self) -> int:
        """
        1 for the first time that these events are handed over, then counting up.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """
        The transaction of the present events. What is written in it commits when the hook has returned,
        together with the plugin's cursor, or not at all.
        """
        ...


@attrs.frozen(kw_only=True)
class Resource:
    """
    What somebody wants to act on; `id` is None for a collection, `episode_id` the episode it belongs to.
    """

    type: str
    id: str | None = None
    episode_id: str | None = None


class EffectHooks:
    """
    Reactions to committed events: in a supervised task of the plugin's own, never in a request.

    At least once, in commit order, under `plugins.effect_budget`; `event.id` is a good idempotency key.
    A failure is tried again with backoff; after `plugins.failures_to_quarantine` failures in a row the
    plugin is quarantined, its cursor waits, and an operator resumes it. However slow or broken the
    plugin, no viewer waits for it. A plugin implements one of the two. `async def` runs on the event
    loop; a plain `def` runs in a thread, and so may block.
    """

    @hookspec
    async def on_event(self, context: Context, event: Event) -> None:
        """
        React to one committed event.
        """
        ...

    @hookspec
    async def on_events(self, context: Context, events: Sequence[Event]) -> None:
        """
        React to several committed events at once: those that are waiting, `plugins.batch` at most.
        """
        ...


class DecisionHooks:
    """
    Questions that a request asks before it commits: plain functions, under `plugins.decision_budget`.

    They run in a thread. A hook that raises, or is too slow, refuses the request with 503.
    """

    @hookspec
    def authorize(self, identity: Identity, action: Action, resource: Resource) -> str | None:
        """
        Answer None to allow, or the reason for refusing (403). Asked after the role has allowed it.
        """
        return None

    @hookspec
    def validate_episode(
        self, identity: Identity, before: Mapping[str, Any] | None, after: Mapping[str, Any]
    ) -> Iterable[FieldError] | None:
        """
        Answer what is wrong with an episode about to be written (422); `before` is None for a new one.
        """
        return None


EFFECTS = ("on_event", "on_events")
DECISIONS = ("authorize", "validate_episode")
