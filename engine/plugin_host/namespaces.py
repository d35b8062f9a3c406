"""The Socket.IO namespaces that plugins register, held to the contract. Knows nothing of serving them."""

import re
from collections.abc import Mapping

from engine import hookspecs
from engine.plugin_host.registered import Registered

_NAME = re.compile(r"/[\w./-]*")
# The engine's own.
RESERVED = "/real-time"


def socket_namespaces() -> Registered[hookspecs.SocketNamespace]:
    """
    Which plugin serves each namespace: none yet.
    """
    return Registered(
        hook="socket_namespaces",
        mistake=_mistake,
        name=lambda namespace: namespace.name,
        taken=lambda name: f"the namespace {name} is already served",
    )


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
