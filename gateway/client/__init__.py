"""The Python client of /real-time: it comes back by itself and misses nothing. See docs/client.md."""

from gateway.client.client import Client, connect
from gateway.client.line import Options
from gateway.client.messages import (
    ClientError,
    ClosedError,
    Event,
    Gap,
    Item,
    Position,
    RefusedError,
    State,
    UnreachableError,
    Viewer,
)
from gateway.client.presence import Presence
from gateway.client.subscription import Subscription

__all__ = [
    "Client",
    "ClientError",
    "ClosedError",
    "Event",
    "Gap",
    "Item",
    "Options",
    "Position",
    "Presence",
    "RefusedError",
    "State",
    "Subscription",
    "UnreachableError",
    "Viewer",
    "connect",
]
