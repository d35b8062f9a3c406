"""Finds plugins, holds them to the contract, asks their decision hooks; actors run what else they have."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

import attrs
import pluggy
import structlog
import trio

from conf.settings import Plugins, PluginSchema, SchemaError
from engine import hookspecs
from engine.domain.access import Action, Identity
from engine.domain.fields import FieldError
from engine.domain.json_text import storable
from engine.errors import PluginError
from engine.plugin_host.handle import EngineParts, PluginEngine
from engine.plugin_host.jobs import job_handlers, kept_key
from engine.plugin_host.metrics import metric_prefix
from engine.plugin_host.namespaces import socket_namespaces
from engine.plugin_host.registered import Registered
from engine.runtime.foreign import Function, OverBudgetError, Runner, told
from engine.runtime.loop_guard import LoopGuard

log = structlog.get_logger()

T = TypeVar("T")

# Threads that decision hooks may keep busy at once, all plugins together.
DECISION_THREADS = 8
OWN_DISTRIBUTION = "greenroom"
# Seconds, until the node knows its settings.
BLOCK_LIMIT = 1.0
DECISION_BUDGET = 0.25
# What a plugin may raise while it is loaded. KeyboardInterrupt is taken for Ctrl-C then.
LOADING_FAILURES = (Exception, SystemExit, GeneratorExit)


@attrs.frozen(kw_only=True)
class Effect:
    """
    One plugin's reaction to events: `many` for batches, or `by_type` for some types, `each` for the rest.
    """

    plugin: str
    engine: PluginEngine
    many: Function | None = None
    each: Function | None = None
    by_type: Mapping[str, Function] = attrs.field(factory=dict)

    def of(self, event_type: str) -> Function | None:
        """
        What is called with an event of this type.
        """
        return self.by_type.get(event_type, self.each)


class DecisionError(PluginError):
    """
    A plugin was asked and gave no usable answer. Refuse the request with 503; the text names the plugin.
    """


@attrs.define(eq=False, kw_only=True)
class PluginHost:
    """
    Own the loaded plugins.

    `decision_budget` is in seconds, until `configure`. Raises PluginError while loading, for whatever breaks
    the contract.
    """

    # For plugins that are not configured.
    decision_budget: float = DECISION_BUDGET
    runner: Runner = attrs.field(factory=lambda: Runner(guard=LoopGuard(BLOCK_LIMIT)))
    engines: dict[str, PluginEngine] = attrs.field(factory=dict, init=False)
    jobs: Registered[hookspecs.JobHandler] = attrs.field(factory=job_handlers, init=False)
    sockets: Registered[hookspecs.SocketNamespace] = attrs.field(factory=socket_namespaces, init=False)
    schemas: dict[str, PluginSchema] = attrs.field(factory=dict, init=False)
    # Each plugin's budgets.
    _budgets: dict[str, Plugins] = attrs.field(factory=dict, init=False)
    # By hook, in the order in which they are asked.
    _functions: dict[str, list[Function]] = attrs.field(factory=dict, init=False)
    _manager: pluggy.PluginManager = attrs.field(init=False)
    _limiter: trio.CapacityLimiter = attrs.field(
        init=False, factory=lambda: trio.CapacityLimiter(DECISION_THREADS)
    )

    def __attrs_post_init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        for group in hookspecs.GROUPS:
            self._manager.add_hookspecs(group)

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
        for other in self.engines:
            if metric_prefix(other) == metric_prefix(name) and other != name:
                raise PluginError(f"plugin {name}: its metrics would be those of {other}; call it otherwise")
        if known := self._manager.get_name(plugin) or (name in self.engines and name):
            raise PluginError(f"plugin {name} is loaded already, as {known}; name it once in plugins.enabled")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            self._manager.unregister(name=name)
            raise PluginError(f"plugin {name}: {error}") from error
        try:
            self._check_hooks(plugin, name)
            self.schemas[name] = self._schema(name)
            if (function := self.function(name, "job_handlers")) is not None:
                self.jobs.add(name, self._answers_of(function))
            if (function := self.function(name, "socket_namespaces")) is not None:
                self.sockets.add(name, self._answers_of(function))
        except PluginError:
            self._manager.unregister(name=name)
            raise
        self.engines[name] = PluginEngine(plugin=name)

    def _check_hooks(self, plugin: object, name: str) -> None:
        hooks = set()
        for caller in self._manager.get_hookcallers(plugin) or []:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    hooks.add(caller.name)
                    _check(name, caller.name, implementation)
        if "on_events" in hooks and (others := hooks & {*hookspecs.EFFECTS} - {"on_events"}):
            raise PluginError(
                f"plugin {name}: on_events is given every event, so {', '.join(sorted(others))} would "
                "be given them again; implement one or the other"
            )

    def configure(self, settings: Plugins) -> None:
        """
        From now on these settings, checked by `schemas`, are the plugins'. Raises PluginError.
        """
        for name, engine in self.engines.items():
            try:
                engine.settings = self.schemas[name].build(settings.settings.get(name, {}))
            except (ValueError, TypeError) as error:
                raise PluginError(f"plugin {name}: its settings are wrong: {error}") from error
        self.retune(settings)

    def retune(self, settings: Plugins) -> None:
        """
        From now on these are the plugins' budgets; what else they are told stays as it was.
        """
        self._budgets = {name: settings.of(name) for name in self.engines}

    def budgets_of(self, plugin: str) -> Plugins:
        """
        A plugin's budgets, as they are now.
        """
        return self._budgets[plugin]

    def bind(self, parts: EngineParts) -> None:
        """
        From now on plugins may use the engine.
        """
        for engine in self.engines.values():
            engine.parts = parts

    def _schema(self, name: str) -> PluginSchema:
        self._functions.clear()
        asked = self.function(name, "settings")
        if asked is not None and asked.is_async:
            raise PluginError(f"plugin {name}: settings is asked before anything runs: a plain def")
        try:
            return PluginSchema.of(None if asked is None else asked.call())
        except SchemaError as error:
            raise PluginError(f"plugin {name}: settings: {error}") from error
        except LOADING_FAILURES as error:
            raise PluginError(f"plugin {name}: settings: {told(error)}") from error

    def names(self) -> list[str]:
        """
        The loaded plugins, in the order of loading.
        """
        return [name for name, _ in self._manager.list_name_plugin()]

    def hooks_of(self, plugin: str) -> list[str]:
        """
        The hooks that a plugin implements.
        """
        return [
            name
            for group in hookspecs.GROUPS
            for name in vars(group)
            if not name.startswith("_") and self.function(plugin, name) is not None
        ]

    def function(self, plugin: str, hook: str) -> Function | None:
        """
        A plugin's implementation of a hook, as a function of all the contract's arguments.
        """
        return next((one for one in self.functions(hook) if one.owner == plugin), None)

    def functions(self, hook: str) -> list[Function]:
        """
        All plugins' implementations of a hook.
        """
        known = self._functions.get(hook)
        if known is None:
            caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
            known = self._functions[hook] = [
                Function(
                    owner=implementation.plugin_name,
                    name=hook,
                    call=_by_name(implementation, caller),
                    is_async=inspect.iscoroutinefunction(implementation.function),
                )
                for implementation in caller.get_hookimpls()
            ]
        return known

    def effects(self) -> list[Effect]:
        """
        The effects of all plugins that have any.
        """
        found: dict[str, dict[str, Function]] = {}
        for hook in hookspecs.EFFECTS:
            for function in self.functions(hook):
                found.setdefault(function.owner, {})[hook] = function
        return [
            Effect(
                plugin=plugin,
                engine=self.engines[plugin],
                many=hooks.pop("on_events", None),
                each=hooks.pop("on_event", None),
                by_type={hook.removeprefix("on_"): function for hook, function in hooks.items()},
            )
            for plugin, hooks in found.items()
        ]

    async def authorize(self, identity: Identity, action: Action, resource: hookspecs.Resource) -> str | None:
        """
        The first plugin's reason for refusing, or None. Raises DecisionError.
        """
        for function in self.functions("authorize"):
            reason = await self._decide(function, _text, identity, action, resource)
            if reason is not None:
                return reason
        return None

    async def validate_episode(
        self,
        identity: Identity,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> tuple[FieldError, ...]:
        """
        What all plugins find wrong with the episode. Raises DecisionError.
        """
        errors: list[FieldError] = []
        for function in self.functions("validate_episode"):
            errors += await self._decide(function, _field_errors, identity, before, after, headers)
        return tuple(errors)

    async def check_payload(self, kind: str, payload: Mapping[str, Any]) -> tuple[FieldError, ...]:
        """
        What the handler of this type finds wrong with a payload. Raises DecisionError.
        """
        check = self.jobs.by_name()[kind].check
        if check is None:
            return ()
        return await self._ask_handler(kind, "check", lambda given: _field_errors(check(given)), payload)

    async def unique_key(self, kind: str, payload: Mapping[str, Any]) -> str | None:
        """
        The key of which the handler of this type wants one unfinished job. Raises DecisionError.
        """
        unique = self.jobs.by_name()[kind].unique
        if unique is None:
            return None
        key = await self._ask_handler(kind, "unique", lambda given: _text(unique(given)), payload)
        return None if key is None else kept_key(key)

    async def _ask_handler(
        self, kind: str, name: str, call: Callable[[Mapping[str, Any]], T], payload: Mapping[str, Any]
    ) -> T:
        owner = self.jobs.plugin_of(kind)
        # A generator does its work, and raises, while it is read: in `call`.
        function = Function(owner=owner, name=f"{name} of {kind}", call=call, is_async=False)
        answer: T = await self._decide_by(function, payload)
        return answer

    def _answers_of(self, function: Function) -> list[object]:
        try:
            return list(function.call())
        except LOADING_FAILURES as error:
            raise PluginError(f"plugin {function.owner}: {function.name} failed: {told(error)}") from error

    async def _decide(self, function: Function, read: Callable[[Any], T], *given: object) -> T:
        """
        A plugin's decision; what it answers is its own code, too, so that it is read under the same budget.
        """

        async def ask(*given: object) -> T:
            return read(await function.call(*given))

        def ask_plain(*given: object) -> T:
            return read(function.call(*given))

        asked = attrs.evolve(function, call=ask if function.is_async else ask_plain)
        answer: T = await self._decide_by(asked, self.engines[function.owner], *given)
        return answer

    async def _decide_by(self, function: Function, *given: object) -> Any:
        plugin = function.owner
        own = self._budgets.get(plugin)
        budget = self.decision_budget if own is None else own.decision_budget
        try:
            return await self.runner.run_within(budget, function, *given, limiter=self._limiter)
        except OverBudgetError:
            raise DecisionError(f"plugin {plugin} did not decide within {budget:g} s") from None
        except Exception as error:
            log.exception("a decision hook failed", plugin=plugin, hook=function.name)
            raise DecisionError(f"plugin {plugin} could not decide: {told(error)}") from error


def _text(answer: object) -> str | None:
    return None if answer is None else storable(str(answer))


def _field_errors(answer: Iterable[object] | None) -> tuple[FieldError, ...]:
    """
    What a plugin has found wrong. Raises TypeError for what is no FieldError.
    """
    found = []
    for one in answer or ():
        if not isinstance(one, FieldError):
            raise TypeError(f"it must answer with FieldErrors, not with a {type(one).__name__}")
        found.append(FieldError(storable(str(one.field)), storable(str(one.message))))
    return tuple(found)


def _by_name(implementation: pluggy.HookImpl, caller: pluggy.HookCaller) -> Callable[..., Any]:
    """
    The hook as a function of all the contract's arguments; it may name fewer, as everywhere in pluggy.
    """
    assert caller.spec is not None
    names = list(inspect.signature(caller.spec.function).parameters)[1:]
    wanted = [names.index(name) for name in implementation.argnames]
    return lambda *given: implementation.function(*(given[index] for index in wanted))


def _check(plugin: str, hook: str, implementation: pluggy.HookImpl) -> None:
    if implementation.hookwrapper or implementation.wrapper:
        raise PluginError(f"plugin {plugin}: {hook} is a wrapper; hooks here stand each for itself")
    if hook in ("job_handlers", "socket_namespaces") and inspect.iscoroutinefunction(implementation.function):
        raise PluginError(f"plugin {plugin}: {hook} is asked before the engine runs and must be a plain def")


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except LOADING_FAILURES as error:
        raise PluginError(f"plugin {point.name} ({point.value}) cannot be imported: {told(error)}") from error


def _module(name: str, found: Mapping[str, EntryPoint]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PluginError(
            f"plugins.enabled names {name!r}, which is neither an installed plugin "
            f"({', '.join(sorted(found)) or 'none'}) nor a module that can be imported: {error}; "
            "install it, or name its directory in PYTHONPATH"
        ) from error
    except LOADING_FAILURES as error:
        raise PluginError(f"plugin {name} cannot be imported: {told(error)}") from error
