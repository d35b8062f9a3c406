"""The whole contract between Greenroom and its plugins: all that a plugin imports, in one place."""

import pluggy

from engine.domain.access import Action, Identity, Role
from engine.domain.event import EpisodeId, Event, Topic, UserId
from engine.domain.fields import FieldError
from engine.domain.job import Job
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
    JobHooks,
    LifeCycleHooks,
)
from engine.hookspecs.jobs import Discard, JobContext, JobHandler, JobStoppedError, JobTransaction, Retry

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
    "Discard",
    "EffectHooks",
    "Engine",
    "EpisodeId",
    "Event",
    "FieldError",
    "Gauge",
    "Histogram",
    "Identity",
    "Job",
    "JobContext",
    "JobHandler",
    "JobHooks",
    "JobStoppedError",
    "JobTransaction",
    "LifeCycleHooks",
    "Metrics",
    "Resource",
    "Retry",
    "Role",
    "Topic",
    "Transaction",
    "UserId",
    "Viewer",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker(PROJECT)
