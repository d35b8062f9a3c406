"""For tests of plugins: a whole engine on a virtual clock, without threads, sockets or a database."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs
from structlog.testing import capture_logs

from conf.settings import load
from engine.hookspecs import HttpRequest, HttpResponse, Refused
from engine.plugin_host.host import PluginHost
from engine.store.memory_plugins import Statement
from engine.testing.client import SimulatedClient
from engine.testing.engine import SimulatedEngine, TraceEntry
from engine.testing.jobs import SimulatedJobs
from engine.testing.people import RefusedError, identity
from engine.testing.seeded import run_seeded

__all__ = [
    "HttpRequest",
    "HttpResponse",
    "Refused",
    "RefusedError",
    "SimulatedClient",
    "SimulatedEngine",
    "SimulatedJobs",
    "Simulation",
    "Statement",
    "TraceEntry",
    "identity",
    "simulate",
]

Scenario = Callable[[SimulatedEngine], Awaitable[object]]

# What would only make the clock tick: there is no other node whose commits are to be noticed, and a hook that
# blocks blocks virtual time, too.
_OPTIONS: Mapping[str, object] = {
    "node.name": "simulated",
    "feed.poll": "1h",
    "jobs.poll": "1h",
    "retention.interval": "10000h",
    "realtime.position_interval": "1h",
    "plugins.enabled": [],
    "plugins.discover": False,
    "plugins.block_limit": "1h",
}


@attrs.frozen(kw_only=True)
class Simulation:
    """
    What came of a simulation: everything that happened, in order, and how much virtual time it took.
    """

    trace: tuple[TraceEntry, ...]
    seconds: float
    # What was logged, as dictionaries; `event` is the text.
    logs: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        return "\n".join(map(str, self.trace))


def simulate(
    scenario: Scenario,
    *,
    plugins: Mapping[str, object] | None = None,
    seed: int = 0,
    options: Mapping[str, object] | None = None,
) -> Simulation:
    """
    Run an engine with these plugins, by name, and let the scenario do with it what it wants.

    The same seed makes the same run, down to the order in which tasks take turns and to every id: what came
    of it can be compared. `options` are settings by dotted name, `{"plugins.shouting.times": 3}` for one.
    Plain functions of plugins run where they are called, without a thread.
    """
    host = PluginHost()
    for name, plugin in (plugins or {}).items():
        host.register(plugin, name)
    loaded = load(
        None, environ={}, overrides={**_OPTIONS, **(options or {})}, schemas=lambda *_: host.schemas
    )

    async def main(chance: Random) -> Simulation:
        engine = await SimulatedEngine.build(loaded.settings, host, chance)
        async with engine.running():
            await scenario(engine)
        return Simulation(trace=tuple(engine.trace), seconds=engine.now, logs=logs)

    with capture_logs() as logs:
        return run_seeded(main, seed=seed)
