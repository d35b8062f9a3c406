"""What is told of events: by their writers; and to subscribers, the messages that the hub carries besides."""

from typing import Any, Protocol

import attrs

from engine.domain.event import CatalogPosition, Event, Offset, Position, Topic
from engine.domain.presence import Meta, Viewer
from engine.runtime.hub import Hub


class Tell(Protocol):
    """
    Somebody who is to hear what was just committed on this node, and keeps nobody waiting.
    """

    def __call__(self, *events: Event) -> None:
        """
        These were, in this order.
        """
        ...


@attrs.frozen(kw_only=True)
class Subscribed:
    """
    The first message of a subscription: where it begins, and whether nothing was missed before that.

    Told again in the middle of one when what its subscribers were owed is no longer there.
    """

    topic: Topic
    recovered: bool
    position: Position | CatalogPosition
    snapshot: dict[str, Any] | None = None


@attrs.frozen
class Listed:
    """
    An event as the catalog tells it, and where those stand who have heard it.
    """

    event: Event
    position: CatalogPosition


@attrs.frozen(kw_only=True)
class Reached:
    """
    The catalog's subscribers have heard everything up to this position; and what of it is beyond.
    """

    topic: Topic
    position: CatalogPosition
    heard: CatalogPosition


@attrs.frozen(kw_only=True)
class PresenceUpdate:
    """
    Who came and went, of bounded size: if it is not `complete`, there is more than it shows.

    A client that is behind is told the latest only; a `version` that does not follow the one before tells
    it that something was left out. `viewers` are the first of everyone, for who has just come or asks.
    """

    topic: Topic
    resource_id: str
    total: int
    version: int
    joined: tuple[Viewer, ...] = ()
    left: tuple[Viewer, ...] = ()
    names: tuple[str, ...] = ()
    complete: bool = True
    viewers: tuple[Viewer, ...] | None = None


Message = Event | Listed | Subscribed | Reached | PresenceUpdate


def event_in(message: Message) -> Event | None:
    """
    The event that a message tells of, if it is one.
    """
    if isinstance(message, Listed):
        return message.event
    return message if isinstance(message, Event) else None


# The engine's hub: what it carries, what it knows of present sessions, and how far each topic has got.
Channels = Hub[Message, Meta, Offset]
