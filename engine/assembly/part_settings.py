"""Which of the settings each part of the node goes by."""

import attrs

from conf.settings import Child, Settings
from engine.actors.effects import EffectSettings
from engine.actors.job_run import GIVE_BACK
from engine.actors.poller import GIVING_BACK
from engine.assembly.workshop import CHILDREN, POLLER
from engine.runtime.backoff import Backoff

# The tables in [supervision] of the root's children, where they are not called like the child.
_TABLES = {
    "meter": "presence",
    "bell": "feed",
    "retention": "feed",
    "housekeeping": "feed",
    "episodes": "episode",
    "users": "episode",
    "plugins": "plugin",
    "answers": "plugin",
    **dict.fromkeys((*CHILDREN, POLLER), "poller"),
}


def child_settings(settings: Settings, name: str) -> Child:
    child: Child = getattr(settings.supervision, _TABLES.get(name, name))
    if name == "gateway":
        # Its drain is what the node's grace is for; a second more, and it is cut off.
        return attrs.evolve(child, grace=max(child.grace, settings.node.shutdown_grace + 1))
    if name == POLLER:
        # A poll that was under way when the node was told to stop ends by itself, and then it gives back.
        return attrs.evolve(child, grace=max(child.grace, settings.node.shutdown_grace + GIVING_BACK))
    if name == "drain":
        # Jobs have the same, and what is given back after it.
        return attrs.evolve(child, grace=max(child.grace, settings.node.shutdown_grace + GIVE_BACK))
    return child


def effect_settings(settings: Settings, plugin: str) -> EffectSettings:
    kind, own = settings.supervision.plugin, settings.plugins.of(plugin)
    return EffectSettings(
        budget=own.effect_budget,
        transaction_budget=own.transaction_budget,
        batch=own.batch,
        linger=own.linger,
        failures_to_quarantine=own.failures_to_quarantine,
        backoff=Backoff(first=kind.backoff_first, cap=kind.backoff_cap, jitter=kind.backoff_jitter),
    )
