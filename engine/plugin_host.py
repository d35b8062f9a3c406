"""Finds plugins, holds them to the contract, asks their decision hooks; actors/effects runs their effects."""

import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import attrs
import pluggy
import structlog
import trio

from engine import hookspecs
from engine.domain.access import Action, Identity
from engine.domain.fields import FieldError
from engine.errors import PluginError

log = structlog.get_logger()

# Threads that decision hooks may keep busy at once, all plugins together.
DECISION_THREADS = 8
OWN_DISTRIBUTION = "greenroom"


@attrs.frozen(kw_only=True)
class Effect:
    """
    One plugin's reaction to events: the function, and how it wants to be called.
    """

    plugin: str
    call: Callable[..., Awaitable[None] | None]
    takes_many: bool
    is_async: bool


class DecisionError(PluginError):
    """
    A plugin was asked and gave no usable answer. Refuse the request with 503; the text names the plugin.
    """


@attrs.define(eq=False, kw_only=True)
class PluginHost:
    """
    Own the loaded plugins.

    `decision_budget` is in seconds. Raises PluginError while loading, for whatever breaks the contract.
    """

    decision_budget: float
    _manager: pluggy.PluginManager = attrs.field(init=False)
    _limiter: trio.CapacityLimiter = attrs.field(
        init=False, factory=lambda: trio.CapacityLimiter(DECISION_THREADS)
    )

    def __attrs_post_init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs.EffectHooks)
        self._manager.add_hookspecs(hookspecs.DecisionHooks)

    def load(self, enabled: Sequence[str], *, discover: bool) -> None:
        """
        Load the plugins that are named, by entry point or module; and all that are installed, if wanted.
        """
        found = {point.name: point for point in entry_points(group=hookspecs.ENTRY_POINTS)}
        for name in enabled:
            self.register(_load(found[name]) if name in found else _module(name, found), name)
        if discover:
            for name, point in found.items():
                if name not in enabled and (point.dist is None or point.dist.name != OWN_DISTRIBUTION):
                    self.register(_load(point), name)

    def register(self, plugin: object, name: str) -> None:
        """
        Add one plugin, if every hook of it is one that exists, and as the contract wants it.
        """
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            self._manager.unregister(name=name)
            raise PluginError(f"plugin {name}: {error}") from error
        effects = 0
        for caller in self._manager.get_hookcallers(plugin) or []:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    effects += caller.name in hookspecs.EFFECTS
                    _check(name, caller.name, implementation)
        if effects > 1:
            raise PluginError(f"plugin {name}: implement one of {', '.join(hookspecs.EFFECTS)}, not both")

    def names(self) -> list[str]:
        """
        The loaded plugins, in the order of loading.
        """
        return [name for name, _ in self._manager.list_name_plugin()]

    def effects(self) -> list[Effect]:
        """
        The effects of all plugins, at most one each.
        """
        return [
            Effect(
                plugin=implementation.plugin_name,
                call=_by_name(implementation, hookspecs.EffectHooks),
                takes_many=name == "on_events",
                is_async=inspect.iscoroutinefunction(implementation.function),
            )
            for name in hookspecs.EFFECTS
            for implementation in self._implementations(name)
        ]

    async def authorize(self, identity: Identity, action: Action, resource: hookspecs.Resource) -> str | None:
        """
        The first plugin's reason for refusing, or None. Raises DecisionError.
        """
        for implementation in self._implementations("authorize"):
            reason = await self._decide(implementation, (identity, action, resource))
            if reason is not None:
                return str(reason)
        return None

    async def validate_episode(
        self, identity: Identity, before: Mapping[str, Any] | None, after: Mapping[str, Any]
    ) -> tuple[FieldError, ...]:
        """
        What all plugins find wrong with the episode. Raises DecisionError.
        """
        errors: list[FieldError] = []
        for implementation in self._implementations("validate_episode"):
            answer: Iterable[FieldError] | None = await self._decide(
                implementation, (identity, before, after)
            )
            errors.extend(answer or ())
        return tuple(errors)

    async def _decide(self, implementation: pluggy.HookImpl, given: tuple[object, ...]) -> Any:
        decide = _by_name(implementation, hookspecs.DecisionHooks)
        plugin = implementation.plugin_name
        with trio.move_on_after(self.decision_budget):
            try:
                return await trio.to_thread.run_sync(
                    decide,
                    *given,
                    abandon_on_cancel=True,
                    limiter=self._limiter,
                )
            except Exception as error:
                log.exception("a decision hook failed", plugin=plugin, hook=implementation.function.__name__)
                raise DecisionError(f"plugin {plugin} could not decide: {error!r}") from error
        raise DecisionError(f"plugin {plugin} did not decide within {self.decision_budget:g} s")

    def _implementations(self, name: str) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self._manager.hook, name)
        return caller.get_hookimpls()


def _by_name(implementation: pluggy.HookImpl, specs: type) -> Callable[..., Any]:
    """
    The hook as a function of all the contract's arguments; it may name fewer, as everywhere in pluggy.
    """
    names = list(inspect.signature(getattr(specs, implementation.function.__name__)).parameters)[1:]
    wanted = [names.index(name) for name in implementation.argnames]
    return lambda *given: implementation.function(*(given[index] for index in wanted))


def _check(plugin: str, hook: str, implementation: pluggy.HookImpl) -> None:
    if implementation.hookwrapper or implementation.wrapper:
        raise PluginError(f"plugin {plugin}: {hook} is a wrapper; hooks here stand each for itself")
    if hook in hookspecs.DECISIONS and inspect.iscoroutinefunction(implementation.function):
        raise PluginError(f"plugin {plugin}: {hook} decides inside a request and must be a plain def")


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        raise PluginError(f"plugin {point.name} ({point.value}) cannot be imported: {error!r}") from error


def _module(name: str, found: Mapping[str, EntryPoint]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PluginError(
            f"plugins.enabled names {name!r}, which is neither an installed plugin "
            f"({', '.join(sorted(found)) or 'none'}) nor a module that can be imported: {error}"
        ) from error
