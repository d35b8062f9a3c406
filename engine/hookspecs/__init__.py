"""The whole contract between Greenroom and its plugins: all that a plugin imports, in one place."""

from typing import Annotated

import pluggy

from conf.kinds import Count, CountOrZero, Flag, Fraction, Kind, Names, SomeText, Text, read_text
from conf.masks import mask
from conf.units import Duration, DurationOrZero, Size
from engine.domain.access import Action, Identity, Role
from engine.domain.event import EpisodeId, Event, Topic, UserId
from engine.domain.fields import FieldError
from engine.domain.job import Job
from engine.domain.presence import Viewer
from engine.hookspecs.given import (
    ClientSession,
    Context,
    Counter,
    Engine,
    Gauge,
    Histogram,
    HttpRequest,
    HttpResponse,
    Metrics,
    PresenceChange,
    Refused,
    Resource,
    Transaction,
)
from engine.hookspecs.hooks import (
    DECISIONS,
    EFFECTS,
    ENTRY_POINTS,
    GROUPS,
    PROJECT,
    AnswerHooks,
    DecisionHooks,
    EffectHooks,
    JobHooks,
    LifeCycleHooks,
    NoticeHooks,
    SettingsHooks,
    SocketHooks,
)
from engine.hookspecs.jobs import (
    Discard,
    InvalidEpisodesError,
    JobContext,
    JobHandler,
    JobStoppedError,
    JobTransaction,
    Retry,
)
from engine.hookspecs.sockets import Socket, SocketNamespace, SocketRefused

__all__ = [
    "DECISIONS",
    "EFFECTS",
    "ENTRY_POINTS",
    "GROUPS",
    "PROJECT",
    "Action",
    "AnswerHooks",
    "ClientSession",
    "Context",
    "Count",
    "CountOrZero",
    "Counter",
    "DecisionHooks",
    "Discard",
    "Duration",
    "DurationOrZero",
    "EffectHooks",
    "Engine",
    "EpisodeId",
    "Event",
    "FieldError",
    "Flag",
    "Fraction",
    "Gauge",
    "Histogram",
    "HttpRequest",
    "HttpResponse",
    "Identity",
    "InvalidEpisodesError",
    "Job",
    "JobContext",
    "JobHandler",
    "JobHooks",
    "JobStoppedError",
    "JobTransaction",
    "LifeCycleHooks",
    "Metrics",
    "Names",
    "NoticeHooks",
    "PresenceChange",
    "Refused",
    "Resource",
    "Retry",
    "Role",
    "Secret",
    "SettingsHooks",
    "Size",
    "Socket",
    "SocketHooks",
    "SocketNamespace",
    "SocketRefused",
    "SomeText",
    "Text",
    "Topic",
    "Transaction",
    "UserId",
    "Viewer",
    "hookimpl",
]

# A text that nobody is shown: neither in `greenroom config show` nor in a mistake.
Secret = Annotated[str, Kind(wanted="a text", read=read_text, show=mask, secret=True)]

hookimpl = pluggy.HookimplMarker(PROJECT)
