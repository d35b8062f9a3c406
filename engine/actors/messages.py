"""What topics tell their subscribers: the messages that the hub carries besides events."""

from typing import Any

import attrs

from engine.domain.event import Event, Offset, Position, Topic
from engine.domain.presence import Meta, Viewer
from engine.runtime.hub import Hub


@attrs.frozen(kw_only=True)
class Subscribed:
    """
    The first message of a subscription: where it begins, and whether nothing was missed before that.
    """

    topic: Topic
    recovered: bool
    position: Position | None
    snapshot: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class PresenceUpdate:
    """
    Who came and went; `viewers` is everyone, for somebody who has just come.
    """

    topic: Topic
    resource_id: str
    total: int
    joined: tuple[Viewer, ...] = ()
    left: tuple[Viewer, ...] = ()
    names: tuple[str, ...] = ()
    viewers: tuple[Viewer, ...] | None = None


Message = Event | Subscribed | PresenceUpdate

# The engine's hub: what it carries, what it knows of present sessions, and how far each topic has got.
Channels = Hub[Message, Meta, Offset]
