"""The Socket.IO namespaces that plugins register, held to the contract. Knows nothing of serving them."""

import re
from collections.abc import Iterable, Mapping

import attrs

from engine import hookspecs
from engine.errors import PluginError

_NAME = re.compile(r"/[\w./-]*")
# The engine's own.
RESERVED = "/real-time"


@attrs.define(eq=False)
class SocketNamespaces:
    """
    Own which plugin serves each namespace: one in all.
    """

    _found: dict[str, tuple[str, hookspecs.SocketNamespace]] = attrs.field(factory=dict, init=False)

    def add(self, plugin: str, namespaces: Iterable[object]) -> None:
        """
        Take a plugin's namespaces. Raises PluginError for what breaks the contract.
        """
        for namespace in namespaces:
            if mistake := _mistake(namespace):
                raise PluginError(f"plugin {plugin}: socket_namespaces: {mistake}")
            assert isinstance(namespace, hookspecs.SocketNamespace)
            if namespace.name in self._found:
                other, _ = self._found[namespace.name]
                raise PluginError(
                    f"plugin {plugin}: the namespace {namespace.name} is already served by plugin {other}"
                )
            self._found[namespace.name] = (plugin, namespace)

    def by_plugin(self) -> Iterable[tuple[str, hookspecs.SocketNamespace]]:
        """
        Each namespace with the plugin that serves it.
        """
        return self._found.values()


def _mistake(namespace: object) -> str | None:
    if not isinstance(namespace, hookspecs.SocketNamespace):
        return f"answer hookspecs.SocketNamespace, not {type(namespace).__name__}"
    if not isinstance(namespace.name, str) or not _NAME.fullmatch(namespace.name):
        return f"{namespace.name!r} is no name of a namespace: '/' or '/name' is"
    of = f"the namespace {namespace.name}"
    if namespace.name == RESERVED:
        return f"{of} is the engine's own"
    if not isinstance(namespace.events, Mapping):
        return f"{of}: events must map names to functions"
    functions = {**namespace.events, "on_connect": namespace.on_connect or callable}
    functions["on_disconnect"] = namespace.on_disconnect or callable
    wrong = [name for name, function in functions.items() if not callable(function)]
    return f"{of}: {', '.join(wrong)} must be functions" if wrong else None
