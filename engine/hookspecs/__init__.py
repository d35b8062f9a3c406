"""The whole contract between Greenroom and its plugins: all that a plugin imports, in one place."""

import pluggy

from engine.domain.access import Action, Identity, Role
from engine.domain.event import EpisodeId, Event, Topic, UserId
from engine.domain.fields import FieldError
from engine.domain.presence import Viewer
from engine.hookspecs.given import (
    Context,
    Counter,
    Engine,
    Gauge,
    Histogram,
    Metrics,
    Resource,
    Transaction,
)
from engine.hookspecs.hooks import (
    DECISIONS,
    EFFECTS,
    ENTRY_POINTS,
    GROUPS,
    PROJECT,
    DecisionHooks,
    EffectHooks,
    LifeCycleHooks,
)

__all__ = [
    "DECISIONS",
    "EFFECTS",
    "ENTRY_POINTS",
    "GROUPS",
    "PROJECT",
    "Action",
    "Context",
    "Counter",
    "DecisionHooks",
    "EffectHooks",
    "Engine",
    "EpisodeId",
    "Event",
    "FieldError",
    "Gauge",
    "Histogram",
    "Identity",
    "LifeCycleHooks",
    "Metrics",
    "Resource",
    "Role",
    "Topic",
    "Transaction",
    "UserId",
    "Viewer",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker(PROJECT)
