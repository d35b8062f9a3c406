"""Every hook that a plugin may implement. `async def` runs on the event loop, a plain `def` in a thread."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pluggy

from engine.domain.access import Action, Identity
from engine.domain.event import Event
from engine.domain.fields import FieldError
from engine.hookspecs.given import (
    ClientSession,
    Context,
    Engine,
    HttpRequest,
    HttpResponse,
    PresenceChange,
    Resource,
)
from engine.hookspecs.jobs import JobHandler
from engine.hookspecs.sockets import SocketNamespace

PROJECT = "greenroom"
ENTRY_POINTS = "greenroom.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)


class EffectHooks:
    """
    Reactions to committed events: in a supervised task of the plugin's own, never in a request.

    At least once, in commit order, under `plugins.effect_budget`; `event.id` is a good idempotency key.
    A failure is tried again with backoff; after `plugins.failures_to_quarantine` failures in a row the
    plugin is quarantined, its cursor waits, and an operator resumes it. However slow or broken the
    plugin, no viewer waits for it.

    A plugin implements `on_events` alone, or `on_event` and hooks for single types of event: then
    `on_event` is given the events of all other types.
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

    @hookspec
    async def on_episode_created(self, context: Context, event: Event) -> None:
        """
        An episode was created: `data["episode"]`.
        """
        ...

    @hookspec
    async def on_episode_updated(self, context: Context, event: Event) -> None:
        """
        An episode was changed: `data["episode"]`, `data["changedFields"]`, and `data["before"]` of those.
        """
        ...

    @hookspec
    async def on_episode_deleted(self, context: Context, event: Event) -> None:
        """
        An episode was deleted: `data["episode"]` as it was last.
        """
        ...

    @hookspec
    async def on_composition_created(self, context: Context, event: Event) -> None:
        """
        An episode got a composition: `data["composition"]`.
        """
        ...

    @hookspec
    async def on_composition_updated(self, context: Context, event: Event) -> None:
        """
        A composition was changed: `data["composition"]`, `data["changedFields"]`, `data["before"]` of those.
        """
        ...

    @hookspec
    async def on_composition_deleted(self, context: Context, event: Event) -> None:
        """
        A composition was deleted: `data["composition"]` as it was last.
        """
        ...

    @hookspec
    async def on_job_queued(self, context: Context, event: Event) -> None:
        """
        A job waits to be run: it was submitted, queued again by hand, or given back by a node: `data["job"]`.
        """
        ...

    @hookspec
    async def on_job_processor_started(self, context: Context, event: Event) -> None:
        """
        A job's attempt has begun: `data["job"]`.
        """
        ...

    @hookspec
    async def on_job_progress(self, context: Context, event: Event) -> None:
        """
        A job has got on: `data["job"]["progress"]`.
        """
        ...

    @hookspec
    async def on_job_completed(self, context: Context, event: Event) -> None:
        """
        A job is done: `data["job"]`, `data["result"]`.
        """
        ...

    @hookspec
    async def on_job_retry(self, context: Context, event: Event) -> None:
        """
        A job's attempt has failed and will be repeated: `data["job"]`, `data["error"]`, `data["retryCount"]`.
        """
        ...

    @hookspec
    async def on_job_failed(self, context: Context, event: Event) -> None:
        """
        A job has failed for good: `data["job"]`, `data["error"]`.
        """
        ...

    @hookspec
    async def on_job_cancelled(self, context: Context, event: Event) -> None:
        """
        Somebody has cancelled a job: `data["job"]`; who it was is the event's `user`.
        """
        ...


class DecisionHooks:
    """
    Questions that a request asks before it commits, under `plugins.decision_budget`.

    A hook that raises, or is too slow, refuses the request with 503.
    """

    @hookspec
    def authorize(self, engine: Engine, identity: Identity, action: Action, resource: Resource) -> str | None:
        """
        Answer None to allow, or the reason for refusing (403). Asked after the role has allowed it.
        """
        return None

    @hookspec
    def validate_episode(
        self,
        engine: Engine,
        identity: Identity,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> Iterable[FieldError] | None:
        """
        Answer what is wrong with an episode about to be written (422); `before` is None for a new one.

        `headers` are the request's, by name in lower case, without its credentials.
        """
        return None


class SettingsHooks:
    """
    What may stand in the plugin's section of the operator's file. Asked once, before anything is started.
    """

    @hookspec
    def settings(self) -> type | None:
        """
        Answer the attrs class of the plugin's settings: `[plugins.<name>]` is checked against it, and what it
        makes of it is `engine.settings`. A field without a default must be given.
        """
        return None


class NoticeHooks:
    """
    Passing things that nobody keeps, in a supervised task of the plugin's own, each within
    `plugins.notice_budget`. A plugin that does not keep up misses some, which is counted; nobody waits.
    """

    @hookspec
    async def presence_changed(self, engine: Engine, change: PresenceChange) -> None:
        """
        Viewers of an episode came, changed or went.
        """
        ...

    @hookspec
    async def session_opened(self, engine: Engine, session: ClientSession) -> None:
        """
        A client has connected and proved who it is.
        """
        ...

    @hookspec
    async def session_closed(self, engine: Engine, session: ClientSession) -> None:
        """
        A client has gone.
        """
        ...


class AnswerHooks:
    """
    Answers to clients, each in a supervised task of its own, within `plugins.answer_budget`; a plugin is
    asked `plugins.answers_at_once` at a time. What it raises is told the client as a failure, without more.
    """

    @hookspec
    async def call(self, engine: Engine, identity: Identity, name: str, args: Any) -> Any:
        """
        Answer a client's call `<plugin>.<name>`: JSON, or Refused. `args` is what the client sent, unchecked.
        """
        ...

    @hookspec
    async def http(self, engine: Engine, request: HttpRequest) -> HttpResponse | None:
        """
        Answer a request under `/api/v1/x/<plugin>/`; None is a 404. Whoever may read may GET, whoever may
        edit may use the other methods, unless an `authorize` hook says otherwise.
        """
        ...


class LifeCycleHooks:
    """
    The plugin's own beginning and end, in a supervised task of its own, under `plugins.life_cycle_budget`.
    """

    @hookspec
    async def engine_started(self, engine: Engine) -> None:
        """
        The engine runs: prepare. The plugin gets its first event and its first job, and is asked for its
        first answer, when this has returned; nobody else waits. One that fails is called again, with backoff.
        """
        ...

    @hookspec
    async def engine_stopping(self, engine: Engine) -> None:
        """
        The engine stops, and has already let all clients go: clean up. Not called if `engine_started` failed.
        """
        ...


class JobHooks:
    """
    What a plugin can run, asked once, when it is loaded.
    """

    @hookspec
    def job_handlers(self) -> Iterable[JobHandler]:
        """
        Answer the handlers of the plugin's job types; of each type there is one in all of the node.
        """
        return ()


class SocketHooks:
    """
    What a plugin says to Socket.IO clients, asked once, when it is loaded.
    """

    @hookspec
    def socket_namespaces(self) -> Iterable[SocketNamespace]:
        """
        Answer the namespaces that the plugin serves; each name is there once in all of the node.
        """
        return ()


# What a plugin manager is given, and what the documentation must have.
GROUPS = (
    SettingsHooks,
    LifeCycleHooks,
    EffectHooks,
    DecisionHooks,
    NoticeHooks,
    AnswerHooks,
    JobHooks,
    SocketHooks,
)
EFFECTS = tuple(name for name in vars(EffectHooks) if name.startswith("on_"))
DECISIONS = ("authorize", "validate_episode")
